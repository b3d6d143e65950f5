"""The run folder: every file of a run is named, written and read here, without TensorFlow."""

import contextlib
import csv
import errno
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from mmfusion import config as configs
from mmfusion.config import Config
from mmfusion.data.preprocessing import Preprocessing, TextRules, columns_of_list, columns_to_list
from mmfusion.errors import UserError
from mmfusion.files import (
    HALF_WRITTEN,
    check_id,
    inert,
    is_text,
    move_into_place,
    only_one,
    read_regular,
    write_atomically,
)
from mmfusion.runs.arrays import parse_arrays, write_arrays
from mmfusion.runs.facts import checked_facts
from mmfusion.runs.predictions import Predictions, arrays_of, gates_of, predictions_of, temperature_of
from mmfusion.runs.sealed import SealedFolder, once, sha256
from mmfusion.schema import LONGEST_GENRE, MODALITIES, OVERVIEW, SPLITS

FORMAT = 3  # of a run folder: every later version of the same format reads it

# What a finished run's manifest vouches for: all that its report and its predictions are made from.
SEALED = (
    "config.json",
    "split.json",
    "hashes.npz",
    "genres.json",
    "vocabulary.txt",
    "table.json",
    "skipped.csv",
    "history.csv",
    "model.keras",
    "predictions.npz",
)
_LIST_LIMIT = 2**25  # bytes, of words, epochs and overviews
_SPLIT_LIMIT = 2**26  # bytes, of ids; a million films have 20 MB
_HASHES_LIMIT = 2**28  # bytes; a million films have 16 MB
_OVERVIEW = 10_000  # characters that are kept of one; a picture shows some hundreds
_ARRAYS_LIMIT = 2**32  # bytes; a million films with 25 genres have 200 MB of predictions
_GREATEST = 1e9  # in history.csv: seconds and losses are less
_POSTER_LIMIT = 2**26  # bytes, of the file of one poster

_HASHES = "hashes"  # in hashes.npz; in runs of before there was that file in split.json, beside the splits

_HISTORY = ("epoch", "seconds", *(a + b for a in ("", "val_") for b in ("loss", "precision", "recall")))


