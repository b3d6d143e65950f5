"""Reads a table of films as texts: CSV, TSV, JSON lines or Parquet, in the encoding that it has.

CSV is read by Python's own module: pandas fills a row that is cut short, and pyarrow takes the rest of a file for
one cell where a quotation mark is not closed, both without a word.
"""

import codecs
import csv
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet

from mmfusion.data.texts import pc
from mmfusion.errors import UserError, first_line
from mmfusion.files import open_regular

MAX_TABLE_BYTES = 2 * 2**30
MAX_ROWS = 10_000_000
_MOST_COLUMNS = 10_000
_MOST_UNPACKED = 8 * 2**30  # bytes of a Parquet file's columns, as it says itself
_BATCH = 10_000  # rows read at a time
_SAMPLE = 2**16  # bytes or characters by which an encoding without a mark, or a separator, is told
_BLOCK = 2**20
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# How files of gzip, of zip and Excel, of bzip2, xz and zstd begin.
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_WESTERN_RUN = 1.5  # letters that are not ASCII stand alone in Western words; elsewhere whole words are of them
_MOST_OF_A_BATCH = 2**30  # bytes of the texts of `_BATCH` rows
_ENCODINGS = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-16-le": "UTF-16", "cp1252": "Windows-1252"}
_TSV, _JSON, _PARQUET = (".tsv", ".tab"), (".json", ".jsonl", ".ndjson"), (".parquet", ".pq")
NAMES = ("CSV", "TSV", "JSON lines", "Parquet")


@dataclass(frozen=True)
class Rows:
    """Some rows of a table."""

    lines: list[int]  # where each begins in its file, counted from 1; of Parquet the row's number
    cells: pa.RecordBatch  # a column of strings for each of the table's, "" for nothing


@dataclass(frozen=True)
class TableFile:
    """A table of films in a file."""

    path: Path
    name: str  # in messages
    columns: tuple[str, ...]
    form: str  # in words
    read: Callable[[], Iterator[Rows]]  # from the start; raises UserError where a row is not as it should be
    unit: str = "line"  # what a row's number counts

    def where(self, line: int) -> str:
        """Names a row in a message."""
        return f"{self.name}, {self.unit} {line}"


def open_table(path: Path, *, encoding: str = "", separator: str = "", name: str = "") -> TableFile:
    """Finds out how a table is written.

    Args:
        path: of the file; a link is followed.
        encoding: by its name in Python; "" to find it out.
        separator: of a CSV's cells, one character; "" to find it out.
        name: of the file in messages.

    Raises:
        UserError: it cannot be read, is too large, or is no table.
    """
    name = name or str(path)
    kind = path.suffix.casefold()
    if kind in _PARQUET:
        return _parquet(path, name)
    encoding = _encoding(path, name, encoding)
    if kind in _JSON:
        return _json(path, name, encoding)
    return _csv(path, name, encoding, separator, prefers_tab=kind in _TSV)


def is_table(path: Path) -> bool:
    """Tells by its name if a file may be a table of films."""
    return path.suffix.casefold() in (".csv", *_TSV, *_JSON, *_PARQUET) and not path.name.startswith(".")


@contextmanager
def _opened(path: Path, name: str, encoding: str) -> Iterator[IO[str]]:
    with open_regular(path, MAX_TABLE_BYTES) as file:
        text = io.TextIOWrapper(file, encoding=encoding, newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} is not {_said(encoding)} ({error.reason}); name its encoding with --encoding NAME"
            ) from error
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror}") from error
        finally:
            text.detach()


def _said(encoding: str) -> str:
    return _ENCODINGS.get(encoding, encoding)


def _encoding(path: Path, name: str, named: str) -> str:
    """Gives the encoding of a file; one without a mark is UTF-8 if it can be, else Windows-1252."""
    if named:
        try:
            info = codecs.lookup(named)
        except (LookupError, ValueError) as error:
            raise UserError(f"data.encoding: Python knows no encoding {named[:40]!r}") from error
        if not info._is_text_encoding:
            raise UserError(f"data.encoding: {named!r} does not give texts")
        return "utf-8-sig" if info.name == "utf-8" else info.name  # a mark is no part of the first column
    decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
    broken, runs, whole, line, first = 0, 0, 0, 1, 0  # characters, and where the first broken one is
    with open_regular(path, MAX_TABLE_BYTES) as file:
        start = file.read(_SAMPLE)
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        if start.startswith(_PACKED):
            raise UserError(f"{name} is packed, or a spreadsheet; unpack it, or save it as CSV")
        if start[1::2].count(0) > len(start) / 4 and not start[::2].count(0):
            return "utf-16-le"
        block = start
        while True:
            text = decoder.decode(block, final=not block)
            if not text.isascii():
                bad = [place for place, char in enumerate(text) if "\udc80" <= char <= "\udcff"]
                broken += len(bad)
                runs += len(re.findall("[\udc80-\udcff]+", text))
                whole += sum(char > "\x7f" for char in text) - len(bad)
                if bad and not first:
                    first = line + len(re.findall(r"\r\n?|\n", text[: bad[0]]))
            line += len(re.findall(r"\r\n?|\n", text))
            if not block:
                break
            block = file.read(_BLOCK)
    if not broken:
        return "utf-8-sig"
    if whole >= broken:
        raise UserError(
            f"{name}, line {first}: not UTF-8, which the rest of it is; mend it, or name its encoding with "
            "--encoding NAME"
        )
    if broken > _WESTERN_RUN * runs:
        raise UserError(
            f"{name}, line {first}: neither UTF-8 nor a Western text; name its encoding with --encoding NAME, such "
            "as gb18030, shift_jis or cp1251"
        )
    return "cp1252"


