"""Tables of films for tests: from bytes to what was understood."""

import csv
import io
import tempfile
from pathlib import Path

from mmfusion.config.sections import RolesConfig
from mmfusion.data.film_table.pictures import Pictures
from mmfusion.data.film_table.reading import open_table
from mmfusion.data.film_table.understanding import Film, Understood, understand
from mmfusion.data.posters import NoPoster

OVERVIEWS = ("Zwei Schwestern erben einen Leuchtturm – für immer.", "Ein Dieb, ein Café; und Züge.", "Nebel.")
GENRES = (("Drama", "War"), ("Comedy",), ())
PIPED = ("Drama|War", "Comedy", "")  # the same in cells


def no_picture(name: str) -> bytes:
    raise NoPoster(name)


def understood(
    content: bytes, name: str = "films.csv", pictures=(), form=None, *, is_sure=True, **named
) -> Understood:
    """What is understood of a table with this content.

    Args:
        content: of the file.
        name: of the file, whose ending says what it is.
        pictures: names of files that lie below its folder.
        form: `encoding` and `separator`, where they are named.
        is_sure: whether the folder was named for the posters.
        named: what is said of its columns.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        table = open_table(path, name=name, **(form or {}))
        found = understand(
            table, RolesConfig(**named), Pictures(pictures, no_picture, Path("FOLDER")), is_sure=is_sure
        )
        list(found.films())
        return found


def films_in(content: bytes, name: str = "films.csv", **named) -> tuple[tuple[str, ...], list[Film]]:
    """The genres and the films of a table with this content."""
    found = understood(content, name, **named)
    return found.genres, list(found.films())


def table(genres, header=("id", "overview", "genres"), ids=("1", "2", "3"), **form) -> str:
    """A CSV of three films with these cells of genres."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", **form)
    writer.writerow(header)
    writer.writerows(zip(ids, OVERVIEWS, genres))
    return out.getvalue()


def read(content, name="films.csv", **named):
    """The genres, and each film's id, overview and genres."""
    content = content.encode() if isinstance(content, str) else content
    genres, films = films_in(content, name, **named)
    return genres, [(film.id, film.overview, film.genres) for film in films]


def expected():
    """Reads three films with the genres of `GENRES`."""
    return ("Comedy", "Drama", "War"), list(zip(("1", "2", "3"), OVERVIEWS, GENRES))
