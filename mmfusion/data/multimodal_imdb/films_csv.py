"""Reads IMDB_overview_genres.csv strictly: text exactly as it stands, or an error with its line."""

import csv
import io
import sys
from dataclasses import dataclass

from mmfusion.errors import UserError
from mmfusion.files import check_id

ID, OVERVIEW, GENRE_LIST = "Id", "Overview", "Genre"  # `Genre` repeats the 0/1 columns and is not read


@dataclass(frozen=True)
class Row:
    """One film of the CSV."""

    film: str
    overview: str
    genres: tuple[str, ...]


def parse_films(content: bytes, name: str) -> tuple[tuple[str, ...], list[Row]]:
    """Reads the CSV.

    Args:
        content: the file's bytes, UTF-8 with or without a byte-order mark.
        name: the file's name for messages.

    Returns:
        The genres in the order of their columns, and the films in the order of their rows.

    Raises:
        UserError: names the file and the line that is wrong.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{name}, line {line}: not UTF-8 ({error.reason})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if not header:
            raise UserError(f"{name} is empty")
        for column in (ID, OVERVIEW):
            if column not in header:
                raise UserError(f"{name}: the column {column!r} is missing")
        if len(set(header)) != len(header):
            twice = next(c for c in header if header.count(c) > 1)
            raise UserError(f"{name}: the column {twice!r} is there twice")
        genres = tuple(c for c in header if c not in (ID, OVERVIEW, GENRE_LIST))
        if not genres:
            raise UserError(f"{name}: there is no genre column beside {', '.join(header)}")
        rows, line_of = [], {}
        for cells in reader:
            where = f"{name}, line {reader.line_num}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            row = _row(dict(zip(header, cells, strict=True)), genres, where)
            if row.film in line_of:
                raise UserError(f"{where}: the id {row.film} is in line {line_of[row.film]} already")
            line_of[row.film] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}") from error
    if not rows:
        raise UserError(f"{name} has a header, but no film")
    return genres, rows


def _row(cells: dict[str, str], genres: tuple[str, ...], where: str) -> Row:
    for genre in genres:
        if cells[genre] not in ("0", "1"):
            raise UserError(f"{where}: genre {genre!r} must be 0 or 1, not {cells[genre]!r}")
    return Row(
        film=check_id(cells[ID], where),
        overview=cells[OVERVIEW],
        genres=tuple(genre for genre in genres if cells[genre] == "1"),
    )
