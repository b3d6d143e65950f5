"""Understands a table of films: what its columns are, which genres there are, and each film's poster."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mmfusion.config.sections import NO_COLUMN, RolesConfig
from mmfusion.data.film_table.genres import check_genres, check_name, say_alike, truth
from mmfusion.data.film_table.pictures import Pictures, url_of
from mmfusion.data.film_table.reading import TableFile, read_whole
from mmfusion.data.film_table.roles import Roles, as_id, find_roles
from mmfusion.data.placeholders import is_listed
from mmfusion.data.records import FilmRecord
from mmfusion.data.table import as_cell
from mmfusion.errors import UserError
from mmfusion.files import check_id
from mmfusion.schema import SIDES, SPLITS

_FEW_FOUND = 0.05  # of the films that should have a poster: with fewer the folder is taken for a wrong one
_BATCH = 10_000
_SHOWN = 60  # characters of a cell in a message


@dataclass(frozen=True)
class Film:
    """One row of a table of films."""

    id: str
    overview: str
    missing: tuple[str, ...]  # texts that stand for none, where an overview is joined of several columns
    path: str  # what the row says of its poster
    genres: tuple[str, ...]
    split: str  # "" for none
    group: str
    cells: tuple[str, ...]  # of the columns that have no other role


@dataclass(frozen=True)
class Understood:
    """A table of films, and what its columns were taken for."""

    genres: tuple[str, ...]
    id_column: str
    columns: tuple[str, ...]  # of the films' own table
    sides: tuple[str, ...]  # of a split that the table has; () for none
    account: tuple[str, ...]  # lines that say what was read
    left_out: Mapping[str, str]  # rows that are no film, and why
    posters: tuple[str, ...]  # each film's, by its name among the pictures; "" for none
    films: Callable[[], Iterator[Film]]
    pictures: Pictures

    def records(self) -> Iterator[FilmRecord]:
        """The films, their posters not read yet."""
        for film, name in zip(self.films(), self.posters, strict=True):
            yield FilmRecord(
                id=film.id,
                overview=film.overview,
                missing=film.missing,
                genres=film.genres,
                read_poster=functools.partial(self.pictures.read, name),
                split=film.split if self.sides else FilmRecord.split,
                cells=film.cells,
                group=film.group,
            )


def understand(
    table: TableFile,
    named: RolesConfig,
    pictures: Pictures,
    *,
    is_sure: bool = True,
    keep_placeholders: bool = False,
) -> Understood:
    """Reads a table of films with genres.

    Args:
        table: the file.
        named: what the user says of its columns.
        pictures: among which the posters are.
        is_sure: whether the pictures are meant for these films, or only lie where the table does.
        keep_placeholders: whether texts that stand for none are read, in overviews of several columns.

    Raises:
        UserError: it would be misread, or an id is there twice; it shows the first rows.
    """
    lines, cells = read_whole(table)
    named_by = lambda film: bool(pictures.find(film))  # noqa: E731
    roles = find_roles(table, lines, cells, named, named_by=named_by)
    genres = _genres(table, cells, roles)
    reader = RowReader(roles, _genre_reader(roles, table), keep_placeholders=keep_placeholders)
    ids, left_out = _check_ids(table, cells, roles, lines)
    refuse_addresses(table, cells, roles)
    path_of = [""] * len(cells) if roles.poster is None else cells.column(roles.poster).to_pylist()
    paths = [(film, path.strip()) for film, path in zip(ids, path_of) if film]
    posters, found = _posters(table, pictures, paths, is_sure and named.poster != NO_COLUMN)
    account = (
        f"{table.path.name}: {len(cells):,} rows, {len(table.columns)} columns; {table.form}",
        f"columns: {'; '.join(filter(None, (roles.said, say_alike(genres), found)))}",
    )
    columns = tuple(table.columns[place] for place in roles.others)

    def films() -> Iterator[Film]:
        for start in range(0, len(cells), _BATCH):
            yield from (film for film in reader(cells.slice(start, _BATCH)) if film.id)

    sides = _sides(table, cells, roles)
    id_column = table.columns[roles.id]
    return Understood(genres, id_column, columns, sides, account, left_out, posters, films, pictures)


def refuse_addresses(table: TableFile, cells: pa.Table | pa.RecordBatch, roles: Roles) -> None:
    """Refuses posters that would have to be downloaded.

    Raises:
        UserError: it says what to do.
    """
    if roles.poster is None:
        return
    if address := url_of(cells.column(roles.poster).to_pylist()):
        raise UserError(
            f"{table.name}: the column {table.columns[roles.poster]!r} holds addresses, such as "
            f"{address[:_SHOWN]!r}, and nothing is downloaded; put the pictures into a folder, called by the id, "
            f"and add --columns poster={NO_COLUMN}"
        )


def _sides(table: TableFile, cells: pa.Table, roles: Roles) -> tuple[str, ...]:
    """The sides of the table's own split; none where it has none."""
    if roles.split is None:
        return ()
    said = {SIDES.get(cell.strip().casefold(), "") for cell in cells.column(roles.split).unique().to_pylist()}
    for side in ("train", "test"):
        if side not in said:
            raise UserError(
                f"{table.name}: the column {table.columns[roles.split]!r} has no {side} film; mend it, or have a "
                f"split drawn with --columns split={NO_COLUMN}"
            )
    return tuple(side for side in SPLITS if side in said)


