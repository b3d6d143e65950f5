"""Recognises a source of films that was read before by the names, sizes and times of its files."""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import make_folder, write_atomically

_SOURCES = "sources"  # in the cache; a file there for each folder of films
_SETTLED = 2 * 10**9  # nanoseconds; a disk's clock may tick so seldom, and two changes in one tick have one time


def recognised(
    cache: Path,
    source: Path,
    texts: Iterable[bytes],
    folder: Path,
    files: Iterable[str],
    read_content: Callable[[], tuple[str, bool]],
) -> str:
    """The fingerprint of a source, of which no file is opened that is as it was when all were read.

    Args:
        cache: where prepared films are kept.
        source: the folder that was named for the films.
        texts: what of the source was read already.
        folder: where its other files are.
        files: their names there.
        read_content: reads them; gives the fingerprint, and whether every file that is there could be read.
    """
    now = time.time_ns()
    listing, newest = _list(texts, folder, files)
    kept = cache / _SOURCES / hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    if known := _read(kept, listing):
        return known
    fingerprint, whole = read_content()
    if whole and newest < now - _SETTLED:
        with contextlib.suppress(UserError):  # a cache that cannot be written may still hold the films
            make_folder(kept.parent)
            write_atomically(kept, f"{fingerprint} {_seal(listing, fingerprint)}")
    return fingerprint


def forget(cache: Path) -> None:
    """Has every source read anew the next time that it is named.

    Raises:
        UserError: the cache cannot be written.
    """
    try:
        for file in (cache / _SOURCES).glob("*"):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--rehash cannot clear {cache / _SOURCES}: {error.strerror}") from error


def _list(texts: Iterable[bytes], folder: Path, files: Iterable[str]) -> tuple[str, int]:
    """A hash of what is known of a source without opening its files, and the newest time of a file."""
    states = {name: _states(folder / name) for name in files}
    said = [[hashlib.sha256(text).hexdigest() for text in texts], str(folder), states]
    newest = max((changed for found in states.values() for *_, changed in found), default=0)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest(), newest


def _states(path: Path) -> list[tuple[int, int, int]]:
    """Mode, size in bytes and time in nanoseconds of a file, of a link and what it leads to; [] of nothing."""
    found = []
    with contextlib.suppress(OSError):
        found.append(path.lstat())
        if stat.S_ISLNK(found[0].st_mode):
            found.append(path.stat())
    return [(one.st_mode, one.st_size, one.st_mtime_ns) for one in found]


def _read(kept: Path, listing: str) -> str:
    """The fingerprint of a source that looked like this; "" if it looked otherwise, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError):
        fingerprint, seal = kept.read_text("ascii").split()
        if seal == _seal(listing, fingerprint):
            return fingerprint
    return ""


def _seal(listing: str, fingerprint: str) -> str:
    return hashlib.sha256(f"{listing} {fingerprint}".encode()).hexdigest()
