"""Films, prepared once and kept in the cache: from a source's records to arrays."""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
from mmfusion.data.posters import BadPoster, decode_poster, shown_poster
from mmfusion.data.records import FilmRecord, FilmsBuilder, refuse_bad_films
from mmfusion.data.splits import HASH, content_hash, duplicate_groups
from mmfusion.data.table import read_table, texts_of
from mmfusion.errors import UserError, first_line
from mmfusion.files import make_folder, move_into_place, one_at_a_time, write_atomically
from mmfusion.network import why_unreachable
from mmfusion.schema import CHANNELS, TABLE

_DOWNLOAD_ERRORS = (tfds.download.DownloadError, NonMatchingChecksumError, ExtractError, RequestException)
POSTERS_IN_MEMORY = 2**29  # bytes; a larger cache stays on disk and is read as films are needed
_WINDOW = 512  # films whose encoded posters are in memory at a time while they are prepared
_HELD = 2**28  # bytes of them that may be in memory already when a window is full
_TASK = 32  # films a thread decodes before it looks for more
_FORM = 2  # of the files in a prepared folder; another form is another folder


@dataclass(frozen=True)
class Films:
    """All films of a data set, in the order of their source."""

    dataset: str
    fingerprint: str  # of the source's content
    genres: tuple[str, ...]  # G, in the data set's own order
    ids: tuple[str, ...]  # N
    overviews: tuple[str, ...]  # N
    texts: tuple[str, ...]  # N; what is read for an overview: it, or more columns, see `config.OverviewConfig`
    table: dict[str, tuple[str, ...]]  # N cells by column, "" for an empty one
    table_hash: str  # of the file that it was joined from; "" of the films' own
    posters: np.ndarray  # uint8 (N, H, W, 3); above POSTERS_IN_MEMORY a np.memmap of the cache's file
    labels: np.ndarray  # float32 (N, G) multi-hot
    poster_hashes: tuple[str, ...]  # N, see `splits.content_hash`
    groups: np.ndarray  # int (N,); films with the same overview or poster share a number
    official_split: dict[str, list[str]] | None  # ids by split, where the data set has one
    skipped: dict[str, str]  # films left out, and why
    builder: FilmsBuilder  # gives what the arrays leave out: the posters' files
    cache: Path
    folder: Path  # in the cache, of the prepared films
    shown: np.ndarray  # int (N + 1,); where each film's poster begins and ends in the folder's file of that name

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids) -> np.ndarray:
        """Row numbers of these ids, in their order."""
        row_of = {film: row for row, film in enumerate(self.ids)}
        return np.array([row_of[film] for film in ids], np.int64)

    def hashes(self, ids) -> dict[str, list[str]]:
        """The hashes of the poster and of the overview of some films, by id."""
        rows = self.rows(ids)
        return {film: [self.poster_hashes[row], content_hash(self.overviews[row])] for film, row in zip(ids, rows)}

    def poster_files(self) -> Iterator[bytes]:
        """The posters of all films as they came, in the films' order; fewer if some cannot be read any more.

        Raises:
            UserError: the source went away.
        """
        wanted = set(self.ids)
        try:
            for film in self.builder.films(_downloads(self.builder, self.cache)):
                if film.id in wanted:
                    with contextlib.suppress(BadPoster):
                        yield film.read_poster()
        except (OSError, *_DOWNLOAD_ERRORS) as error:
            raise UserError(
                f"the posters of {self.dataset} cannot be read any more: {first_line(error)}"
            ) from error

    def encoded_posters(self, ids) -> dict[str, bytes]:
        """The posters of some films from the cache, as `shown_poster` gives them, by id.

        A film whose poster cannot be read any more is left out.
        """
        found = {}
        with contextlib.suppress(OSError), (self.folder / "shown").open("rb") as file:  # the cache went away
            for film, row in zip(ids, self.rows(ids)):
                start, end = self.shown[row : row + 2]
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
    key = f"{fingerprint}-{poster_size}{'-skip' if data.skip_bad else ''}-{_FORM}"
    folder = cache / "films" / builder.name / key
    if not folder.is_dir():
        _prepare(builder, data, poster_size, folder, cache)
    with np.load(folder / "films.npz", allow_pickle=False) as arrays:
        records = json.loads(arrays["records"].tobytes())
        labels, groups, shown = arrays["labels"], arrays["groups"], arrays["shown"]
    shape = (len(labels), poster_size, poster_size, CHANNELS)
    if math.prod(shape) <= POSTERS_IN_MEMORY:
        posters = np.fromfile(folder / "posters", np.uint8).reshape(shape)
    else:
        posters = np.memmap(folder / "posters", np.uint8, "r", shape=shape)
    return Films(
        dataset=builder.name,
        fingerprint=fingerprint,
        genres=tuple(builder.builder_config.genres),
        ids=tuple(records["ids"]),
        overviews=tuple(records["overviews"]),
        texts=tuple(records["overviews"]),
        table={column: tuple(cells) for column, cells in records.get("table", {}).items()},
        table_hash="",
        posters=posters,
        labels=labels,
        poster_hashes=tuple(records["poster_hashes"]),
        groups=groups,
        official_split=records["official_split"],
        skipped=records["skipped"],
        builder=builder,
        cache=cache,
        folder=folder,
        shown=shown,
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
                _write(builder, data, poster_size, beside, cache)
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


def _write(builder: FilmsBuilder, data: DataConfig, poster_size: int, folder: Path, cache: Path) -> None:
    column = {genre: number for number, genre in enumerate(builder.builder_config.genres)}
    films, keys, bad = [], [], {}  # good films, what tells their duplicates, why others are bad
    ends = [0]  # of their posters in the file that keeps them to be shown
    records = builder.films(_downloads(builder, cache))
    with (
        (folder / "posters").open("wb") as file,
        (folder / "shown").open("wb") as shown_file,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        for window in _windows(records):
            tasks = [window[i : i + _TASK] for i in range(0, len(window), _TASK)]
            for task, (pixels, found) in zip(tasks, pool.map(partial(_decode, poster_size), tasks), strict=True):
                file.write(pixels)
                for film, (digest, shown, why) in zip(task, found, strict=True):
                    if why:
                        bad[film.id] = why
                    else:
                        # Without its reader, which may hold the whole file.
                        films.append(dataclasses.replace(film, read_poster=bytes))
                        keys.append((film.overview.strip(), digest))
                        shown_file.write(shown)
                        ends.append(ends[-1] + len(shown))
        for one in (file, shown_file):
            one.flush()
            os.fsync(one.fileno())
    refuse_bad_films(bad, data.skip_bad, len(films) + len(bad))
    if not films:
        raise UserError(f"{data.data_dir or data.dataset} holds no film")
    if bad:
        total = len(films) + len(bad)
        print(f"{len(bad)} of {total} films are left out; a run's skipped.csv says why", file=sys.stderr)
    labels = np.zeros((len(films), len(column)), np.float32)
    for row, film in enumerate(films):
        labels[row, [column[genre] for genre in film.genres]] = 1
    official = None
    if len(builder.SPLITS) > 1:
        official = {split: sorted(f.id for f in films if f.split == split) for split in builder.SPLITS}
    texts = {
        "ids": [film.id for film in films],
        "overviews": [film.overview for film in films],
        "poster_hashes": [digest.hex()[:HASH] for _, digest in keys],
        "official_split": official,
        "skipped": bad,
    }
    if columns := builder.builder_config.columns:
        texts["table"] = dict(zip(columns, zip(*(film.cells for film in films), strict=True), strict=True))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        records=np.frombuffer(json.dumps(texts).encode(), np.uint8),
        labels=labels,
        groups=duplicate_groups(keys),
        shown=np.array(ends, np.int64),
    )
    write_atomically(folder / "films.npz", buffer.getbuffer())


def _windows(records: Iterable[FilmRecord]) -> Iterator[list[FilmRecord]]:
    window, held = [], 0
    for film in records:
        window.append(film)
        held += film.held
        if len(window) == _WINDOW or held >= _HELD:
            yield window
            window, held = [], 0
    if window:
        yield window


def _decode(size: int, films: list[FilmRecord]) -> tuple[bytes, list[tuple[bytes, bytes, str]]]:
    """The pixels of the good posters among these; of each film its file's hash, what is shown, or why it is bad."""
    pixels, found = [], []
    for film in films:
        try:
            encoded = film.read_poster()
            read, shown = decode_poster(encoded, size), shown_poster(encoded)
            pixels.append(read.tobytes())
            found.append((hashlib.sha256(encoded).digest(), shown, ""))
        except BadPoster as error:
            found.append((b"", b"", str(error)))
    return b"".join(pixels), found
