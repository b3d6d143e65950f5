"""Files that are whole or not there, and names that stay in their folder."""

import os
import re
import tempfile
from pathlib import Path

from mmfusion.errors import UserError

_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def check_id(film: str, where: str) -> str:
    """Returns a film's id if it can safely be a file's name.

    Raises:
        UserError: it has other characters than letters, digits, '-' and '_', or more than 100.
    """
    if not isinstance(film, str) or not _SAFE_ID.fullmatch(film):
        raise UserError(f"{where}: the id {film!r} is not made of letters, digits, '-' and '_'")
    return film


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        UserError: it cannot be made, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}") from error


def write_atomically(path: Path, content: bytes | memoryview | str) -> None:
    """Writes beside the place and renames into it: a reader sees the old file or the new, never half.

    Raises:
        UserError: the file cannot be written (no room, no permission).
    """
    if isinstance(content, str):
        content = content.encode()
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o644)  # mkstemp makes files that only their owner can read
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
