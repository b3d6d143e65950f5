"""The folder that prepared films are kept in: written while a source is read once, then mapped into memory.

posters     uint8 (N, H, W, 3)
shown       the posters' files, one after the other, as `shown_poster` gives them
texts.arrow ids, overviews, splits and the cells of a table
films.npz   labels, hashes, groups, where each shown poster begins, and what else is known of the films
"""

import array
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from mmfusion.config import DataConfig
from mmfusion.data.account import account
from mmfusion.data.on_disk import OnDisk
from mmfusion.data.placeholders import account as missing
from mmfusion.data.placeholders import is_listed
from mmfusion.data.posters import BadPoster, NoPoster, decode_poster, shown_poster
from mmfusion.data.records import FilmRecord, FilmsBuilder, refuse_bad_films, refuse_left_out
from mmfusion.data.sieve import Sieve
from mmfusion.data.splits import content_hash, duplicate_groups
from mmfusion.data.texts import TEXT, Texts
from mmfusion.errors import UserError, printable
from mmfusion.files import write_atomically
from mmfusion.schema import CHANNELS

FORM = 4  # of the files in a prepared folder; another form is another folder
POSTERS_IN_MEMORY = 2**29  # bytes; a larger cache stays on disk and is read as films are needed
_WINDOW = 512  # films whose encoded posters are in memory at a time while they are prepared
_HELD = 2**28  # bytes of them that may be in memory already when a window is full
_TASK = 32  # films a thread decodes before it looks for more
_BATCH = 2**14  # films whose texts are in memory at a time
_CELLS = "table/"  # begins a column of cells in the file of texts


