"""Joins a table by id, and makes a tensor of it: numbers standardised, categories numbered.

A table reaches a model as float32 (N, C, 3), a column each: the number in standard deviations from its mean, the
category's value from 1 (0: another than those of training films), and 1. An empty cell is zeros, and so is every
cell of a film that has no row.
"""

import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from mmfusion.data.preprocessing import MOST_DEVIATIONS, NUMBER, Column
from mmfusion.data.texts import Texts, join
from mmfusion.errors import UserError
from mmfusion.files import read_regular
from mmfusion.schema import LONGEST_GENRE

ID = "Id"
OVERVIEW = "Overview"  # among `overview.columns`, the films' own
_MOST_BYTES = 2**28
_LONGEST = 10_000  # characters of a cell that are read
_CHUNK = 2**15  # films whose cells are read at a time
_LEAST_DEVIATION = 1e-12  # of the mean
_Cells = TypeVar("_Cells", bound=Sequence[str])
_OTHER = "\n"  # stands for all other values of a category; no cell is that


def read_table(file: Path, ids: Sequence[str]) -> tuple[dict[str, Texts], str]:
    """Reads a CSV with a row a film.

    Args:
        file: UTF-8, its first line the columns' names, `Id` one of them.
        ids: N films; rows of others are passed over.

    Returns:
        N cells by column, without white space around them, "" where a cell is empty or a film has no row; and a
        hash of the file.

    Raises:
        UserError: the file cannot be read, has no such column, or has two rows of one film.
    """
    import pandas as pd

    content = read_regular(file.resolve(), _MOST_BYTES)
    try:  # without a header for pandas, which would rename columns and cut longer rows
        frame = pd.read_csv(
            io.BytesIO(content), dtype=str, keep_default_na=False, encoding="utf-8-sig", header=None
        )
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own are such
        raise UserError(f"--table {file} is not a CSV in UTF-8: {str(error).splitlines()[0]}") from error
    frame = frame.fillna("").map(as_cell)
    frame.columns = _names(frame.iloc[0], file)
    frame = frame.iloc[1:]
    frame = frame[frame[ID] != ""]
    twice = frame[ID][frame[ID].duplicated()]
    if len(twice):
        raise UserError(f"--table {file} has two rows of the film {twice.iloc[0]!r}")
    frame = frame.set_index(ID).reindex(list(ids), fill_value="")
    found = {name: Texts.of(frame[name]) for name in frame}
    rows = int((frame != "").any(axis=1).sum())
    print(f"{file.name} says something of {rows:,} of {len(ids):,} films", file=sys.stderr)
    return found, hashlib.sha256(content).hexdigest()[:16]


def as_cell(text: str) -> str:
    """Gives a cell of a film's table as it is read: without white space around it, and not without end."""
    return text.strip()[:_LONGEST]


def _names(header: Sequence[str], file: Path) -> list[str]:
    names = list(header)
    if ID not in names:
        raise UserError(f"--table {file} has no column {ID}; it has {', '.join(map(repr, names[:20]))}")
    for name in names:
        if not name or not name.isprintable() or len(name) > LONGEST_GENRE or names.count(name) > 1:
            raise UserError(f"--table {file}: a column is called {name[:99]!r}; each must have a name of its own")
    return names


def texts_of(columns: Sequence[str], table: Mapping[str, Texts], overviews: Texts) -> Texts:
    """Joins columns' texts to one a film, in the columns' order, a line each.

    Args:
        columns: names in `table`, or "Overview" for the films' own overview; none: that alone.
        table: N cells by column.
        overviews: N texts.

    Raises:
        UserError: there is no such column.
    """
    if not columns:
        return overviews
    return join([overviews if name == OVERVIEW else _column(name, table, "overview.columns") for name in columns])


