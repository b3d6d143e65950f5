"""What the builders of all data sets share: one record's form, safe ids, and unreadable films."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.data.posters import BadPoster, open_poster
from mmfusion.errors import UserError
from mmfusion.schema import CHANNELS

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
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


def check_id(film: str, where: str) -> str:
    """Returns the id if it can safely be a file's name.

    Raises:
        UserError: it has other characters than letters, digits, '-' and '_', or more than 100.
    """
    if not _SAFE_ID.fullmatch(film):
        raise UserError(f"{where}: the id {film!r} is not made of letters, digits, '-' and '_'")
    return film


def fingerprint(parts: Iterable[bytes]) -> str:
    """16 hex digits that change when any of the parts does."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def read_inside(folder: Path, name: str) -> bytes:
    """Reads a file of this folder; a link that leads out of it counts as missing.

    Raises:
        FileNotFoundError: there is no such file in the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FileNotFoundError(name)
    return path.read_bytes()


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
        raise UserError(f"{len(bad)} of {total} films have no readable poster: {named}{more}; {advice}")
