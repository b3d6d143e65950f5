"""What the builders of all data sets share: one record's form, safe ids, and unreadable films."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.data.posters import BadPoster, open_poster
from mmfusion.errors import UserError
from mmfusion.schema import CHANNELS

_LISTED = 10  # bad films named in one message


@dataclasses.dataclass(eq=False)
class FilmsConfig(tfds.core.BuilderConfig):
    """One state of one source of films; its `name` is the key in the cache."""

    genres: tuple[str, ...] = ()
    folder: str = ""  # where the source lies; "" where it is downloaded or made
    skip_bad: bool = False
    films: int = 0  # synthetic only
    seed: int = 0  # synthetic only


def configured(builder: type[tfds.core.DatasetBuilder], config: FilmsConfig, cache: Path):
    """The builder for one configuration; one that the class lists itself goes by its name there."""
    listed = config.name in builder.builder_configs
    return builder(data_dir=cache, config=config.name if listed else config)


def film_features(genres: Iterable[str]) -> tfds.features.FeaturesDict:
    """The record that every builder yields; the poster keeps the bytes of its file."""
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "poster": tfds.features.Image(shape=(None, None, CHANNELS)),
            "overview": tfds.features.Text(),
            "genres": tfds.features.Sequence(tfds.features.ClassLabel(names=list(genres))),
        }
    )


def fingerprint(parts: Iterable[bytes]) -> str:
    """16 hex digits that change when any of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def read_inside(folder: Path, name: str) -> bytes:
    """Reads a file of this folder; a link that leads out of it, or nowhere, counts as missing.

    Raises:
        FileNotFoundError: there is no such file in the folder that can be read.
    """
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path.read_bytes()
    except (OSError, RuntimeError) as error:  # no permission; links in a circle
        raise FileNotFoundError(name) from error
    raise FileNotFoundError(name)


def find_bad_films(films: Iterable[tuple[str, Callable[[], bytes]]]) -> dict[str, str]:
    """Reads every poster once.

    Args:
        films: pairs of an id and a function that returns its poster's bytes.

    Returns:
        Why a film cannot be used, by id; empty when all can.
    """
    bad = {}
    for film, read in films:
        try:
            open_poster(read())
        except FileNotFoundError:
            bad[film] = "poster missing"
        except BadPoster as error:
            bad[film] = str(error)
    return bad


def refuse_bad_films(bad: dict[str, str], skip_bad: bool, total: int) -> None:
    """Stops at bad films unless they are to be skipped and some good ones are left.

    Raises:
        UserError: it names the first films and says what to do.
    """
    if bad and (not skip_bad or len(bad) == total):
        named = "; ".join(f"{film} ({why})" for film, why in list(bad.items())[:_LISTED])
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        advice = "no film is left" if len(bad) == total else "mend them, or drop them with --skip-bad"
        raise UserError(f"{len(bad)} of {total} films cannot be read: {named}{more}; {advice}")