class Run(SealedFolder):
    """One run's folder. Reading a file that is not there, or not as it should be, is a `UserError`."""

    sealed = SEALED

    def __init__(self, folder: str | Path):
        super().__init__(folder)
        self.config_file = self.folder / "config.json"
        self.hashes_file = self.folder / "hashes.npz"
        self.history_file = self.folder / "history.csv"
        self.columns_file = self.folder / "table.json"
        self.model_file = self.folder / "model.keras"
        self.state_file = self.folder / "resume.npz"
        self.predictions_file = self.folder / "predictions.npz"
        self.report_file = self.folder / "report.json"
        self.lock_file = self.folder / ".lock"
        self.films_folder = self.folder / "films"
        self.figures_folder = self.folder / "figures"
        self._parts: dict[str, Self] = {}

    @classmethod
    @contextlib.contextmanager
    def create(cls, folder: str | Path) -> Iterator["Run"]:
        """Gives a new run to write into; its folder takes its place, whole, at the end of the block.

        Args:
            folder: must not exist, or be empty.

        Raises:
            UserError: there is something in the folder already, or it cannot be made.
        """
        folder = Path(folder)
        check_free(folder)
        with _cannot_make(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}{HALF_WRITTEN}", dir=folder.parent))
            beside.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        try:
            yield cls(beside)
            with _cannot_make(folder):
                move_into_place(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time trains a run or writes its reports; what a killed one left is removed first.

        Raises:
            UserError: another process does so.
        """
        with only_one(self.lock_file, f"another process is training {self.folder}; wait for it, or stop it"):
            for half_written in self.folder.rglob(f".*{HALF_WRITTEN}*"):
                half_written.unlink()
            for run in (self, *self.parts):
                if run.trained:
                    run.state_file.unlink(missing_ok=True)
            yield
            self.lock_file.unlink(missing_ok=True)  # still held: who comes now finds a run that is trained

    def check_model(self) -> None:
        """Refuses a `model.keras` that is not the one that this run wrote.

        Raises:
            UserError: it names both hashes.
        """
        self.check_sealed(self.model_file, sha256(self.model_file))

    def write_config(self, config: Config, facts: dict) -> None:
        """Writes `config.json`: the configuration, and under "facts" what else was decided."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_json(self.config_file, {"format": FORMAT, **config.used(), "facts": facts})

    @classmethod
    def open(cls, folder: str | Path, *, finished: bool = True) -> Self:
        """An existing run.

        Raises:
            UserError: it is no run folder, or not a finished one where that is asked for.
        """
        run = cls(folder)
        if not run.config_file.is_file():
            raise UserError(f"{run.folder} is not a run folder: it has no config.json")
        if finished and not run.finished:
            raise UserError(f"the run {run.folder} is not finished; go on with --resume {run.folder}")
        run.check_folders()
        return run

    def check_folders(self) -> None:
        """Refuses a run of which a part lies elsewhere: it would be read, or written to, there.

        Raises:
            UserError: it names the link.
        """
        for name in ("films", "figures", "parts", *(f"parts/{name}" for name in MODALITIES)):
            if (self.folder / name).is_symlink():
                raise UserError(f"{self.folder / name} is a link; a run folder holds all its files itself")

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """`report.json` is written last."""
        return self.report_file.is_file()

    @property
    def trained(self) -> bool:
        """Tells if nothing but the report is left to do: the manifest comes after all that is trained."""
        return self.manifest_file.is_file()

    @property
    @once("config.json")
    def config(self) -> Config:
        values = {key: value for key, value in self._decisions.items() if key not in ("facts", "format")}
        if self._decisions.get("format", 1) != FORMAT:
            raise UserError(f"{self.folder} has another format than {FORMAT}, of another version: train it again")
        return configs.from_dict(values, where=str(self.config_file))

    @property
    @once("config.json", "genres.json")
    def facts(self) -> dict:
        """Facts of `config.json` beside the configuration.

        Raises:
            UserError: a fact is unknown, missing or of the wrong type.
        """
        facts = self._decisions.get("facts")
        if not isinstance(facts, dict):
            raise UserError(f"{self.config_file}: the key facts is missing")
        return checked_facts(facts, len(self.genres), self.config_file)

    @property
    @once("config.json")
    def _decisions(self) -> dict:
        return self.read_object(self.config_file)

    def part(self, name: str) -> Self:
        """The run of one part of late fusion, inside this one."""
        return self._parts.setdefault(name, type(self)(self.folder / "parts" / name))

    def copy_part(self, part: "Run", name: str) -> None:
        """Copies a finished run in as a part of late fusion, so that this run needs no other folder."""
        wanted = (*SEALED, "manifest.json", "report.json", "report.md", "films", "figures")

        def others(folder: str, names: list[str]) -> list[str]:
            return [name for name in names if name not in wanted] if Path(folder) == part.folder else []

        try:
            # Links stay links: what they lead to is not this run's, and is refused when it is read.
            shutil.copytree(part.folder, self.part(name).folder, symlinks=True, ignore=others)
        except shutil.Error as error:
            file, _, reason = error.args[0][0]
            raise UserError(f"cannot copy {file} into {self.folder}: {reason}") from error
        except OSError as error:
            raise UserError(f"cannot copy {part.folder} into {self.folder}: {error}") from error

    def copy_training(self, earlier: "Run") -> None:
        """Copies what another run trained, so that training goes on from there."""
        try:
            for file in (earlier.history_file, earlier.model_file, earlier.state_file):
                shutil.copyfile(file, self.folder / file.name)
        except OSError as error:
            raise UserError(f"cannot copy {earlier.folder} into {self.folder}: {error}") from error

    @property
    def parts(self) -> list[Self]:
        """The parts of late fusion; none for the other variants."""
        return [self.part(name) for name in MODALITIES if self.part(name).config_file.is_file()]

    def write_data(
        self,
        split: dict,
        hashes: np.ndarray,
        genres: tuple[str, ...],
        fitted: Preprocessing,
        skipped: dict,
    ) -> None:
        """Writes what was decided from the data before training; `hashes` as the property has them."""
        self.write_json(self.folder / "split.json", split)
        write_arrays(self.hashes_file, {_HASHES: hashes})
        self.write_json(self.folder / "genres.json", list(genres))
        # A word cannot hold white space, so a line each needs no quoting.
        write_atomically(self.folder / "vocabulary.txt", "\n".join(fitted.vocabulary))
        if fitted.columns:
            self.write_json(self.columns_file, columns_to_list(fitted.columns))
        if skipped:
            write_atomically(self.folder / "skipped.csv", _csv(["id", "reason"], skipped.items()))

    @property
    @once("split.json")
    def split(self) -> dict[str, list[str]]:
        """Film ids by split."""
        file = self.folder / "split.json"
        split = {name: films for name, films in self.read_object(file, _SPLIT_LIMIT).items() if name != _HASHES}
        if not set(split) <= set(SPLITS) or not all(isinstance(ids, list) for ids in split.values()):
            raise UserError(f"{file} must hold lists of film ids under {', '.join(SPLITS)}")
        if empty := [name for name, ids in split.items() if not ids]:
            raise UserError(f"{file}: the {empty[0]} split is empty")
        films = [check_id(film, str(file)) for ids in split.values() for film in ids]
        if len(set(films)) < len(films):
            raise UserError(f"{file} names a film twice")
        return split

    @property
    @once("hashes.npz", "split.json")
    def hashes(self) -> np.ndarray | None:
        """The hashes of poster and overview of each film, uint64 (N, 2), 0 for none, in the order of `split`.

        None in a run of before they were kept.

        Raises:
            UserError: they are not such hashes.
        """
        films = [film for ids in self.split.values() for film in ids]
        if self.hashes_file.is_file():
            arrays = parse_arrays(self.read(self.hashes_file, _HASHES_LIMIT), self.hashes_file)
            found = arrays.get(_HASHES)
            if found is None or found.dtype != np.uint64 or found.shape != (len(films), 2):
                raise UserError(f"{self.hashes_file} must hold two hashes for each film")
            return found
        file = self.folder / "split.json"
        hashes = self.read_object(file, _SPLIT_LIMIT).get(_HASHES)
        if hashes is None:
            return None
        try:
            found = [[int(one or "0", 16) for one in hashes[film]] for film in films]
            return np.array(found, np.uint64).reshape(len(films), 2)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{file}: {_HASHES} must hold two hashes for each film") from error

    @property
    @once("genres.json")
    def genres(self) -> tuple[str, ...]:
        file = self.folder / "genres.json"
        genres = self.read_json(file)
        good = isinstance(genres, list) and genres and all(isinstance(g, str) and g.isprintable() for g in genres)
        if not good or len(set(genres)) < len(genres) or max(map(len, genres)) > LONGEST_GENRE:
            raise UserError(f"{file} must be a list of different names that can be printed")
        return tuple(genres)

    @property
    @once("vocabulary.txt", "config.json")
    def vocabulary(self) -> list[str]:
        file = self.folder / "vocabulary.txt"
        words = self.read_text(file, _LIST_LIMIT).split("\n")
        config = self.config
        if OVERVIEW in config.reads and len(words) > (most := config.vocabulary_size):
            raise UserError(f"{file} has {len(words)} words, config.json allows {most}")
        if words[:2] != ["", "[UNK]"] or len(set(words)) < len(words):
            raise UserError(f"{file} must hold an empty line, [UNK], and then different words")
        return words

    @property
    @once("vocabulary.txt", "config.json", "genres.json", "table.json")
    def fitted(self) -> Preprocessing:
        """Preprocessing that was fitted on the training films."""
        columns = ()
        if self.columns_file.is_file():
            columns = columns_of_list(self.read_json(self.columns_file, _LIST_LIMIT), str(self.columns_file))
        return Preprocessing(self.vocabulary, columns, TextRules(**self.facts.get("overview", {})))

    def write_history(self, rows: list[dict]) -> None:
        """Writes all epochs so far; floats keep all their digits, so that `--resume` reads what was."""
        columns = list(rows[0]) if rows else ["epoch"]
        write_atomically(self.history_file, _csv(columns, ([row[c] for c in columns] for row in rows)))

    @property
    @once("history.csv")
    def history(self) -> list[dict[str, float]]:
        """A dict an epoch; empty where nothing was trained (late fusion's history is in its parts)."""
        if not self.history_file.is_file():
            return []
        rows = csv.DictReader(io.StringIO(self.read_text(self.history_file, _LIST_LIMIT)))
        try:
            history = [{k: int(v) if k == "epoch" else float(v) for k, v in row.items()} for row in rows]
            if not set(_HISTORY) <= set(rows.fieldnames or ()):
                raise ValueError(f"it must have the columns {', '.join(_HISTORY)}")
            if [row["epoch"] for row in history] != list(range(1, len(history) + 1)):
                raise ValueError("its epochs must be 1, 2, 3 and so on")
            if not all(abs(value) < _GREATEST for row in history for value in row.values()):
                raise ValueError("a number in it is not one, or is too great")
        except (csv.Error, TypeError, ValueError) as error:
            raise UserError(f"{self.history_file} cannot be read: {error}") from error
        return history

    def write_state(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Writes what training goes on from."""
        write_arrays(self.state_file, arrays)

    def read_state(self) -> dict[str, np.ndarray]:
        """Reads what training goes on from; {} when there is nothing.

        Raises:
            UserError: the file is damaged.
        """
        if not self.state_file.is_file():
            return {}
        try:
            # As large as it is: it is this run's own, three or four times its model.
            return parse_arrays(read_regular(self.state_file, sys.maxsize), self.state_file)
        except UserError as error:
            raise UserError(f"{error}; delete it to train again from the first epoch") from error

    def write_predictions(
        self,
        predictions: dict[str, Predictions],
        temperature: float | None = None,
        gates: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Writes one file for all splits.

        It holds `ids_SPLIT`, `y_true_SPLIT`, `y_prob_SPLIT`, and where there are any `temperature` and
        `gates_SPLIT`.
        """
        write_arrays(self.predictions_file, arrays_of(predictions, temperature, gates or {}))

    @once("predictions.npz", "genres.json", "split.json")
    def predictions(self, split: str) -> Predictions:
        """The validation or test predictions.

        Raises:
            UserError: the file is damaged, holds a pickle, or is of other films or genres than this run.
        """
        return predictions_of(self._arrays, split, len(self.genres), self.split.get(split), self.predictions_file)

    @property
    def temperature(self) -> float | None:
        """Temperature that the model's logits were divided by; None: not fitted.

        Raises:
            UserError: the file is damaged, or holds something else under this name.
        """
        return temperature_of(self._arrays, self.predictions_file)

    def gates(self, split: str) -> np.ndarray | None:
        """Reads how much each modality of each film is trusted, (N, M) from 0 to 1; None without gates.

        Raises:
            UserError: the file is damaged, or holds something else under this name.
        """
        shape = len(self.split.get(split, ())), len(self.facts.get("reads", ()))
        return gates_of(self._arrays, split, shape, self.predictions_file)

    @property
    @once("predictions.npz")
    def _arrays(self) -> Mapping[str, np.ndarray]:
        arrays = parse_arrays(self.read(self.predictions_file, _ARRAYS_LIMIT), self.predictions_file)
        for array in arrays.values():
            array.flags.writeable = False
        return MappingProxyType(arrays)

    @property
    def report(self) -> dict:
        """The run's `report.json`."""
        return self.read_object(self.report_file)

    def write_films(self, posters: dict[str, bytes], overviews: dict[str, str]) -> None:
        """Keeps some films, so that the run folder can show them; b"" stands for a film without poster."""
        overviews = {film: overview[:_OVERVIEW] for film, overview in overviews.items()}
        self.films_folder.mkdir(exist_ok=True)
        for film, poster in posters.items():
            if poster:
                write_atomically(self.films_folder / f"{film}.jpg", poster)
        self.write_json(self.films_folder / "overviews.json", overviews)

    def films(self) -> dict[str, tuple[Callable[[], bytes] | None, str]]:
        """The films that were kept, by id: what reads the poster's file, None without one, and the overview."""
        file = self.folder / "films" / "overviews.json"
        if not file.is_file():
            return {}
        films = {}
        for film, overview in self.read_object(file, _LIST_LIMIT).items():
            poster = self.films_folder / f"{check_id(film, str(file))}.jpg"
            if not is_text(overview):
                raise UserError(f"{file}: the overview of {film} is not a text")
            films[film] = (partial(read_regular, poster, _POSTER_LIMIT) if poster.exists() else None, overview)
        return films


def as_parts(config: Config, runs: Sequence[Run]) -> dict[str, Run]:
    """Finished runs by the part of a variant that each can be: a model of the same modality.

    Args:
        config: of late fusion.
        runs: one for each of its parts, in any order; or none.

    Raises:
        UserError: they are not one of each.
    """
    found = {}
    for run in runs:
        for part in config.parts:
            if not run.config.parts and run.config.reads == (part,):
                found[part] = run
    if runs and len(found) != max(len(runs), len(config.parts)):
        variants = " and ".join(run.config.variant for run in runs)
        raise UserError(
            f"--parts needs a run of {' and one of '.join(config.parts)} alone, not {variants}; "
            "--modalities names others"
        )
    return {part: found[part] for part in config.parts if part in found}


def check_free(folder: Path) -> None:
    """Refuses a folder that something is in.

    Raises:
        UserError: it says so, and what to do.
    """
    if not str(folder).isprintable():
        raise UserError(f"{folder}: the name must have characters that can be printed only")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; name another with --out, or go on with --resume {folder}")


@contextlib.contextmanager
def _cannot_make(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            check_free(folder)
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from error


def _csv(columns, rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([inert(cell) for cell in row] for row in rows)
    return text.getvalue()