def _csv(path: Path, name: str, encoding: str, separator: str, prefers_tab: bool) -> TableFile:
    if separator and (len(separator) != 1 or separator in '"\r\n'):
        raise UserError(f"data.separator must be one character, not {separator[:20]!r}")
    with _opened(path, name, encoding) as file:
        sample = file.read(_SAMPLE)
    separator = separator or _separator(sample, prefers_tab)
    csv.field_size_limit(sys.maxsize)

    def rows() -> Iterator[tuple[int, list[str]]]:
        with _opened(path, name, encoding) as file:
            reader = csv.reader(file, strict=True, delimiter=separator)
            end = 0  # the line where the last row ended: the next begins after it, and may have several
            try:
                for cells in reader:
                    line, end = end + 1, reader.line_num
                    if cells:
                        yield line, cells
            except csv.Error as error:
                raise UserError(f"{name}, line {end + 1}: {error}") from error

    first = next(rows(), None)
    if first is None:
        raise UserError(f"{name} is empty")
    columns = _checked([cell.strip() for cell in first[1]], name)

    def batches() -> Iterator[Rows]:
        for chunk in _chunks(itertools.islice(rows(), 1, None)):
            for line, cells in chunk:
                if len(cells) != len(columns):
                    raise UserError(f"{name}, line {line}: {len(cells)} cells, but the header has {len(columns)}")
            yield _rows(name, columns, [line for line, _ in chunk], zip(*(cells for _, cells in chunk)))

    parted = _SEPARATORS.get(separator, f"{separator!r}")
    return TableFile(path, name, columns, f"{_said(encoding)}, cells parted by {parted}", batches)


def _separator(sample: str, prefers_tab: bool) -> str:
    """Gives the one of which the first rows have most cells, and all the same number."""

    def likely(separator: str) -> tuple:
        reader = csv.reader(io.StringIO(sample, newline=""), delimiter=separator)
        widths = []
        try:
            widths.extend(len(cells) for cells in itertools.islice(reader, 30) if cells)
        except csv.Error:
            return (0.0, 0, False)
        widths = widths[:-1] if len(widths) > 2 else widths  # the last one may be cut
        alike = sum(width == widths[0] for width in widths) / len(widths) if widths and widths[0] > 1 else 0.0
        return (alike, widths[0] if widths else 0, prefers_tab and separator == "\t")

    return max(_SEPARATORS, key=likely)


def _json(path: Path, name: str, encoding: str) -> TableFile:
    """JSON lines; or one list of objects, as many programs write it."""

    def records() -> Iterator[tuple[int, dict]]:
        with _opened(path, name, encoding) as file:
            start = file.read(1)
            while start.isspace():
                start = file.read(1)
            if start == "[":
                found = _parsed(start + file.read(), name, 1)
                yield from enumerate(found, 1)
                return
            rest = itertools.chain([start + file.readline()], file)
            for line, text in enumerate(rest, 1):
                if text.strip():
                    yield line, _parsed(text, name, line)

    names: dict[str, None] = {}
    for line, record in records():
        if not isinstance(record, dict):
            raise UserError(f"{name}, line {line}: not an object with a film's values; each line must be one")
        names |= dict.fromkeys(record)
    if not names:
        raise UserError(f"{name} is empty")
    columns = _checked(list(names), name)

    def batches() -> Iterator[Rows]:
        for chunk in _chunks(records()):
            cells = ([as_text(record.get(column)) for _, record in chunk] for column in columns)
            yield _rows(name, columns, [line for line, _ in chunk], cells)

    return TableFile(path, name, columns, f"JSON in {_said(encoding)}", batches)


def _parsed(text: str, name: str, line: int):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}, line {line}: not valid JSON: {first_line(error)}") from error


