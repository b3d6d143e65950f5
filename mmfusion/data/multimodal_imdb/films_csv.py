"""Reads IMDB_overview_genres.csv strictly: text exactly as it stands, or an error with its line."""

import csv
import io
import re
import sys
from dataclasses import dataclass

from mmfusion.errors import UserError
from mmfusion.files import check_id
from mmfusion.schema import LONGEST_GENRE

ID, OVERVIEW, GENRE_LIST = "Id", "Overview", "Genre"  # `Genre` repeats the 0/1 columns and is not read
_SHOWN = 60  # characters of a wrong cell in a message


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
        UserError: names the file and the line that is wrong; of a row of several lines, the first.
    """
    csv.field_size_limit(sys.maxsize)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(re.findall(rb"\r\n?|\n", content[: error.start])) + 1
        raise UserError(f"{name}, line {line}: not UTF-8 ({error.reason})") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    end = 0  # the line where the last row ended: the next begins after it, and may have several
    try:
        header = next(reader, None)
        if not header:
            raise UserError(f"{name} is empty")
        genres = _genres(header, name)
        rows, line_of = [], {}
        end = reader.line_num
        for cells in reader:
            line, end = end + 1, reader.line_num
            where = f"{name}, line {line}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            row = _row(dict(zip(header, cells, strict=True)), genres, where)
            if row.film in line_of:
                raise UserError(f"{where}: the id {row.film} is in line {line_of[row.film]} already")
            line_of[row.film] = line
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"{name}, line {end + 1}: {error}") from error
    if not rows:
        raise UserError(f"{name} has a header, but no film")
    return genres, rows


def _genres(header: list[str], name: str) -> tuple[str, ...]:
    for column in (ID, OVERVIEW):
        if column not in header:
            raise UserError(f"{name}: the column {column!r} is missing")
    if len(set(header)) != len(header):
        twice = next(c for c in header if header.count(c) > 1)
        raise UserError(f"{name}: the column {_brief(twice)} is there twice")
    genres = tuple(c for c in header if c not in (ID, OVERVIEW, GENRE_LIST))
    if not genres:
        raise UserError(f"{name}: there is no genre column beside {', '.join(header)}")
    for genre in genres:  # it is shown in terminals, tables and pictures
        if not genre.strip() or not genre.isprintable():
            raise UserError(f"{name}: the genre {_brief(genre)} must have a name of printable characters")
        if len(genre) > LONGEST_GENRE:
            raise UserError(f"{name}: the genre {_brief(genre)} has more than {LONGEST_GENRE} characters")
    return genres


def _row(cells: dict[str, str], genres: tuple[str, ...], where: str) -> Row:
    for genre in genres:
        if cells[genre] not in ("0", "1"):
            raise UserError(f"{where}: genre {genre!r} must be 0 or 1, not {_brief(cells[genre])}")
    return Row(
        film=check_id(cells[ID], where),
        overview=cells[OVERVIEW],
        genres=tuple(genre for genre in genres if cells[genre] == "1"),
    )


def _brief(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
