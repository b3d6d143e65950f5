"""Tables of films for tests: from bytes to what was understood."""

import tempfile
from pathlib import Path

from mmfusion.config.sections import RolesConfig
from mmfusion.data.film_table.pictures import Pictures
from mmfusion.data.film_table.reading import open_table
from mmfusion.data.film_table.understanding import Film, Understood, understand
from mmfusion.data.posters import NoPoster


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
