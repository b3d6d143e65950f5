"""Reads a table of films to be predicted, labelled or not, a few at a time: any number of them will do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mmfusion.config import DataConfig
from mmfusion.data.film_table.pictures import Pictures, in_folder
from mmfusion.data.film_table.reading import Rows, TableFile, open_table
from mmfusion.data.film_table.roles import Roles, find_roles
from mmfusion.data.film_table.understanding import RowReader, refuse_addresses
from mmfusion.data.table import OVERVIEW as THE_OVERVIEW
from mmfusion.errors import UserError


@dataclass(frozen=True)
class Unlabelled:
    """A film to be predicted."""

    id: str
    overview: str
    poster: str  # its name among the pictures; "" for none
    cells: Mapping[str, str]  # by column, all of its row


class FilmReader:
    """Reads films of a table; their genres, if it has some, are one more column."""

    def __init__(self, data: DataConfig):
        """
        Args:
            data: the table's file, its columns, and the posters' folder: by default the table's own.

        Raises:
            UserError: it cannot be read, or has no column that could be the id.
        """
        path = Path(data.file)
        self.table: TableFile = open_table(path, encoding=data.encoding, separator=data.separator, name=path.name)
        self.pictures: Pictures = in_folder(Path(data.data_dir) if data.data_dir else path.parent)
        first = next(self.table.read(), None)
        if first is None:
            raise UserError(f"{self.table.name} has a header, but no film")
        self.roles: Roles = find_roles(
            self.table,
            first.lines,
            pa.Table.from_batches([first.cells]),
            data.columns,
            named_by=lambda film: bool(self.pictures.find(film)),
            labelled=False,
        )
        self._row_reader = RowReader(self.roles)
        self.account = (
            f"{path.name}: {len(self.table.columns)} columns; {self.table.form}",
            f"columns: {self.roles.said}; {len(self.pictures.names):,} pictures below {self.pictures.where}",
        )

    def __iter__(self) -> Iterator[Unlabelled]:
        """The films in the order of their rows; a row without an id is passed over.

        Raises:
            UserError: a row is not as it should be.
        """
        for rows in self.table.read():
            yield from self._films(rows)

    def _films(self, rows: Rows) -> Iterator[Unlabelled]:
        refuse_addresses(self.table, rows.cells, self.roles)
        columns = [column.to_pylist() for column in rows.cells.columns]
        names = self.table.columns
        for film, *cells in zip(self._row_reader(rows.cells), *columns, strict=True):
            if film.id:
                poster = self.pictures.find(film.id, film.path)
                yield Unlabelled(film.id, film.overview, poster, dict(zip(names, cells)))


def text_of(film: Unlabelled, columns: tuple[str, ...]) -> str:
    """Gives the text that is read for a film's overview; see `config.OverviewConfig`.

    Raises:
        UserError: there is no such column.
    """
    if not columns:
        return film.overview
    texts = []
    for name in columns:
        if name != THE_OVERVIEW and name not in film.cells:
            raise UserError(f"overview.columns: the films have no column {name!r}")
        texts.append(film.overview if name == THE_OVERVIEW else film.cells[name].strip())
    return "\n".join(filter(None, texts))
