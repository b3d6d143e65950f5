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
from mmfusion.data.placeholders import frequent, is_listed
from mmfusion.data.posters import BadPoster, NoPoster, decode_poster, shown_poster
from mmfusion.data.records import FilmRecord, FilmsBuilder, refuse_bad_films, refuse_left_out
from mmfusion.data.splits import content_hash, duplicate_groups
from mmfusion.data.texts import TEXT, Texts, pc
from mmfusion.errors import UserError, printable
from mmfusion.files import write_atomically
from mmfusion.schema import CHANNELS

FORM = 3  # of the files in a prepared folder; another form is another folder
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
        "account": tuple(about["account"]),
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
    bad, left_out = written.bad, dict(builder.left_out)
    count = len(written.ends) - 1
    total = count + len(bad) + len(left_out)
    refuse_bad_films(bad, data.skip_bad, total)
    if not count:
        refuse_left_out(left_out, total)
        raise UserError(f"{data.data_dir or data.dataset} holds no film")
    keys = np.frombuffer(written.keys, np.uint64).reshape(count, 3).copy()  # of overview, poster and group
    labels = np.frombuffer(written.labels, np.uint8).reshape(count, len(builder.builder_config.genres))
    shown_at = np.column_stack([written.ends[:-1], written.ends[1:]]).astype(np.int64)
    placeholders = (
        [np.empty(0, np.uint64)] * 2 if data.keep_placeholders else [frequent(keys[:, i]) for i in (0, 1)]
    )
    no_overview, no_poster = (np.isin(keys[:, i], placeholders[i]) for i in (0, 1))
    pictures = [int((keys[:, 1] == one).sum()) for one in placeholders[1]]
    keys[no_overview, 0] = keys[no_poster, 1] = 0
    kept = keys[:, :2].any(axis=1) | np.frombuffer(written.has_cells, bool)
    rows = _Rows(kept, no_overview, no_poster)
    left_out |= dict.fromkeys(rows.rewrite_texts(folder / "texts.arrow"), "neither poster nor overview")
    refuse_left_out(left_out, total)
    rows.rewrite_posters(folder / "posters", poster_size**2 * CHANNELS)
    keys, labels, shown_at = keys[kept], labels[kept], shown_at[kept]
    shown_at[keys[:, 1] == 0] = 0
    skipped = {**left_out, **bad}
    told = [
        *builder.account,
        *account(builder.builder_config.genres, labels, keys[:, 1::-1] != 0, skipped),
        *missing(written.listed + rows.overviews, pictures),
    ]
    about = {
        "splits": list(builder.SPLITS) if len(builder.SPLITS) > 1 else [],
        "skipped": skipped,
        "account": [printable(line) for line in told],
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
        labels=labels,
        hashes=keys[:, 1::-1],
        groups=duplicate_groups(keys),
        shown=shown_at,
    )
    write_atomically(folder / "films.npz", buffer.getbuffer())


class _Written:
    """What is written of the films so far: bytes and numbers, and the texts of the last ones."""

    def __init__(self, builder: FilmsBuilder, shown: BinaryIO, texts: BinaryIO, *, keep_placeholders: bool):
        config = builder.builder_config
        self.bad: dict[str, str] = {}  # why films are bad, by id
        self.labels = bytearray()
        self.keys = array.array("Q")  # hashes of each film's overview, poster and group
        self.has_cells = bytearray()  # whether each film's table says anything
        self.listed: Counter[str] = Counter()  # overviews that are known to stand for none
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
        overview = film.overview
        if not self._keep_placeholders and is_listed(overview):
            self.listed[overview] += 1
            overview = ""
        self.keys.extend((content_hash(overview), poster_hash, content_hash(film.group)))
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


class _Rows:
    """The rows of what was written, some of which stay and some of which stand for nothing."""

    def __init__(self, kept: np.ndarray, no_overview: np.ndarray, no_poster: np.ndarray):
        """Takes bool (N,) each: which films stay, and of which an overview or a poster is a placeholder."""
        self._kept, self._no_overview, self._no_poster = kept, no_overview, no_poster
        self.overviews: Counter[str] = Counter()  # that are placeholders, once they were rewritten

    def rewrite_texts(self, file: Path) -> list[str]:
        """Writes the texts once more if any of them goes; gives the ids of films that do not stay."""
        gone = []
        if self._kept.all() and not self._no_overview.any():
            return gone
        beside, start = file.with_name("texts.new"), 0
        with pa.memory_map(str(file)) as old, beside.open("wb") as out:
            reader = pa.ipc.open_file(old)
            with pa.ipc.new_file(out, reader.schema) as writer:
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    here = slice(start, start := start + batch.num_rows)
                    kept, none = pa.array(self._kept[here]), pa.array(self._no_overview[here])
                    self.overviews.update(batch["overview"].filter(none).to_pylist())
                    gone += batch["id"].filter(pa.array(~self._kept[here])).to_pylist()
                    place = batch.schema.get_field_index("overview")
                    overviews = pc.if_else(none, pa.scalar("", TEXT), batch["overview"])
                    writer.write(batch.set_column(place, "overview", overviews).filter(kept))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
        return gone

    def rewrite_posters(self, file: Path, size: int) -> None:
        """Does the same to pixels, of so many bytes a film."""
        if self._kept.all() and not self._no_poster.any():
            return
        beside = file.with_name("posters.new")
        with file.open("rb") as old, beside.open("wb") as out:
            for start in range(0, len(self._kept), _BATCH):
                here = slice(start, start + _BATCH)
                pixels = np.frombuffer(old.read(_BATCH * size), np.uint8).reshape(-1, size).copy()
                pixels[self._no_poster[here]] = 0
                out.write(pixels[self._kept[here]].tobytes())
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)


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
