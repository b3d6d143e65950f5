"""Reads a film's genres from a cell, in any of the usual forms."""

import ast
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from mmfusion.errors import UserError
from mmfusion.schema import LONGEST_GENRE

# What tables write where a film has no genre; the second is a genre if it stands beside others.
_NONE = {"", "(no genres listed)", "\\n", "nan", "none", "null", "n/a genre"}
_NONE_ALONE = {"n/a", "-", "unknown"}
_OPENING = ("[", "{", "(")
_SEPARATORS = ("|", ";", ",")
_LONGEST_CELL = 10_000  # characters that are read as a list
_MOST = 1000  # genres
_FEW = 20  # films with genres, below which most of them may well be different
_LEAST = 5  # the same, if every film has just one
_SHOWN = 3
_TRUE, _FALSE = {"1", "1.0", "true"}, {"0", "0.0", "false"}
_FORMS = {"": "one a film", "|": "parted by |", ";": "parted by semicolons", ",": "parted by commas"}
# A text in quotes, or what has no end, and white space up to the next one.
_TEXT = re.compile(r"""('(?:[^'\\]|\\.?)*+'?|"(?:[^"\\]|\\.?)*+"?)(\s+(?=['"]))?""", re.DOTALL)


def truth(cell: str) -> bool | None:
    """Reads 0 or 1, true or false, 1.0; None of anything else."""
    word = cell.strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else None


class GenreColumn:
    """Reads one column with all genres of a film: lists in brackets, and texts that have one separator."""

    def __init__(self, cells: Sequence[str], columns: Sequence[str] = ()):
        """
        Args:
            cells: of the column, each different one once is enough.
            columns: names of all the table's; what is one of them is a genre, though it may sound like none.
        """
        known = {column.strip().casefold() for column in columns}
        self._none, self._none_alone = {""} | (_NONE - known), _NONE_ALONE - known
        filled = [cell for cell in map(str.strip, cells) if cell.casefold() not in _NONE | _NONE_ALONE]
        plain = [cell for cell in filled if not cell.startswith(_OPENING)]
        found = Counter(separator for cell in plain for separator in _SEPARATORS if separator in cell)
        self._separator = max(_SEPARATORS, key=lambda separator: found[separator]) if found else ""
        lists = ["lists"] if len(plain) < len(filled) else []
        texts = [_FORMS[self._separator]] if plain or not lists else []
        self.form = " or ".join(lists + texts)

    def __call__(self, cell: str) -> tuple[str, ...]:
        """Gives the genres of a cell, each once.

        Raises:
            ValueError: it is a list that cannot be read; the message says why.
        """
        cell = cell.strip()
        if cell.casefold() in self._none:
            return ()
        if cell.startswith(_OPENING):
            names = _of_list(cell)
        else:
            names = cell.split(self._separator) if self._separator else [cell]
        names = (" ".join(name.split()) for name in names)
        names = tuple(dict.fromkeys(name for name in names if name.casefold() not in self._none))
        if len(names) == 1 and names[0].casefold() in self._none_alone:
            return ()
        for name in names:
            if name.startswith((*_OPENING, '"', "'")) or name.endswith(("]", "}", '"')):
                raise ValueError(f"of no known form (the genre {name[:60]!r} would keep a bracket or quote)")
        return names


def _of_list(cell: str) -> list[str]:
    """JSON, Python's literals or NumPy's texts: names, or objects with a name."""
    if len(cell) > _LONGEST_CELL:
        raise ValueError(f"a list of more than {_LONGEST_CELL:,} characters")
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        # NumPy has no commas, ['Drama' 'War'], and Python would join such texts to one.
        parted = _TEXT.sub(lambda text: f"{text[1]}," if text[2] else text[1], cell)
        try:
            value = ast.literal_eval(parted)  # of literals alone: nothing is run
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
    mostly_different = with_any >= _FEW and 2 * len(films) > films.total()
    each_its_own = with_any >= _LEAST and len(films) == films.total() == with_any
    if mostly_different or each_its_own:
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


def say_alike(genres: Sequence[str]) -> str:
    """Says which genres differ in case alone, the first of them; "" if none do."""
    alike = defaultdict(list)
    for genre in genres:
        alike[genre.casefold()].append(genre)
    several = [" and ".join(of) for of in alike.values() if len(of) > 1]
    more = f" and {len(several) - _SHOWN} more" if len(several) > _SHOWN else ""
    return f"genres that differ in case alone stay apart: {', '.join(several[:_SHOWN])}{more}" if several else ""


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True