class RowReader:
    """Reads rows of a table as films."""

    def __init__(self, roles: Roles, genres_of: Callable | None = None, *, keep_placeholders: bool = False):
        """
        Args:
            roles: of the table's columns.
            genres_of: some rows' cells -> the genres of each; None where they are not wanted.
            keep_placeholders: whether texts that stand for none are joined to others.
        """
        self._roles, self._genres_of = roles, genres_of
        self._is_missing = (lambda text: False) if keep_placeholders else is_listed

    def __call__(self, cells: pa.Table | pa.RecordBatch) -> Iterator[Film]:
        """The films of some rows; one without an id has ""."""
        roles, blank = self._roles, [""] * len(cells)
        column = lambda place: blank if place is None else cells.column(place).to_pylist()  # noqa: E731
        texts = [column(place) for place in roles.overview] or [blank]
        if len(texts) == 1:
            overviews, missing = texts[0], [()] * len(cells)
        else:  # each on its own: "No overview found." below a title is none
            missing = [tuple(filter(self._is_missing, of)) for of in zip(*texts)]
            overviews = ["\n".join(t for t in of if t and t not in none) for of, none in zip(zip(*texts), missing)]
        genres = self._genres_of(cells) if self._genres_of else [()] * len(cells)
        cells_of = [[as_cell(cell) for cell in column(place)] for place in roles.others]
        others = zip(*cells_of) if cells_of else [()] * len(cells)
        rows = zip(column(roles.id), overviews, missing, column(roles.poster), genres, column(roles.split))
        for (film, overview, none, path, of, split), group, other in zip(rows, column(roles.group), others):
            side = SIDES.get(split.strip().casefold(), "")
            yield Film(as_id(film), overview, none, path.strip(), of, side, group.strip(), other)


def _genre_reader(roles: Roles, table: TableFile) -> Callable[[pa.Table], list[tuple[str, ...]]]:
    if roles.genre_columns:
        names = [table.columns[place] for place in roles.genre_columns]

        def of_columns(batch):
            told = [[truth(cell) for cell in batch.column(place).to_pylist()] for place in roles.genre_columns]
            return [tuple(name for name, is_one in zip(names, row) if is_one) for row in zip(*told)]

        return of_columns
    assert roles.genre_list is not None
    assert roles.read_genres is not None
    place, read = roles.genre_list, functools.cache(roles.read_genres)
    return lambda batch: [read(value) for value in batch.column(place).to_pylist()]


def _genres(table: TableFile, cells: pa.Table, roles: Roles) -> tuple[str, ...]:
    """The genres in their order."""
    if roles.genre_columns:
        names = tuple(table.columns[place] for place in roles.genre_columns)
        for name in names:
            check_name(name, table.name)
        return names
    assert roles.genre_list is not None
    assert roles.read_genres is not None
    column = cells.column(roles.genre_list)
    where = f"{table.name}: the column {table.columns[roles.genre_list]!r}"
    films, with_any = Counter(), 0
    for one in column.value_counts().to_pylist():
        try:
            genres = roles.read_genres(one["values"])
        except ValueError as error:
            shown = repr(one["values"][:_SHOWN])
            raise UserError(f"{where} has a cell that is {error}: {shown}") from error
        with_any += one["counts"] * bool(genres)
        films.update(dict.fromkeys(genres, one["counts"]))
    check_genres(films, with_any, where, [repr(cell[:_SHOWN]) for cell in column[:3].to_pylist()])
    if not films:
        raise UserError(f"{where} names no genre")
    return tuple(sorted(films))


def _check_ids(
    table: TableFile, cells: pa.Table, roles: Roles, lines: Sequence[int]
) -> tuple[list[str], dict[str, str]]:
    """Each row's id, "" of a row that is left out for having none, and why these are."""
    ids = [as_id(cell) for cell in cells.column(roles.id).to_pylist()]
    line_of: dict[str, int] = {}
    left_out = {}
    column = table.columns[roles.id]
    for film, line in zip(ids, lines, strict=True):
        where = table.where(line)
        if not film:
            left_out[f"{table.unit} {line}"] = f"no {column}"
            continue
        try:
            check_id(film, where)
        except UserError as error:
            raise UserError(f"{error}; name another column with --columns id=COLUMN") from error
        if film in line_of:
            raise UserError(
                f"{where}: the id {film} is in {table.unit} {line_of[film]} already; a film has one row; "
                "another column can be named with --columns id=COLUMN"
            )
        line_of[film] = line
    if not line_of:
        raise UserError(f"{table.name}: the column {column!r} is empty; name another with --columns id=COLUMN")
    return ids, left_out


def _posters(
    table: TableFile, pictures: Pictures, films: Sequence[tuple[str, str]], is_sure: bool
) -> tuple[tuple[str, ...], str]:
    """Each film's poster, and how they were found; refuses a folder that holds pictures of something else."""
    wanted = sum(bool(path) for _, path in films) or len(films)
    film, path = next((one for one in films if one[1]), films[0])
    looked_for = repr((path or f"{film}.jpg")[:_SHOWN])
    none = ("",) * len(films)
    if not pictures.names:
        return none, f"no picture is below {pictures.where} (looked for {looked_for})"
    found = pictures.find_all(films)
    there = sum(map(bool, found.names))
    if there >= _FEW_FOUND * wanted:
        return found.names, f"posters below {pictures.where}: {found.said}"
    said = (
        f"{there} of {len(films):,} films have a poster below {pictures.where}: looked for {looked_for}, among "
        f"{len(pictures.names):,} pictures such as {pictures.names[0]!r}"
    ) + (found.said and f" ({found.said})")
    if is_sure or path:
        raise UserError(
            f"{table.name}: {said}; name the posters' folder with --data-dir, the column that has their names with "
            f"--columns poster=COLUMN, or read no posters with --columns poster={NO_COLUMN}"
        )
    return none, f"{said}; none is read"
