"""Finds out which column of a table says what, from its name and its cells."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mmfusion.config.sections import NO_COLUMN, RolesConfig
from mmfusion.data.film_table.genres import GenreColumn, truth
from mmfusion.data.film_table.reading import TableFile
from mmfusion.errors import UserError
from mmfusion.files import is_id
from mmfusion.schema import LONGEST_GENRE, SIDES, SPLITS

# Names that columns commonly have, without case, white space, "_" and "-"; of several that are there the first.
_IDS = ("id", "imdbid", "imdb", "movieid", "filmid", "tconst", "tmdbid", "showid", "itemid")
_OVERVIEWS = ("overview", "plot", "description", "synopsis", "summary", "storyline", "plotsynopsis")
_GENRES = ("genres", "genre", "genrenames", "listedin")
_POSTERS = ("poster", "posterpath", "posterfile", "image", "imagepath", "imagefile", "filename", "img")
_SPLITS = ("split", "set", "fold", "partition", "subset")
_GROUPS = ("group",)
_NAMED = 12  # columns named in a line
_SHOWN = 40  # characters of a cell that is named


@dataclass(frozen=True)
class Roles:
    """Places of a table's columns, by what they say."""

    id: int
    overview: tuple[int, ...]
    genre_list: int | None  # a column with all genres of a film
    read_genres: GenreColumn | None  # its cells
    genre_columns: tuple[int, ...]  # a column of 0 and 1 for each genre; then `genre_list` is not read
    poster: int | None
    split: int | None
    group: int | None
    others: tuple[int, ...]  # a film's table
    said: str  # in a line


def find_roles(
    table: TableFile,
    lines: Sequence[int],
    cells: pa.Table,
    named: RolesConfig,
    *,
    named_by: Callable[[str], bool] = lambda film: False,
    labelled: bool = True,
) -> Roles:
    """Finds out what the columns of a table are.

    Args:
        table: the file.
        lines: where its rows begin.
        cells: its columns as texts; of an unlabelled table the first rows may do.
        named: what the user says of them.
        named_by: tells if there is a poster that is called like an id.
        labelled: whether the films' genres are wanted.

    Raises:
        UserError: a column that is named is not there, or there is none for what is wanted.
    """
    columns = table.columns
    finder = _Finder(table, lines, cells, named)
    said = []
    poster = finder.one(named.poster, "poster", _POSTERS)
    film, why = finder.id(named_by if poster is None else lambda film: False)
    said.append(f"id = {columns[film]}{why}")
    overview = finder.several(named.overview, "overview", _OVERVIEWS)
    said += [f"overview = {' + '.join(columns[place] for place in overview)}"] if overview else ["no overview"]
    split, on_no_side = finder.split()
    group = finder.one(named.group, "group", _GROUPS)
    taken = {film, poster, split, group, *overview}
    listed, many = finder.genres(taken) if labelled else (None, ())
    if many:
        names = _some([columns[place] for place in many])
        said.append(f"genres = the {len(many)} columns of 0 and 1: {names}")
    elif listed is not None:
        said.append(f"genres = {columns[listed]} ({finder.reader(listed).form})")
    for what, place, more in (("poster", poster, ""), ("split", split, on_no_side), ("group", group, "")):
        if place is not None:
            said.append(f"{what} = {columns[place]}{more}")
    taken |= {listed, *many}
    taken |= set(finder.known(_GENRES)) if labelled else set()  # lists that columns repeat, or that say nothing
    others = tuple(p for p, name in enumerate(columns) if p not in taken and _is_name(name))
    if others:
        said.append(f"others: {_some([columns[place] for place in others])}")
    if finder.passed_over:
        said.append("; ".join(finder.passed_over))
    read = finder.reader(listed) if listed is not None else None
    return Roles(film, overview, listed, read, many, poster, split, group, others, ", ".join(said))


