"""Keeps a DataFrame of films as a file, so that a run can name it and go on with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from mmfusion.data.film_table.reading import as_text
from mmfusion.errors import UserError, first_line
from mmfusion.files import is_text, make_folder, write_atomically

if TYPE_CHECKING:
    import pandas as pd

_TABLES = "tables"  # in the cache


def keep_frame(frame: pd.DataFrame, cache: Path) -> Path:
    """Writes a frame into the cache, called by its content, and gives the file.

    Args:
        frame: a row a film; what has a name of its index is a column.
        cache: where prepared films are kept.

    Raises:
        UserError: a column's name is no text or there twice, a cell is not a whole text, or the cache cannot be
            written.
    """
    if any(name is not None for name in frame.index.names):
        try:
            frame = frame.reset_index()
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the frame's index cannot become a column: {first_line(error)}; rename it, or leave it out with "
                "reset_index(drop=True)"
            ) from error
    if odd := [column for column in frame.columns if not is_text(column)]:
        raise UserError(f"the frame's column {odd[0]!r} must have a text for its name")
    if twice := list(frame.columns[frame.columns.duplicated()]):
        raise UserError(f"the frame's column {twice[0]!r} is there twice; give each a name of its own")
    cells = [_texts(column, frame[column]) for column in frame.columns]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(cells, names=list(frame.columns)), sink)
    content = sink.getvalue().to_pybytes()
    make_folder(cache / _TABLES)
    file = cache / _TABLES / f"frame-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    write_atomically(file, content)
    return file


def _texts(name: str, cells: Iterable) -> pa.Array:
    texts = [as_text(set(cell) if isinstance(cell, frozenset) else cell) for cell in cells]
    try:
        return pa.array(texts, pa.large_string())
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise UserError(f"the frame's column {name!r} holds {half}, half of a character; mend it") from error
