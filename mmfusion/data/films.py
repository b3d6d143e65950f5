"""Films, prepared once and kept in the cache: from a source's records to arrays."""

import contextlib
import dataclasses
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import tensorflow_datasets as tfds
from requests import RequestException  # what tensorflow-datasets downloads with
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError

from mmfusion.config import DATASETS, Config, DataConfig
from mmfusion.config.sections import PixelsConfig
from mmfusion.data import prepared
from mmfusion.data.on_disk import Array
from mmfusion.data.posters import BadPoster
from mmfusion.data.records import FilmsBuilder
from mmfusion.data.table import read_table, texts_of
from mmfusion.data.texts import Texts
from mmfusion.errors import UserError, first_line, printable
from mmfusion.files import make_folder, move_into_place, one_at_a_time
from mmfusion.network import why_unreachable
from mmfusion.schema import TABLE

_told: set[tuple[str, ...]] = set()  # accounts that were printed
_DOWNLOAD_ERRORS = (tfds.download.DownloadError, NonMatchingChecksumError, ExtractError, RequestException)


@dataclass(frozen=True)
class Films:
    """All films of a data set, in the order of their source."""

    dataset: str
    fingerprint: str  # of the source's content
    genres: tuple[str, ...]  # G, in the data set's own order
    ids: Texts  # N
    overviews: Texts  # N
    texts: Texts  # N; what is read for an overview: it, or more columns, see `config.OverviewConfig`
    table: Mapping[str, Texts]  # N cells by column, "" for an empty one
    table_hash: str  # of the file that it was joined from; "" of the films' own
    posters: Array  # uint8 (N, H, W, 3); many stay on disk
    labels: np.ndarray  # uint8 (N, G) multi-hot
    hashes: np.ndarray  # uint64 (N, 2) of poster and overview, see `splits.content_hash`
    groups: np.ndarray  # int (N,); films with the same overview or poster share a number
    official_split: dict[str, list[str]] | None  # ids by split, where the data set has one
    skipped: dict[str, str]  # films and rows of the source that were left out, and why
    account: tuple[str, ...]  # lines that say what the source was taken for, what films have, and who was left out
    placeholders: Mapping[str, list[int]]  # by modality, hashes of what counted as missing as very many had it
    builder: FilmsBuilder  # gives what the arrays leave out: the posters' files
    cache: Path
    folder: Path  # in the cache, of the prepared films
    shown: np.ndarray  # int (N, 2); where each film's poster begins and ends in the folder's file of that name

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids) -> np.ndarray:
        """Row numbers of these ids, in their order."""
        return self.ids.rows(ids)

    def poster_files(self) -> Iterator[bytes]:
        """The posters of all films as they came, in the films' order; fewer if some cannot be read any more.

        That of a film without a poster is b"".

        Raises:
            UserError: the source went away.
        """
        films = zip(self.ids, self.hashes[:, 0] != 0)
        wanted, has_poster = next(films)
        try:
            for film in self.builder.films(_downloads(self.builder, self.cache)):
                if film.id == wanted:
                    with contextlib.suppress(BadPoster):
                        yield film.read_poster() if has_poster else b""
                    wanted, has_poster = next(films, ("", False))
        except (OSError, *_DOWNLOAD_ERRORS) as error:
            raise UserError(
                f"the posters of {self.dataset} cannot be read any more: {first_line(error)}"
            ) from error

    def encoded_posters(self, ids) -> dict[str, bytes]:
        """The posters of some films from the cache, as `shown_poster` gives them, by id; b"" where there is none.

        A film whose poster cannot be read any more is left out.
        """
        found = {}
        with contextlib.suppress(OSError), (self.folder / "shown").open("rb") as file:  # the cache went away
            for film, row in zip(ids, self.rows(ids)):
                start, end = self.shown[row]
                file.seek(start)
                found[film] = file.read(end - start)
        return found


def films_of(config: Config, cache: Path) -> Films:
    """Loads the films of a configuration, with their table and texts joined.

    Raises:
        UserError: see `load_films`; or the table cannot be read, or has not all that is asked for.
    """
    with_table = has_table(config)
    films = load_films(config.data, cache, poster_size=config.poster_size, with_table=with_table)
    table, table_hash = films.table, ""
    if config.table.file and (with_table or config.overview.columns):
        table, table_hash = read_table(Path(config.table.file), films.ids)
    texts = texts_of(config.overview.columns, table, films.overviews)
    return dataclasses.replace(films, table=table, table_hash=table_hash, texts=texts)


