"""Files that are whole or not there, that are files and no more, and names that stay in their folder."""

import contextlib
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from filelock import FileLock, Timeout

from mmfusion.errors import UserError

HALF_WRITTEN = ".half-"  # in the name of a file that is not in its place yet: .NAME.half-XXXX
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


def is_id(film: str) -> bool:
    """Tells if a film's id can safely be a file's name."""
    return bool(_SAFE_ID.fullmatch(film))


def check_id(film: str, where: str) -> str:
    """Returns a film's id if it can safely be a file's name.

    Raises:
        UserError: it has other characters than letters, digits, '-' and '_', or more than 100.
    """
    if not isinstance(film, str) or not is_id(film):
        shown = f"{film[:100]}..." if isinstance(film, str) and len(film) > 100 else film
        raise UserError(
            f"{where}: the id {shown!r} is not made of letters, digits, '-' and '_', a letter or a digit first, "
            "100 at most"
        )
    return film


def is_text(value) -> bool:
    """Tells if UTF-8 can write a string: JSON and the command line can hold half a character."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def inert(cell):
    """Gives a cell that no spreadsheet takes for a formula: a text that begins like one gets an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, unless it is there.

    Raises:
        UserError: it cannot be made, or a file has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}") from error


def open_regular(path: Path, limit: float = math.inf) -> BufferedReader:
    """Opens a file for reading that is one: no link, pipe or device, and no larger than it can sensibly be.

    Args:
        path: of the file; the folders above it may be links.
        limit: the most bytes that it may have.

    Raises:
        UserError: it is something else, larger, or cannot be read.
    """
    try:
        # A link at the end of the path is not followed, and a pipe that nobody writes to does not keep us waiting.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        reason = "it is a link" if path.is_symlink() else error.strerror
        raise UserError(f"{path} cannot be read: {reason}") from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size <= limit:
        return os.fdopen(handle, "rb")
    os.close(handle)
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} cannot be read: it is not a plain file")
    raise UserError(
        f"{path} cannot be read: it has {status.st_size:,} bytes, more than the {limit:,} that it may have"
    )


def read_regular(path: Path, limit: int) -> bytes:
    """Reads such a file.

    Raises:
        UserError: see `open_regular`.
    """
    with open_regular(path, limit) as file:
        try:
            return file.read()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error


_patience = 0.0


def wait_for_others(seconds: float) -> None:
    """Lets `only_one` wait so long in this process: where a node died, its processes may live some time."""
    global _patience
    _patience = seconds


@contextlib.contextmanager
def only_one(lock: Path, busy: str) -> Iterator[None]:
    """Lets one process at a time into the block; the system lets go of the lock when the process ends.

    Args:
        lock: a file of nothing but this.
        busy: what is said when another process is in there.

    Raises:
        UserError: with `busy`; or the lock's file cannot be made.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=_patience)
    except Timeout as error:
        raise UserError(busy) from error
    except OSError as error:
        raise UserError(f"cannot write {lock}: {error.strerror}") from error
    try:
        yield
    finally:
        held.release()


@contextlib.contextmanager
def one_at_a_time(lock: Path, waiting: str) -> Iterator[None]:
    """Waits while another process is in the block, and says so on standard error.

    Args:
        lock: a file of nothing but this; it is removed at the end.
        waiting: what is said.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(waiting, file=sys.stderr)
        held.acquire()
    try:
        yield
        lock.unlink(missing_ok=True)  # still held: who comes now finds what was made
    finally:
        held.release()


def write_atomically(path: Path, content: bytes | memoryview | str) -> None:
    """Writes beside the place and renames into it: a reader sees the old file or the new, never half.

    Raises:
        UserError: the file cannot be written (no room, no permission).
    """
    if isinstance(content, str):
        content = content.encode()
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{HALF_WRITTEN}")
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.chmod(0o644)  # mkstemp makes files that only their owner can read
            move_into_place(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def move_into_place(beside: Path, path: Path) -> None:
    """Renames a file or folder that was written whole; the new name outlives a loss of power."""
    beside.replace(path)
    with contextlib.suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
