"""Reads a table of films to be predicted, labelled or not, a few at a time: any number of them will do."""

import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmfusion.config import DataConfig
from mmfusion.data.film_table.pictures import Pictures, in_folder
from mmfusion.data.film_table.reading import Rows, TableFile, open_table
from mmfusion.data.film_table.roles import Roles, find_roles
from mmfusion.data.film_table.understanding import RowReader, refuse_addresses
from mmfusion.data.placeholders import is_listed
from mmfusion.errors import UserError


@dataclass(frozen=True)
class Unlabelled:
    """A film to be predicted."""

    id: str
    overview: str
    poster: str  # its name among the pictures; "" for none
    cells: Mapping[str, str]  # by column, of its table


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
        self.keeps_placeholders = data.keep_placeholders
        self._row_reader = RowReader(self.roles, keep_placeholders=data.keep_placeholders)
        self.account = (
            f"{path.name}: {len(self.table.columns)} columns; {self.table.form}",
            f"columns: {self.roles.said}; {len(self.pictures.names):,} pictures below {self.pictures.where}",
        )
        self._start()

    def __iter__(self) -> Iterator[Unlabelled]:
        """The films in the order of their rows; a row without an id is passed over.

        Raises:
            UserError: a row is not as it should be.
        """
        self._start()
        for rows in self.table.read():
            yield from self._films(rows)

    def _start(self) -> None:
        self.without_id = 0  # rows that were passed over so far
        self._hashes = array.array("q")  # of the ids so far: 8 bytes each

    @property
    def repeated(self) -> int:
        """Counts the films so far that have the id of one before them."""
        return len(self._hashes) - len(np.unique(np.asarray(self._hashes)))

    def _films(self, rows: Rows) -> Iterator[Unlabelled]:
        refuse_addresses(self.table, rows.cells, self.roles)
        names = [self.table.columns[place] for place in self.roles.others]
        films = [film for film in self._row_reader(rows.cells) if film.id]
        self.without_id += len(rows.cells) - len(films)
        self._hashes.extend(hash(film.id) for film in films)
        posters = self.pictures.find_all([(film.id, film.path) for film in films]).names
        for film, poster in zip(films, posters, strict=True):
            overview = "" if not self.keeps_placeholders and is_listed(film.overview) else film.overview
            yield Unlabelled(film.id, overview, poster, dict(zip(names, film.cells)))