def read(folder: Path, poster_size: int) -> dict[str, Any]:
    """Gives what was written, by the names that `Films` has for it.

    Raises:
        OSError: the folder is not whole.
    """
    with np.load(folder / "films.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in ("labels", "hashes", "groups", "shown")}
        about = json.loads(arrays["about"].tobytes())
    texts = pa.ipc.open_file(pa.memory_map(str(folder / "texts.arrow"))).read_all()
    columns = {name: Texts(texts[name]) for name in texts.column_names}
    ids = columns["id"]
    official = None
    if about["splits"]:
        of = np.array(columns["split"], object)
        official = {split: sorted(ids.take(np.flatnonzero(of == split))) for split in about["splits"]}
    shape = (len(ids), poster_size, poster_size, CHANNELS)
    if math.prod(shape) > POSTERS_IN_MEMORY:
        posters = OnDisk(folder / "posters", np.uint8, shape)
    else:
        posters = np.fromfile(folder / "posters", np.uint8).reshape(shape)
    return found | {
        "ids": ids,
        "overviews": columns["overview"],
        "table": {name.removeprefix(_CELLS): of for name, of in columns.items() if name.startswith(_CELLS)},
        "posters": posters,
        "official_split": official,
        "skipped": about["skipped"],
        "source": tuple(about["source"]),
        "account": tuple(about["account"]),
        "placeholders": about["placeholders"],
    }


def write(
    builder: FilmsBuilder, records: Iterable[FilmRecord], data: DataConfig, poster_size: int, folder: Path
) -> None:
    """Writes the films of a source, of which no more than a window is in memory at a time.

    Raises:
        UserError: too many films are bad or have nothing to be read, or none is good.
        OSError: a file cannot be written.
    """
    with (
        (folder / "posters").open("wb") as posters,
        (folder / "shown").open("wb") as shown,
        (folder / "texts.arrow").open("wb") as texts,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        written = _Written(builder, shown, texts, keep_placeholders=data.keep_placeholders)
        for window in _windows(records):
            tasks = [window[i : i + _TASK] for i in range(0, len(window), _TASK)]
            for task, (pixels, found) in zip(tasks, pool.map(partial(_decode, poster_size), tasks), strict=True):
                posters.write(pixels)
                for film, of_poster in zip(task, found, strict=True):
                    written.add(film, *of_poster)
        written.finish()
        for file in (posters, shown, texts):
            file.flush()
            os.fsync(file.fileno())
    _finish(written, builder, data, poster_size, folder)


def _finish(written: "_Written", builder: FilmsBuilder, data: DataConfig, poster_size: int, folder: Path) -> None:
    """Takes out what stands for nothing, and writes what is known once all films were read."""
    bad, left_out, genres = written.bad, dict(builder.left_out), builder.builder_config.genres
    count = len(written.ends) - 1
    total = count + len(bad) + len(left_out)
    refuse_bad_films(bad, data.skip_bad, total)
    sieve = Sieve(
        np.frombuffer(written.keys, np.uint64).reshape(count, 3),
        np.frombuffer(written.has_cells, bool),
        keep_placeholders=data.keep_placeholders,
    )
    left_out |= dict.fromkeys(sieve.rewrite_texts(folder / "texts.arrow"), "neither poster nor overview")
    overviews = written.listed + sieve.overviews
    refuse_left_out(left_out, total, overviews.total() + sum(sieve.pictures))
    if not sieve.kept.any():
        raise UserError(f"{data.data_dir or data.dataset} holds no film")
    sieve.rewrite_posters(folder / "posters", poster_size**2 * CHANNELS)
    keys = sieve.keys[sieve.kept]
    labels = np.frombuffer(written.labels, np.uint8).reshape(count, len(genres))[sieve.kept]
    shown = np.column_stack([written.ends[:-1], written.ends[1:]]).astype(np.int64)[sieve.kept]
    shown[keys[:, 1] == 0] = 0
    hashes, skipped = keys[:, 1::-1], {**left_out, **bad}
    told = [
        *account(genres, labels, hashes != 0, skipped),
        *missing(overviews, sieve.pictures, written.listed_groups),
    ]
    about = {
        "splits": list(builder.SPLITS) if len(builder.SPLITS) > 1 else [],
        "skipped": skipped,
        "source": [printable(line) for line in builder.account],
        "account": [printable(line) for line in told],
        "placeholders": sieve.placeholders,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        labels=labels,
        hashes=hashes,
        groups=duplicate_groups(keys),
        shown=shown,
    )
    write_atomically(folder / "films.npz", buffer.getbuffer())


class _Written:
    """Films that were written so far: bytes and numbers of all, and the texts of the last ones."""

    def __init__(self, builder: FilmsBuilder, shown: BinaryIO, texts: BinaryIO, *, keep_placeholders: bool):
        config = builder.builder_config
        self.bad: dict[str, str] = {}  # why films are bad, by id
        self.labels = bytearray()
        self.keys = array.array("Q")  # hashes of each film's overview, poster and group
        self.has_cells = bytearray()  # whether each film's table says anything
        self.listed: Counter[str] = Counter()  # overviews that are known to stand for none
        self.listed_groups: Counter[str] = Counter()  # the same of groups
        self.ends = array.array("q", [0])  # of the posters in the file that keeps them to be shown
        self._column = {genre: number for number, genre in enumerate(config.genres)}
        self._shown = shown
        self._keep_placeholders = keep_placeholders
        self._texts = [[] for _ in ("id", "overview", "split", *config.columns)]
        names = ("id", "overview", "split", *(f"{_CELLS}{column}" for column in config.columns))
        self._schema = pa.schema([(name, TEXT) for name in names])
        self._writer = pa.ipc.new_file(texts, self._schema)

    def add(self, film: FilmRecord, poster_hash: int, shown: bytes, why: str) -> None:
        """Adds a film, unless there is a reason why it is bad."""
        if why:
            self.bad[film.id] = why
            return
        labels = bytearray(len(self._column))
        for genre in film.genres:
            labels[self._column[genre]] = 1
        self.labels += labels
        overview, group = film.overview, film.group
        self.listed.update(film.missing)
        if not self._keep_placeholders and is_listed(overview):
            self.listed[overview] += 1
            overview = ""
        if not self._keep_placeholders and is_listed(group):
            self.listed_groups[group] += 1
            group = ""
        self.keys.extend((content_hash(overview), poster_hash, content_hash(group)))
        self.has_cells.append(any(map(str.strip, film.cells)))
        self._shown.write(shown)
        self.ends.append(self.ends[-1] + len(shown))
        for column, text in zip(self._texts, (film.id, overview, film.split, *film.cells), strict=True):
            column.append(text)
        if len(self._texts[0]) == _BATCH:
            self._flush()

    def finish(self) -> None:
        """Writes the last texts."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write(pa.record_batch([pa.array(one, TEXT) for one in self._texts], schema=self._schema))
        for column in self._texts:
            column.clear()


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


def _decode(size: int, films: list[FilmRecord]) -> tuple[bytes, list[tuple[int, bytes, str]]]:
    """The pixels of films that are not bad; of each film its poster's hash, what is shown, or why it is bad."""
    pixels, found = [], []
    for film in films:
        try:
            encoded = film.read_poster()
            read, shown = decode_poster(encoded, size), shown_poster(encoded)
            pixels.append(read.tobytes())
            found.append((content_hash(encoded), shown, ""))
        except NoPoster:
            pixels.append(bytes(size * size * CHANNELS))
            found.append((0, b"", ""))
        except BadPoster as error:
            found.append((0, b"", str(error)))
    return b"".join(pixels), found
