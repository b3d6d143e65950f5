"""Finds the posters of films: by a path, a file's name, or the id, anywhere below a folder."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from mmfusion.data.posters import NoPoster
from mmfusion.data.records import read_inside
from mmfusion.errors import UserError

IMAGES = "Images"  # a folder of that name may be a link: people keep posters on another disk
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_MOST_FILES = 3_000_000  # below a folder; more is somebody's whole disk
_NUMBER = re.compile(r"(?:tt)?0*(\d+)")


class Pictures:
    """The pictures of a source by name, and what reads them."""

    def __init__(self, names: Iterable[str], read: Callable[[str], bytes], where: Path):
        """
        Args:
            names: paths of files, parted by "/"; those that are no pictures are passed over.
            read: a name -> the file's bytes; raises BadPoster.
            where: their folder or archive.
        """
        self._read = read
        self.where = where
        self.found = Counter()  # how films' posters were found
        paths = (name for name in names if name.casefold().endswith(_ENDINGS))
        # Of several of one name the first: in `Images`, else the least deep.
        self.names = sorted(paths, key=_order)
        self._by_path = {name.casefold(): name for name in reversed(self.names)}
        self._by_name: dict[str, str] = {}
        self._by_stem: dict[str, str] = {}
        self._by_number: dict[str, str | None] = {}
        for name in self.names:
            path = PurePosixPath(name)
            self._by_name.setdefault(path.name.casefold(), name)
            self._by_stem.setdefault(path.stem, name)
            if number := _NUMBER.fullmatch(path.stem):
                first = self._by_number.setdefault(number[1], name)
                if first and PurePosixPath(first).stem != path.stem:
                    self._by_number[number[1]] = None  # two of them: neither is meant for sure

    def find(self, film: str, path: str = "") -> str:
        """Gives the name of a film's poster, "" where there is none.

        Args:
            film: its id.
            path: what its row says of its poster; "" for nothing.
        """
        if path:
            wanted = path.replace("\\", "/").lstrip("/").removeprefix("./").casefold()
            for kind, name in (
                ("path", self._by_path.get(wanted)),
                ("name", self._by_name.get(wanted.rpartition("/")[2])),
            ):
                if name:
                    self.found[kind] += 1
                    return name
        if film in self._by_stem:
            self.found["id"] += 1
            return self._by_stem[film]
        number = _NUMBER.fullmatch(film)
        if number and (name := self._by_number.get(number[1])):
            self.found["number"] += 1
            return name
        return ""

    def read(self, name: str) -> bytes:
        """Reads a picture by the name that `find` gave.

        Raises:
            BadPoster: there is none, or it cannot be read.
        """
        if not name:
            raise NoPoster("poster missing")
        return self._read(name)


def _order(name: str) -> tuple:
    path = PurePosixPath(name)
    return path.parts[0] != IMAGES, len(path.parts), _ENDINGS.index(path.suffix.casefold()), name


def in_folder(folder: Path) -> Pictures:
    """The pictures of a folder and of those below it; hidden ones and links to other folders are left out.

    Raises:
        UserError: it holds too many files to look through.
    """
    root = folder.resolve()
    images = (root / IMAGES).resolve() if (root / IMAGES).is_dir() else None
    names, seen = [], 0
    roots = [(root, "")]
    if images and (root / IMAGES).is_symlink():
        roots.append((images, f"{IMAGES}/"))
    for top, prefix in roots:
        for where, folders, files in os.walk(top):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            seen += len(files)
            if seen > _MOST_FILES:
                raise UserError(
                    f"{folder} holds more than {_MOST_FILES:,} files; name the posters' folder with --data-dir DIR"
                )
            below = Path(where).relative_to(top).as_posix()
            names += [f"{prefix}{'' if below == '.' else f'{below}/'}{name}" for name in files]

    def read(name: str) -> bytes:
        if images and name.startswith(f"{IMAGES}/"):
            return read_inside(images, name.removeprefix(f"{IMAGES}/"))
        return read_inside(root, name)

    return Pictures(names, read, root)


def url_of(cells: Iterable[str]) -> str:
    """Gives the first of these that is an address and no file's name; "" if none is."""
    return next((cell for cell in cells if "://" in cell[:20]), "")
