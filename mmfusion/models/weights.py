"""A model's weights in a `.keras` file: written whole, and read only after their form was checked.

Keras would rebuild a model from the file's own `config.json`, and with it whatever that names. Here a model is
built from the run's configuration, and of the file nothing but numbers is read: no other member of the
archive, no link of its HDF5 file, no compressed, virtual or external data set.
"""

import itertools
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import h5py
import keras
import numpy as np

from mmfusion.errors import UserError, first_line
from mmfusion.files import HALF_WRITTEN, move_into_place, open_regular

_WEIGHTS = "model.weights.h5"
_MEMBERS = {"metadata.json", "config.json", _WEIGHTS}  # of the archive
_MOST_OBJECTS = 10_000  # groups and arrays; ours have some hundreds
_NOT_THE_MODELS = "optimizer"  # the group of what only more training would need


def save_model(model: keras.Model, path: Path) -> None:
    """Saves a model as `.keras`, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    # Keras chooses the format by the name's ending and opens the file itself.
    beside = path.with_name(f".{path.stem}{HALF_WRITTEN}{os.getpid()}{path.suffix}")
    try:
        model.save(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.chmod(0o644)
        move_into_place(beside, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)


def check_weights(model: keras.Model, path: Path) -> None:
    """Refuses a file that does not hold the weights of just this model.

    Args:
        model: with its weights made; they may be those of a graph, which take no memory.
        path: a `.keras` file.

    Raises:
        UserError: the file is damaged, has another form than Keras gives it, or holds weights of other shapes;
            the message names what only the file and what only the model has.
    """
    # Keras keeps no state of random generators.
    wanted = Counter(tuple(w.shape) for w in model.variables if "seed_generator_state" not in w.path)
    found = Counter(_shapes(path))
    if found != wanted:
        raise UserError(
            f"{path} has other weights than config.json, genres.json and vocabulary.txt describe: only the file "
            f"has the shapes {_said(found - wanted)}, only the run {_said(wanted - found)}"
        )


def load_weights(model: keras.Model, path: Path) -> None:
    """Gives a model its weights.

    Args:
        model: with its weights made.
        path: a `.keras` file.

    Raises:
        UserError: see `check_weights`; or a weight is not finite.
    """
    check_weights(model, path)
    try:
        model.load_weights(path)
    except Exception as error:  # whatever Keras and HDF5 find
        raise UserError(f"{path} does not fit the run's config.json: {first_line(error)}") from error
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise UserError(f"{path} is damaged: the weight {weight.path} is not finite")
        if weight.name == "temperature" and not keras.ops.convert_to_numpy(weight) > 0:
            raise UserError(f"{path} is damaged: the weight {weight.path} is not greater than 0")


def _shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes of a model's weights in a file whose form is as it should be."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            _check_archive(archive, os.fstat(file.fileno()).st_size)
            with archive.open(_WEIGHTS) as member, h5py.File(member, "r") as weights:
                datasets = dict(_datasets(weights, "", set()))
                spans = sorted((one.id.get_offset(), one.nbytes) for one in datasets.values() if one.nbytes)
                if any(start + size > after for (start, size), (after, _) in itertools.pairwise(spans)):
                    raise ValueError("its arrays overlap")
                return [d.shape for name, d in datasets.items() if name.split("/")[1] != _NOT_THE_MODELS]
    except UserError:
        raise
    except Exception as error:  # a damaged file makes zipfile and HDF5 raise as they please
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    members = archive.infolist()
    if Counter(one.filename for one in members) != Counter(_MEMBERS):
        raise ValueError(f"it must hold {', '.join(sorted(_MEMBERS))} and nothing else")
    stored = all(one.compress_type == zipfile.ZIP_STORED and one.file_size == one.compress_size for one in members)
    if not stored or sum(one.file_size for one in members) > size:
        raise ValueError("it unpacks to more than it is")
    if damaged := archive.testzip():
        raise ValueError(f"{damaged} is damaged: its checksum is another")


def _datasets(group: h5py.Group, path: str, seen: set) -> Iterator[tuple[str, h5py.Dataset]]:
    """All arrays below a group, by path; every one is plain numbers, and lies in this file."""
    for name in group:
        here = f"{path}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{here} is a link")
        one = group[name]
        place = h5py.h5o.get_info(one.id).addr  # pyright: ignore[reportAttributeAccessIssue]  a module in C
        if place in seen:  # groups can hold each other
            raise ValueError(f"{here} is there twice")
        seen.add(place)
        if len(seen) > _MOST_OBJECTS:
            raise ValueError(f"it has more than {_MOST_OBJECTS:,} groups and arrays")
        if isinstance(one, h5py.Group):
            yield from _datasets(one, here, seen)
        elif isinstance(one, h5py.Dataset):
            plain = one.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS and not one.external
            number = one.dtype == np.float32 or one.dtype.kind in "iu"
            # Keras would read an attribute of an array, and one can be far larger than the file.
            whole = one.id.get_storage_size() == one.nbytes and not h5py.h5a.get_num_attrs(one.id)
            if not (plain and number and whole):
                raise ValueError(f"{here} is not a plain array of numbers")
            yield here, one
        else:
            raise ValueError(f"{here} is neither a group nor an array")


def _said(shapes: Counter) -> str:
    return ", ".join(str(shape) for shape in sorted(shapes)[:4]) + (", …" if len(shapes) > 4 else "") or "none"