def _some(names: Sequence[str]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _plain(name: str) -> str:
    return "".join(name.split()).replace("_", "").replace("-", "").casefold()


def _is_name(name: str) -> bool:
    return bool(name) and name.isprintable() and len(name) <= LONGEST_GENRE


class _Finder:
    def __init__(self, table: TableFile, lines: Sequence[int], cells: pa.Table, named: RolesConfig):
        self.table, self.columns, self.where = table, table.columns, table.name
        self.lines, self.cells, self.named = lines, cells, named
        self.passed_over: list[str] = []  # columns with a known name that are not taken for it

    def place(self, name: str, role: str) -> int:
        """The place of a column that the user names."""
        exact = [p for p, column in enumerate(self.columns) if column == name]
        alike = exact or [p for p, column in enumerate(self.columns) if _plain(column) == _plain(name)]
        if not alike:
            raise UserError(
                f"--columns {role}={name}: {self.where} has no such column; it has {_some(self._shown())}"
            )
        if len(alike) > 1:
            several = " and ".join(repr(self.columns[p]) for p in alike)
            raise UserError(
                f"--columns {role}={name}: {self.where} has {several}; write the one that is meant exactly so"
            )
        return alike[0]

    def one(self, named: str, role: str, known: Sequence[str]) -> int | None:
        """The column that is named, or has a known name."""
        if named:
            return None if named == NO_COLUMN else self.place(named, role)
        return next(iter(self.known(known)), None)

    def several(self, named: Sequence[str], role: str, known: Sequence[str]) -> tuple[int, ...]:
        if list(named) == [NO_COLUMN]:
            return ()
        if named:
            return tuple(self.place(name, role) for name in named)
        return tuple(self.known(known)[:1])

    def id(self, named_by: Callable[[str], bool]) -> tuple[int, str]:
        """The column of ids, and why this one where another could be meant."""
        if self.named.id:
            return self.place(self.named.id, "id"), ""
        candidates = [p for p, column in enumerate(self.columns) if _plain(column) in _IDS]
        if not candidates:
            raise UserError(
                f"{self.where} has no column that could be the id; it has {_some(self._shown())}, and begins with "
                f"{self._first_rows()}; name one with --columns id=COLUMN"
            )
        if len(candidates) == 1:
            return candidates[0], ""
        films = {p: [as_id(cell) for cell in self.cells.column(p)[:1000].to_pylist()] for p in candidates}
        posters = {p: sum(map(named_by, of)) for p, of in films.items()}
        unique = [p for p in candidates if self._is_unique(p)]
        best = max(candidates, key=lambda p: posters[p])
        chosen = best if posters[best] else next(iter(unique), candidates[0])
        first = "the first that is unique" if unique else "the first; none is unique"
        why = "the posters are named by it" if posters[best] else first
        others = ", ".join(self.columns[p] for p in candidates if p != chosen)
        return chosen, f" ({why}; not {others})"

    def split(self) -> tuple[int | None, str]:
        """The column of a split, and what it leaves on no side; those with just the name of one are passed over."""
        named = self.named.split
        places = [self.place(named, "split")] if named and named != NO_COLUMN else []
        for place in places if named else self.known(_SPLITS):
            rows = Counter[str]()
            for one in self.cells.column(place).value_counts().to_pylist():
                rows[one["values"].strip()] += one["counts"]
            sides = {SIDES[cell.casefold()] for cell in rows if cell.casefold() in SIDES}
            others = {cell: count for cell, count in rows.items() if cell.casefold() not in SIDES}
            odd = ", ".join(repr(cell[:_SHOWN]) for cell in sorted(others)[:4] if cell)
            if {"train", "test"} <= sides or (sides and not odd):
                said = f" ({sum(others.values()):,} on no side{odd and f': {odd}'})"
                return place, said if others else ""
            if named:
                raise UserError(
                    f"--columns split={named}: its cells must be of {', '.join(SPLITS)}, not {odd or 'blank'}"
                )
            self.passed_over.append(f"{self.columns[place]} is no split: it {f'has {odd}' if odd else 'is blank'}")
        return None, ""

    def genres(self, taken: set) -> tuple[int | None, tuple[int, ...]]:
        """The column of lists, or the columns of 0 and 1."""
        if list(self.named.genres) == [NO_COLUMN]:
            raise UserError(
                f"--columns genres={NO_COLUMN}: films without genres cannot train or score a model; name a column"
            )
        if self.named.genres:
            places = tuple(self.place(name, "genres") for name in self.named.genres)
            if len(places) == 1 and not self._is_truth(places[0]):
                return places[0], ()
            for place in places:
                self._check_truth(place)
            return None, places
        listed = next(iter(self.known(_GENRES)), None)
        rest = [p for p, name in enumerate(self.columns) if p not in {*taken, listed} and name]
        binary = [p for p in rest if self._is_truth(p)]
        if listed is not None and not (binary and self._names_none(listed)):
            return listed, self._repeated(listed, binary)
        if binary and binary == rest:
            return None, tuple(binary)
        nearly = [p for p in rest if p not in binary and self._is_truth(p, nearly=True)]
        if nearly and len(nearly) + len(binary) == len(rest):
            self._check_truth(nearly[0])
        some = f"; of 0 and 1 are {_some([self.columns[p] for p in binary])}" if binary else ""
        raise UserError(
            f"{self.where} has no column of genres{some}; it has {_some(self._shown())}; name one, or those of 0 "
            "and 1, with --columns genres=COLUMN; films without genres can be predicted"
        )

    @functools.cache  # noqa: B019  it goes with the finder
    def reader(self, listed: int) -> GenreColumn:
        """Gives what reads the cells of a column of lists."""
        return GenreColumn(self.cells.column(listed).unique().to_pylist(), self.columns)

    def _names_none(self, listed: int) -> bool:
        """Tells if a column of lists says nothing of any film."""
        try:
            return not any(map(self.reader(listed), self.cells.column(listed).unique().to_pylist()))
        except ValueError:
            return False

    def _repeated(self, listed: int, binary: list[int]) -> tuple[int, ...]:
        """Of these columns of 0 and 1 those that say the same as the lists, if they say all of it."""
        values = self.cells.column(listed).unique().to_pylist()
        try:
            genres_of = {value: frozenset(self.reader(listed)(value)) for value in values}
        except ValueError:
            return ()
        lists = [genres_of[value] for value in self.cells.column(listed).to_pylist()]
        agreeing = tuple(
            p
            for p in binary
            if all(
                truth(cell) == (self.columns[p] in of)
                for cell, of in zip(self.cells.column(p).to_pylist(), lists, strict=True)
            )
        )
        every = frozenset().union(*genres_of.values())
        return agreeing if every <= {self.columns[p] for p in agreeing} else ()

    def known(self, names: Sequence[str]) -> list[int]:
        """Places of the columns with one of these names, in the names' order."""
        plain = [_plain(column) for column in self.columns]
        return sorted((p for p, name in enumerate(plain) if name in names), key=lambda p: names.index(plain[p]))

    def _is_unique(self, place: int) -> bool:
        cells = [cell for cell in self.cells.column(place).to_pylist() if cell.strip()]
        return len(set(cells)) == len(cells) and all(is_id(as_id(cell)) for cell in cells[:1000])

    def _is_truth(self, place: int, *, nearly: bool = False) -> bool:
        counts = self.cells.column(place).value_counts().to_pylist()
        told = sum(one["counts"] for one in counts if truth(one["values"]) is not None)
        return told == len(self.cells) or (nearly and told > len(self.cells) / 2)

    def _check_truth(self, place: int) -> None:
        for line, cell in zip(self.lines, self.cells.column(place).to_pylist(), strict=True):
            if truth(cell) is None:
                shown = repr(cell if len(cell) <= 60 else f"{cell[:60]}...")
                genre = repr(self.columns[place])
                raise UserError(f"{self.table.where(line)}: genre {genre} must be 0 or 1, not {shown}")

    def _shown(self) -> list[str]:
        return [repr(column[:60]) for column in self.columns]

    def _first_rows(self) -> str:
        rows = list(zip(*(column[:2].to_pylist() for column in self.cells.columns[:6])))
        return " and ".join("(" + ", ".join(repr(cell[:30]) for cell in row) + ")" for row in rows)


def as_id(cell: str) -> str:
    """Gives an id as it was before a program took it for a number: "4000.0" is "4000"."""
    cell = cell.strip()
    whole, point, rest = cell.partition(".")
    return whole if point and whole.isascii() and whole.isdigit() and rest in ("0", "") else cell