def has_table(config: Config) -> bool:
    """Tells if films that are made on the spot get a table, of which other genres come."""
    return TABLE in config.in_batches or bool(config.table.columns)


def load_films(
    data: DataConfig, cache: Path, *, poster_size: int = PixelsConfig().poster_size, with_table: bool = False
) -> Films:
    """The films that this configuration names; prepared the first time, then read from the cache.

    Args:
        data: which films.
        cache: where prepared films are kept.
        poster_size: pixels of a poster's sides.
        with_table: whether films that are made on the spot shall have a table.

    Raises:
        UserError: the source is missing, cannot be read or downloaded, or holds bad films.
    """
    if data.dataset not in DATASETS:
        raise UserError(f"unknown data set {data.dataset!r}; there are: {', '.join(DATASETS)}")
    if data.data_dir and not Path(data.data_dir).is_dir():
        raise UserError(f"--data-dir {data.data_dir}: there is no such folder")
    try:
        make_folder(cache)
    except UserError as error:
        raise UserError(f"{error}; name another for prepared films with --cache-dir") from error
    builder = import_module(DATASETS[data.dataset]).make_builder(data, cache, with_table=with_table)
    fingerprint = f"{builder.builder_config.name}-{builder.version}"
    asked = "-skip" * data.skip_bad + "-keep" * data.keep_placeholders
    key = f"{fingerprint}-{poster_size}{asked}-{prepared.FORM}"
    folder = cache / "films" / builder.name / key
    if not folder.is_dir():
        _prepare(builder, data, poster_size, folder, cache)
    kept = prepared.read(folder, poster_size)
    # What a builder says before its films are read is of this source, not of one with the same content.
    source = kept.pop("source")
    kept["account"] = (*map(printable, builder.account or source), *kept["account"])
    if (told := (fingerprint, *kept["account"])) not in _told:  # once a process, not once a run of a sweep
        _told.add(told)
        print(*kept["account"], sep="\n", file=sys.stderr)
    return Films(
        dataset=builder.name,
        fingerprint=fingerprint,
        genres=tuple(builder.builder_config.genres),
        texts=kept["overviews"],
        table_hash="",
        builder=builder,
        cache=cache,
        folder=folder,
        **kept,
    )


class _Downloads(tfds.download.DownloadManager):
    """Begins no download whose host does not answer: tensorflow-datasets would try for minutes, in silence."""

    def _download(self, resource):
        if why := why_unreachable(resource.url):
            raise tfds.download.DownloadError(f"{urlsplit(resource.url).hostname} cannot be reached: {why}")
        return super()._download(resource)


def _downloads(builder: FilmsBuilder, cache: Path) -> tfds.download.DownloadManager:
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    return _Downloads(download_dir=cache / "downloads", url_infos=builder.url_infos, dataset_name=builder.name)


def _prepare(builder: FilmsBuilder, data: DataConfig, poster_size: int, folder: Path, cache: Path) -> None:
    """Reads the source once and writes what training reads; the folder takes its place whole, at the end."""
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f".{folder.name}.lock")
        with one_at_a_time(lock, "Another process is preparing these films; waiting for it ..."):
            if not folder.is_dir():  # else another process has prepared it meanwhile
                print(f"Preparing {builder.name} in {cache} (once for this content) ...", file=sys.stderr)
                for abandoned in folder.parent.glob(f".{folder.name}~*"):  # by a process that was killed
                    shutil.rmtree(abandoned)
                beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}~", dir=folder.parent))
                records = builder.films(_downloads(builder, cache))
                prepared.write(builder, records, data, poster_size, beside)
                move_into_place(beside, folder)
    except _DOWNLOAD_ERRORS as error:
        reason = textwrap.shorten(str(error), 160)
        raise UserError(
            f"{data.dataset} could not be downloaded ({reason}); fetch the files by hand and name "
            "their folder with --data-dir"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot prepare {data.dataset} in {cache}: {error}; another folder can be named with --cache-dir"
        ) from error
    finally:
        if beside:
            shutil.rmtree(beside, ignore_errors=True)
