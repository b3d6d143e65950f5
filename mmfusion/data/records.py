"""Shared by the builders of all data sets: one film's form, safe reading, and films that cannot be used."""

import dataclasses
import hashlib
import io
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import tensorflow_datasets as tfds
from PIL import Image

from mmfusion.config import DataConfig
from mmfusion.data.posters import MAX_POSTER_BYTES, BadPoster, NoPoster, open_poster
from mmfusion.errors import UserError
from mmfusion.schema import CHANNELS

MAX_BAD_SHARE = 1 / 3  # of the films; a wrong folder has nearly all
_LISTED = 10  # bad films named in one message


@dataclasses.dataclass(frozen=True)
class FilmRecord:
    """One film of a source, its poster not read yet."""

    id: str
    overview: str
    genres: tuple[str, ...]
    read_poster: Callable[[], bytes]  # raises NoPoster where there is none, BadPoster where it cannot be read
    split: str = "films"
    held: int = 0  # bytes of the poster that its reader keeps in memory
    cells: tuple[str, ...] = ()  # of its table, one for each of the builder's columns
    group: str = ""  # films with the same one stay in one split
    missing: tuple[str, ...] = ()  # texts that were left out of the overview, since they stand for none


@dataclasses.dataclass(eq=False)
class FilmsConfig(tfds.core.BuilderConfig):
    """One state of one source of films; its `name` is the key in the cache."""

    genres: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()  # of the films' own table
    folder: str = ""  # where the source lies; "" where it is downloaded or made
    data: DataConfig | None = None  # the same of a table of films, with what is said of it
    sides: tuple[str, ...] = ()  # of a split that the source has
    films: int = 0  # synthetic only
    seed: int = 0  # synthetic only


class FilmsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A tensorflow-datasets builder that also gives its films one by one.

    `mmfusion.data.films` reads `films` directly into arrays; `tfds.load` writes its own records of them, in which
    a film without a poster has a picture of one black pixel.
    """

    SPLITS: tuple[str, ...] = ("films",)
    published_split: bool = False  # it is that of a paper, and kept as it is, whatever films are on two sides
    builder_config: FilmsConfig
    account: tuple[str, ...] = ()  # lines that say what was read and what it was taken for
    left_out: Mapping[str, str] = MappingProxyType({})  # rows of the source that are no film, and why

    def films(self, dl_manager: tfds.download.DownloadManager) -> Iterator[FilmRecord]:
        """All films of the source, those with a bad poster included, in the source's order.

        Raises:
            UserError: the source is not as it should be.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which films it has")

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "id": tfds.features.Text(),
            "poster": tfds.features.Image(shape=(None, None, CHANNELS)),  # keeps the file's bytes
            "overview": tfds.features.Text(),
            "genres": tfds.features.Sequence(tfds.features.ClassLabel(names=list(self.builder_config.genres))),
        }
        if columns := self.builder_config.columns:
            features["table"] = {column: tfds.features.Text() for column in columns}
        info = self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))
        # Nothing of ours is in tensorflow-datasets' bucket, and looking there leaves an empty folder in /tmp.
        info.initialize_from_bucket = lambda: None
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(dl_manager, split) for split in self.SPLITS}

    def _generate_examples(self, dl_manager, split):
        for film in self.films(dl_manager):
            if film.split != split:
                continue
            try:
                poster = film.read_poster()
                open_poster(poster)
            except NoPoster:
                poster = _one_black_pixel()
            except BadPoster as error:
                raise UserError(f"the film {film.id} cannot be read: {error}") from error
            told = {"id": film.id, "poster": poster, "overview": film.overview, "genres": list(film.genres)}
            if columns := self.builder_config.columns:
                told["table"] = dict(zip(columns, film.cells, strict=True))
            yield film.id, told


def _one_black_pixel() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()


def configured(builder: type[FilmsBuilder], config: FilmsConfig, cache: Path) -> FilmsBuilder:
    """The builder for one configuration; one that the class lists itself goes by its name there."""
    listed = config.name in builder.builder_configs
    return builder(data_dir=cache, config=config.name if listed else config)