def _parquet(path: Path, name: str) -> TableFile:
    with open_regular(path, MAX_TABLE_BYTES):  # a pipe or a device is refused before it is opened by its name
        pass
    with _parquet_file(path, name) as file:
        columns = _checked(list(file.schema_arrow.names), name)
        told = file.metadata
        if told.num_rows > MAX_ROWS:
            raise _too_many(name)
        if sum(told.row_group(group).total_byte_size for group in range(told.num_row_groups)) > _MOST_UNPACKED:
            raise UserError(f"{name} unpacks to more than {_MOST_UNPACKED // 2**30} GiB")
        for field in file.schema_arrow:
            if isinstance(field.type, pa.BaseExtensionType):
                raise UserError(
                    f"{name}: the column {field.name!r} is of the type {field.type}; write it as a text"
                )

    def batches() -> Iterator[Rows]:
        row = 1
        with _parquet_file(path, name) as file:
            for batch in file.iter_batches(_BATCH):
                if sum(map(_bytes, batch.columns)) > _MOST_OF_A_BATCH:
                    raise UserError(f"{name}, row {row} or after it: texts that are too long for a table of films")
                cells = [_texts(column) for column in batch.columns]
                lines = list(range(row, row + len(batch)))
                yield Rows(lines, pa.RecordBatch.from_arrays(cells, names=list(columns)))
                row += len(batch)

    return TableFile(path, name, columns, "Parquet", batches, "row")


@contextmanager
def _parquet_file(path: Path, name: str) -> Iterator[parquet.ParquetFile]:
    try:  # what pandas has written of itself into it is not read
        with parquet.ParquetFile(path, arrow_extensions_enabled=False) as file:
            columns = map(file.schema.column, range(len(file.schema)))
            texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
        # A text that a million rows share is kept once in a file, and in memory only as a dictionary.
        with parquet.ParquetFile(path, arrow_extensions_enabled=False, read_dictionary=texts) as file:
            yield file
    except (UserError, GeneratorExit):
        raise
    except Exception as error:  # on broken input Arrow raises what it pleases, UnicodeDecodeError included
        raise UserError(f"{name} is not Parquet, or damaged: {first_line(error)}") from error


def _bytes(column: pa.Array) -> int:
    """The size of a column once each row has its own text."""
    if pa.types.is_dictionary(column.type):
        return pc.sum(pc.take(pc.binary_length(column.dictionary), column.indices)).as_py() or 0
    if pa.types.is_map(column.type):
        return _bytes(column.keys) + _bytes(column.items)
    if pa.types.is_nested(column.type):
        inside = column.flatten()
        return sum(map(_bytes, inside)) if pa.types.is_struct(column.type) else _bytes(inside)
    return column.nbytes


def _texts(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_string()).fill_null("")
        texts.validate(full=True)  # that they are UTF-8
        return texts
    return pa.array([as_text(cell) for cell in column.to_pylist()], pa.large_string())


def as_text(cell) -> str:
    """Gives a value of JSON or Parquet as a CSV would have it."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, np.ndarray | np.generic):
        cell = cell.tolist()
    if cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if isinstance(cell, set | tuple):
        cell = sorted(map(str, cell)) if isinstance(cell, set) else list(cell)
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _chunks(rows: Iterator) -> Iterator[list]:
    while chunk := list(itertools.islice(rows, _BATCH)):
        yield chunk


def _rows(name: str, columns: tuple[str, ...], lines: list[int], cells) -> Rows:
    try:
        arrays = [pa.array(list(column), pa.large_string()) for column in cells]
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UserError(f"{name}, line {lines[0]} or after it: a text holds {half}, half of a character") from error
    return Rows(lines, pa.RecordBatch.from_arrays(arrays, names=list(columns)))


def read_whole(table: TableFile) -> tuple[list[int], pa.Table]:
    """Reads all rows: where each begins, and a column of strings for each of the table's.

    Raises:
        UserError: a row is not as it should be, there is none, or there are too many.
    """
    lines, batches = [], []
    for rows in table.read():
        lines += rows.lines
        batches.append(rows.cells)
        if len(lines) > MAX_ROWS:
            raise _too_many(table.name)
    if not lines:
        raise UserError(f"{table.name} has a header, but no film")
    return lines, pa.Table.from_batches(batches)


def _too_many(name: str) -> UserError:
    return UserError(f"{name} has more than {MAX_ROWS:,} rows")


def _checked(columns: list[str], name: str) -> tuple[str, ...]:
    if len(columns) > _MOST_COLUMNS:
        raise UserError(f"{name} has more than {_MOST_COLUMNS:,} columns")
    for column in columns:
        if column and columns.count(column) > 1:
            shown = column if len(column) <= 60 else f"{column[:60]}..."
            raise UserError(f"{name}: the column {shown!r} is there twice")
    return tuple(columns)
