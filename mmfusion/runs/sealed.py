"""A folder whose files are read by size and form first, checked against its manifest, and each once."""

import copy
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import open_regular, read_regular, write_atomically

TEXT_LIMIT = 2**20  # bytes, of JSON; what Python makes of them can be 25 times as large
_MANIFEST = "manifest.json"
_REPORT = "report.json"


def once(*files: str) -> Callable:
    """Decorates a method that reads these files of its folder: what it gave is given again while they are the same.

    Files take their place whole, so another one has another inode, size or time.
    """

    def decorate(read: Callable) -> Callable:
        @functools.wraps(read)
        def kept(self, *args):
            now = tuple(_identity(self.folder / name) for name in (*files, _MANIFEST, _REPORT))
            key = (read.__name__, *args)
            if self._kept.get(key, (None,))[0] != now:
                self._kept[key] = (now, read(self, *args))
            made = self._kept[key][1]
            return copy.deepcopy(made) if isinstance(made, dict | list) else made  # which the caller may change

        return kept

    return decorate


class SealedFolder:
    """A folder with a manifest of those files that are named in `sealed`."""

    sealed: tuple[str, ...] = ()

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest_file = self.folder / _MANIFEST
        self._kept: dict[tuple, tuple] = {}

    def __getstate__(self) -> dict:
        return {**vars(self), "_kept": {}}  # what a process gets that is handed this object

    def seal(self) -> None:
        """Writes `manifest.json`: the SHA-256 of every file that the folder is read from, from now on."""
        files = [name for name in self.sealed if (self.folder / name).is_file()]
        self.write_json(self.manifest_file, {"sha256": {name: sha256(self.folder / name) for name in files}})

    def check_sealed(self, path: Path, found: str) -> None:
        """Compares a file's SHA-256 with the manifest's; a run that is still being written has none yet.

        Raises:
            UserError: it names both hashes.
        """
        if path.parent != self.folder or path.name not in self.sealed:
            return
        if not self.manifest_file.exists():
            if (self.folder / _REPORT).exists():
                raise UserError(f"{self.folder} has a report but no manifest.json to check it by; train it again")
            return
        hashes = self._manifest().get("sha256")
        wanted = hashes.get(path.name) if isinstance(hashes, dict) else None
        if found != wanted:
            raise UserError(
                f"{path} is not the file that this run wrote: its SHA-256 is {found[:12]}…, that in manifest.json "
                f"{str(wanted)[:12]}…; get the run again from where it came"
            )

    @once()
    def _manifest(self) -> dict:
        return self.read_object(self.manifest_file)

    def read(self, path: Path, limit: int) -> bytes:
        """Reads a file of the folder.

        Raises:
            UserError: it is none, too large, or not the manifest's. So do those below, and if it has another form.
        """
        content = read_regular(path, limit)
        self.check_sealed(path, hashlib.sha256(content).hexdigest())
        return content

    def read_text(self, path: Path, limit: int = TEXT_LIMIT) -> str:
        """Reads a text in UTF-8."""
        try:
            return self.read(path, limit).decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8: {error.reason}") from error

    def read_json(self, path: Path, limit: int = TEXT_LIMIT):
        """Reads JSON."""
        try:
            return json.loads(self.read_text(path, limit))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not valid JSON: {error}") from error

    def read_object(self, path: Path, limit: int = TEXT_LIMIT) -> dict:
        """Reads a JSON object."""
        value = self.read_json(path, limit)
        if not isinstance(value, dict):
            raise UserError(f"{path} must hold a JSON object, not {type(value).__name__}")
        return value

    def write_json(self, path: Path, value) -> None:
        """Writes JSON, whole or not at all."""
        write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def sha256(path: Path) -> str:
    """Hashes a file, of whatever size."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _identity(path: Path) -> tuple | None:
    """Tells a file from another one in its place; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
