"""Reads a film's genres from a cell, in any of the usual forms."""

import ast
import json
from collections import Counter
from collections.abc import Sequence

from mmfusion.errors import UserError
from mmfusion.schema import LONGEST_GENRE

# What tables write where a film has no genre.
_NONE = {"", "(no genres listed)", "\\n", "nan", "none", "null", "n/a genre"}
_SEPARATORS = ("|", ";", ",")
_LONGEST_CELL = 10_000  # characters that are read as a list
_MOST = 1000  # genres
_FEW = 20  # films with genres, below which all of them may well be different
_TRUE, _FALSE = {"1", "1.0", "true"}, {"0", "0.0", "false"}
_FORMS = {"|": "parted by |", ";": "parted by semicolons", ",": "parted by commas"}


def truth(cell: str) -> bool | None:
    """Reads 0 or 1, true or false, 1.0; None of anything else."""
    word = cell.strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else None


class GenreColumn:
    """Reads one column with all genres of a film; its form is the same in all cells."""

    def __init__(self, cells: Sequence[str]):
        """
        Args:
            cells: of the column, each different one once is enough.
        """
        filled = [cell for cell in (cell.strip() for cell in cells) if cell.casefold() not in _NONE]
        lists = sum(cell.startswith(("[", "{", "(")) for cell in filled)
        self._separator = ""
        self.form = "one a film"
        if lists * 2 > len(filled):
            self.form = "lists"
        else:
            found = Counter(separator for cell in filled for separator in _SEPARATORS if separator in cell)
            if found:
                self._separator = next(one for one in _SEPARATORS if found[one] == max(found.values()))
                self.form = _FORMS[self._separator]

    def __call__(self, cell: str) -> tuple[str, ...]:
        """Gives the genres of a cell, each once.

        Raises:
            ValueError: it is a list that cannot be read; the message says why.
        """
        cell = cell.strip()
        if cell.casefold() in _NONE:
            return ()
        if cell.startswith(("[", "{", "(")) and self.form == "lists":
            names = _of_list(cell)
        else:
            names = cell.split(self._separator) if self._separator else [cell]
        names = (" ".join(name.split()) for name in names)
        return tuple(dict.fromkeys(name for name in names if name.casefold() not in _NONE))


def _of_list(cell: str) -> list[str]:
    """JSON or Python's literals: texts, or objects with a name."""
    if len(cell) > _LONGEST_CELL:
        raise ValueError(f"a list of more than {_LONGEST_CELL:,} characters")
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(cell)  # of literals alone: nothing is run
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
            raise ValueError("neither a list in JSON nor one in Python") from error
    if isinstance(value, dict):  # one film's genres by a number of theirs, or one genre
        value = [value] if "name" in value else list(value.values())
    if not isinstance(value, list | tuple | set):
        raise ValueError("no list")
    names = [one.get("name") if isinstance(one, dict) else one for one in value]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a list of something else than names")
    return sorted(map(str, names)) if isinstance(value, set) else list(map(str, names))


def check_genres(films: Counter, with_any: int, where: str, examples: Sequence[str]) -> None:
    """Refuses what cannot be genres, such as a column of titles or of numbers.

    Args:
        films: how many have each genre.
        with_any: films that have one.
        where: names the column.
        examples: some of its first rows, for the message.

    Raises:
        UserError: it shows the first rows.
    """
    shown = f"; it begins with {', '.join(examples)}"
    if films and all(_is_number(name) for name in films):
        raise UserError(f"{where} holds numbers, not genres{shown}; name another with --columns genres=COLUMN")
    if with_any >= _FEW and 2 * len(films) > sum(films.values()):
        raise UserError(
            f"{where} has {len(films):,} different values in {with_any:,} films: no genres{shown}; "
            "name another with --columns genres=COLUMN"
        )
    if len(films) > _MOST:
        raise UserError(f"{where} has {len(films):,} different genres, more than {_MOST:,}{shown}")
    for name in films:
        check_name(name, where)


def check_name(genre: str, where: str) -> None:
    """Refuses a genre that cannot be shown in terminals, tables and pictures.

    Raises:
        UserError: its name has other characters than printable ones, or too many.
    """
    shown = repr(genre if len(genre) <= 60 else f"{genre[:60]}...")
    if not genre.strip() or not genre.isprintable():
        raise UserError(f"{where}: the genre {shown} must have a name of printable characters")
    if len(genre) > LONGEST_GENRE:
        raise UserError(f"{where}: the genre {shown} has more than {LONGEST_GENRE} characters")


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