def fingerprint(texts: Iterable[bytes], read: Callable[[str], bytes], files: Iterable[str]) -> tuple[str, bool]:
    """16 hex digits that change when a text or a file's content does; a missing file is a content too.

    Args:
        texts: what was read already.
        read: a file's name -> its bytes; raises BadPoster.
        files: the names.

    Returns:
        The digits, and whether every file that is there could be read.
    """
    digest, whole = hashlib.sha256(), True

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    for text in texts:
        add(text)
    for name in files:
        try:
            add(read(name))
        except BadPoster as error:
            add(b"")
            refused = isinstance(error.__cause__, OSError)
            whole = whole and (not refused or isinstance(error, NoPoster))
    return digest.hexdigest()[:16], whole


def read_inside(folder: Path, name: str, limit: int = MAX_POSTER_BYTES, kind: str = "poster") -> bytes:
    """Reads a file of this folder; anything else of that name is refused before it is opened.

    Args:
        folder: resolved; it may lie anywhere.
        name: of the file, without any folder. It may be a link to another file of the folder.
        limit: the greatest number of bytes.
        kind: what the file is, for the message.

    Raises:
        BadPoster: there is no such file, it cannot be read, its link leads out of the folder, it is
            something else than a file (to read a pipe would wait for ever), or it is larger than `limit`.
    """
    path = folder / name
    try:
        if path.is_symlink():
            path = path.resolve()
        if not path.is_relative_to(folder):
            raise BadPoster("its link leads out of the folder")
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise BadPoster(f"{kind} is not a file")
        if found.st_size > limit:
            raise BadPoster(too_large(limit))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NoPoster(f"{kind} missing") from error
    except OSError as error:  # no permission, a name too long
        raise BadPoster(f"{kind} cannot be read: {error.strerror}") from error
    except (ValueError, RuntimeError) as error:  # a NUL; links in a circle
        raise BadPoster(f"{kind} missing") from error


def too_large(limit: int) -> str:
    """Why a file of more than `limit` bytes is refused."""
    return f"more than {limit // 2**20} MiB"


def refuse_bad_films(bad: Mapping[str, str], skip_bad: bool, total: int) -> None:
    """Stops at bad films unless they are to be skipped and most films are good.

    Args:
        bad: why a film cannot be used, by id.
        skip_bad: whether the user asked to drop them.
        total: how many films there are, good and bad.

    Raises:
        UserError: it names the first films and says what to do.
    """
    too_many = len(bad) > MAX_BAD_SHARE * total
    if bad and (too_many or not skip_bad):
        if len(bad) == total:
            advice = "no film is left"
        elif too_many:
            advice = (
                f"{len(bad) / total:.0%} is more than the third that --skip-bad may drop: the folder looks wrong"
            )
        else:
            advice = "mend them, or drop them with --skip-bad"
        raise UserError(f"{len(bad)} of {total} films cannot be read: {_named(bad)}; {advice}")


def refuse_left_out(left_out: Mapping[str, str], total: int, placeholders: int = 0) -> None:
    """Stops where so much of a source is no film that it must be the wrong one, or be read the wrong way.

    Args:
        left_out: why a row is no film, or a film has nothing to be read.
        total: how many rows and films there are, these included.
        placeholders: texts and pictures that counted as missing; films that have nothing else are no wonder.

    Raises:
        UserError: it names the first ones.
    """
    if len(left_out) - placeholders > MAX_BAD_SHARE * total:
        raise UserError(
            f"{len(left_out)} of {total} films are left out, more than a third: {_named(left_out)}; "
            "look at the table and at the folder of posters"
        )


def _named(films: Mapping[str, str]) -> str:
    more = f"; and {len(films) - _LISTED} more" if len(films) > _LISTED else ""
    return "; ".join(f"{film} ({why})" for film, why in list(films.items())[:_LISTED]) + more
