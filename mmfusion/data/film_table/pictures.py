"""Finds the posters of films: by a path, a file's name, or the id, anywhere below a folder."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmfusion.data.posters import NoPoster
from mmfusion.data.records import read_inside
from mmfusion.errors import UserError

IMAGES = "Images"  # a folder of that name may be a link: people keep posters on another disk
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
_MOST_FILES = 3_000_000  # below a folder; more is somebody's whole disk
_NUMBER = re.compile(r"(?:tt)?0*(\d+)")
# A folder with these files was written by a command, and its pictures are figures.
_WRITTEN = (
    {"config.json", "manifest.json"},  # a run
    {"report.json", "report.md"},  # an evaluation
    {"RESULTS.md", "report.html"},  # a benchmark
    {"search.json", "trials.csv"},
)
_HOW = {
    "path": "by path",
    "name": "by file name",
    "id": "by id",
    "number": "by the id's number, zeros were lost",
    "unsure": "may have one of several, or that of another film: none was taken",
}
_GUESSED = ("name", "number")


@dataclass(frozen=True)
class Found:
    """The posters of a table's films."""

    names: tuple[str, ...]  # each film's, among the pictures; "" for none
    said: str  # how they were found


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
        paths = (name for name in names if name.casefold().endswith(_ENDINGS))
        # Of several with one stem the first: in `Images`, else the least deep.
        self.names = sorted(paths, key=_order)
        self._by_path = {name.casefold(): name for name in reversed(self.names)}
        self._by_name: dict[str, str] = {}  # "" where several have it
        self._by_stem: dict[str, str] = {}
        self._second: dict[str, str] = {}  # after the first of a stem
        self._stems: dict[str, list[str]] = {}  # by number
        for name in self.names:
            path = PurePosixPath(name)
            file = path.name.casefold()
            self._by_name[file] = "" if file in self._by_name else name
            first = self._by_stem.setdefault(path.stem, name)
            if first != name:
                self._second.setdefault(first, name)
            elif number := _NUMBER.fullmatch(path.stem):
                self._stems.setdefault(number[1], []).append(path.stem)

    def find(self, film: str, path: str = "") -> str:
        """Gives the name of a film's poster, "" where there is none.

        Args:
            film: its id.
            path: what its row says of its poster; "" for nothing.
        """
        return self._find(film, path)[1]

    def find_all(self, films: Sequence[tuple[str, str]]) -> Found:
        """Finds the posters of films of one table; what would be a guess for two of them is neither's.

        Args:
            films: id and path of each, as `find` takes them.
        """
        hows, names = [], []
        for film, path in films:
            how, name = self._find(film, path)
            hows.append(how)
            names.append(name)
        owners = {name: "" for how, name in zip(hows, names) if how in _GUESSED}
        shared = set()
        for (film, path), how, name in zip(films, hows, names):
            if name in owners:
                owner = _wanted(path) if how in ("path", "name") else film
                if owners[name] not in ("", owner):
                    shared.add(name)
                owners[name] = owner
        for row, (how, name) in enumerate(zip(hows, names)):
            if how in _GUESSED and name in shared:
                hows[row], names[row] = "unsure", ""
        return Found(tuple(names), self._say(hows, names))

    def _find(self, film: str, path: str) -> tuple[str, str]:
        """Finds a film's poster: how, and its name."""
        file = ""
        if path:
            wanted = _wanted(path)
            file = wanted.rpartition("/")[2]
            for how, name in (("path", self._by_path.get(wanted)), ("name", self._by_name.get(file))):
                if name:
                    return how, name
        if film in self._by_stem:
            return "id", self._by_stem[film]
        number = _NUMBER.fullmatch(film)
        stems = [stem for stem in self._stems.get(number[1], ()) if _lost(stem, film)] if number else []
        if len(stems) == 1:
            return "number", self._by_stem[stems[0]]
        return "unsure" if stems or file in self._by_name else "", ""

    def _say(self, hows: Sequence[str], names: Sequence[str]) -> str:
        counts = Counter(hows)
        said = [f"{counts[how]:,} {words}" for how, words in _HOW.items() if counts[how]]
        by_stem = (name for how, name in zip(hows, names) if how in ("id", "number"))
        if several := [name for name in by_stem if name in self._second]:
            both = f"{several[0]} and {self._second[several[0]]}"
            said.append(f"{len(several):,} had several of that name, such as {both}: the first was taken")
        return ", ".join(said)

    def read(self, name: str) -> bytes:
        """Reads a picture by the name that `find` gave.

        Raises:
            BadPoster: there is none, or it cannot be read.
        """
        if not name:
            raise NoPoster("poster missing")
        return self._read(name)


def _wanted(path: str) -> str:
    return path.replace("\\", "/").lstrip("/").removeprefix("./").casefold()


def _lost(stem: str, film: str) -> bool:
    """Tells if an id of the same number is this stem without its zeros, or without its "tt" and zeros."""
    digits = film.removeprefix("tt")
    return len(stem) > len(film) and stem.endswith(digits) and (digits == film or stem.startswith("tt"))


def _order(name: str) -> tuple:
    path = PurePosixPath(name)
    return path.parts[0] != IMAGES, len(path.parts), _ENDINGS.index(path.suffix.casefold()), name


def in_folder(folder: Path) -> Pictures:
    """The pictures of a folder and of those below it.

    Left out are hidden ones, links to other folders, and runs and other folders that commands have written.

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
            below = Path(where).relative_to(top).as_posix()
            if below != "." and any(written.issubset(files) for written in _WRITTEN):
                folders.clear()
                continue
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            seen += len(files)
            if seen > _MOST_FILES:
                raise UserError(
                    f"{folder} holds more than {_MOST_FILES:,} files; name the posters' folder with --data-dir DIR"
                )
            names += [f"{prefix}{'' if below == '.' else f'{below}/'}{name}" for name in files]

    def read(name: str) -> bytes:
        if images and name.startswith(f"{IMAGES}/"):
            return read_inside(images, name.removeprefix(f"{IMAGES}/"))
        return read_inside(root, name)

    return Pictures(names, read, root)


def url_of(cells: Iterable[str]) -> str:
    """Gives the first of these that is an address and no file's name; "" if none is."""
    return next((cell for cell in cells if "://" in cell[:20]), "")
