"""Keeps a DataFrame of films as a file, so that a run can name it and go on with it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet

from mmfusion.data.film_table.reading import as_text
from mmfusion.errors import UserError
from mmfusion.files import make_folder, write_atomically

if TYPE_CHECKING:
    import pandas as pd

_TABLES = "tables"  # in the cache


def keep_frame(frame: pd.DataFrame, cache: Path) -> Path:
    """Writes a frame into the cache, called by its content, and gives the file.

    Args:
        frame: a row a film; its index is a column if it has a name.
        cache: where prepared films are kept.

    Raises:
        UserError: a column's name is no text, or the cache cannot be written.
    """
    if frame.index.name is not None:
        frame = frame.reset_index()
    if odd := [column for column in frame.columns if not isinstance(column, str)]:
        raise UserError(f"the frame's column {odd[0]!r} must have a text for its name")
    cells = [pa.array([as_text(cell) for cell in frame[column]], pa.large_string()) for column in frame.columns]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(cells, names=list(frame.columns)), sink)
    content = sink.getvalue().to_pybytes()
    make_folder(cache / _TABLES)
    file = cache / _TABLES / f"frame-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    write_atomically(file, content)
    return file