def fit_columns(
    names: Sequence[str], table: Mapping[str, Sequence[str]], rows: np.ndarray, most: int
) -> tuple[Column, ...]:
    """Settles how columns are read, from the training films.

    A column is one of numbers if all its cells there are, else one of categories.

    Args:
        names: of columns; none: all of the table.
        table: N cells by column.
        rows: of the training films.
        most: values of a category that are told apart, the most frequent.

    Raises:
        UserError: there is no such column, or no training film has anything in it.
    """
    if not table:
        raise UserError("these films have no table; name one with --table FILE")
    columns = []
    for name in names or table:
        cells = [cell for cell in np.array(_column(name, table, "table.columns"), object)[rows] if cell]
        if not cells:
            raise UserError(f"table.columns: no training film has anything in the column {name!r}")
        if _are_numbers(cells).all():
            numbers = np.array(cells, np.float64)
            mean, deviation = float(numbers.mean()), float(numbers.std())
            varies = deviation > _LEAST_DEVIATION * max(1.0, abs(mean))  # else it is what rounding leaves
            columns.append(Column(name=name, mean=mean, deviation=deviation if varies else 1.0))
        else:
            lookup = keras.layers.StringLookup(max_tokens=most + 1, oov_token=_OTHER)
            lookup.adapt(tf.constant(cells))
            columns.append(Column(name=name, values=tuple(lookup.get_vocabulary()[1:])))
    return tuple(columns)


def encode_table(table: Mapping[str, Sequence[str]], columns: Sequence[Column]) -> np.ndarray:
    """Gives N films' columns as models read them: float32 (N, C, 3).

    Raises:
        UserError: the films have no such column.
    """
    cells = [_column(column.name, table, "the run's columns") for column in columns]
    chunks = [slice(start, start + _CHUNK) for start in range(0, max(1, len(cells[0])), _CHUNK)]
    for column, of in zip(columns, cells):
        if column.values is None and (odd := [cell for chunk in chunks for cell in _no_numbers(of[chunk])]):
            print(
                f"{column.name}: {len(odd)} cells are no numbers and count as empty, as {odd[0]!r}", file=sys.stderr
            )
    encode = EncodeTable(columns)
    return np.concatenate(
        [encode(tf.transpose(tf.constant([of[chunk] for of in cells], tf.string))).numpy() for chunk in chunks]
    )


class EncodeTable(tf.Module):
    """Cells as texts, string (B, C), "" for an empty one -> float32 (B, C, 3); in a graph too."""

    def __init__(self, columns: Sequence[Column]):
        super().__init__()
        self.readers = [_Category(column) if column.values else _Number(column) for column in columns]

    def __call__(self, cells: tf.Tensor) -> tf.Tensor:
        return tf.stack([reader(cells[:, place]) for place, reader in enumerate(self.readers)], axis=1)


class _Category(tf.Module):
    def __init__(self, column: Column):
        super().__init__()
        self.lookup = keras.layers.StringLookup(vocabulary=list(column.values or ()), oov_token=_OTHER)

    def __call__(self, cells):
        value = tf.cast(self.lookup(cells), tf.float32)  # 0: none of these values
        there = tf.cast(cells != "", tf.float32)
        return tf.stack([tf.zeros_like(there), value * there, there], axis=1)  # (B, 3)


class _Number(tf.Module):
    def __init__(self, column: Column):
        super().__init__()
        self._mean, self._deviation = column.mean, column.deviation

    def __call__(self, cells):
        is_number = tf.strings.regex_full_match(cells, NUMBER)
        number = tf.strings.to_number(tf.where(is_number, cells, "0"), tf.float64)
        deviations = tf.clip_by_value((number - self._mean) / self._deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        there = tf.cast(is_number, tf.float32)
        return tf.stack([tf.cast(deviations, tf.float32) * there, tf.zeros_like(there), there], axis=1)  # (B, 3)


def _no_numbers(cells: Sequence[str]) -> list[str]:
    return [cell for cell, is_one in zip(cells, _are_numbers(cells)) if cell and not is_one]


def _are_numbers(cells: Sequence[str]) -> np.ndarray:
    return tf.strings.regex_full_match(tf.constant(list(cells)), NUMBER).numpy()


def _column(name: str, table: Mapping[str, _Cells], where: str) -> _Cells:
    if name not in table:
        had = ", ".join(map(repr, list(table)[:20])) if table else "no table; name one with --table FILE"
        raise UserError(f"{where}: there is no column {name!r}; the films have {had}")
    return table[name]
