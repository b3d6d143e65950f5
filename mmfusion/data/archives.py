"""Archives from strangers: refused whole for one bad member, read in place, never unpacked."""

import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mmfusion.data.posters import BadPoster
from mmfusion.data.records import too_large
from mmfusion.errors import UserError

# Bytes unpacked for each byte of the archive. JPEGs do not shrink and JSON shrinks to a tenth, but a film's
# JPEG has more bytes than its JSON; a bomb has a thousand.
MAX_EXPANSION = 20
ALLOWANCE = 2**20  # bytes on top: a very small archive is mostly padding, which shrinks to nothing
_MAX_NAME = 2**13  # bytes that a tar's extra header may have: a long name and some attributes
_BLOCK = 512  # bytes; a tar is made of these
_SHOWN = 100  # characters of a name in a message
_PIECE = 2**16  # bytes passed over at a time
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTRA = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)  # they tell more of the next member
_LONG_NAME = re.compile(rb"(?:^|\n)\d+ path=([^\n]*)\n")


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip for reading in place once all of its members are known to be harmless.

    Raises:
        UserError: a member is not harmless, or the zip would unpack to too much.
        zipfile.BadZipFile: it is not a zip that can be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError) as error:
        raise zipfile.BadZipFile(str(error)) from error
    for member in archive.infolist():
        _check_name(path, member.orig_filename)
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):  # 0: not from Unix
            raise _neither(path, member.orig_filename)
        # Bit 0 says encrypted. Other ways to compress can ask for gigabytes before the first byte comes out.
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {member.orig_filename[:_SHOWN]!r} is encrypted or compressed in an unusual way"
            )
    if sum(member.file_size for member in archive.infolist()) > _most(path):
        raise _bomb(path)
    return archive


def read_zip_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Reads one member; threads may do so at once.

    Raises:
        BadPoster: it is damaged, larger than the archive says, or has more than `limit` bytes.
    """
    try:
        with archive.open(name) as file:
            content = file.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as error:
        raise BadPoster("poster damaged in the archive") from error
    if len(content) > limit:
        raise BadPoster(too_large(limit))
    return content


def read_tar(path: Path, suffixes: str | tuple[str, ...], limit: int) -> Iterator[tuple[str, bytes | None]]:
    """Goes through a tar.gz from its first to its last byte and gives its files of some kinds.

    Every pass checks all members, but only after the last one is the archive known to be harmless. The
    headers are read here since `tarfile` keeps all of them, reads names of any length, and can be made to
    call itself, or search, without end.

    Args:
        path: of the archive.
        suffixes: how the files' names end, in lower case; theirs may be in another.
        limit: the greatest number of bytes of such a file.

    Yields:
        The name without folders and the content, or None in its place where that is larger than `limit`.

    Raises:
        UserError: a member is not harmless, the archive unpacks to too much, or it is damaged.
    """
    try:
        with _Bounded(path) as archive:
            long_name = None
            while any(block := archive.read(_BLOCK)):
                member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                if member.size < 0:
                    raise tarfile.ReadError("a size below 0")
                padded = 0 if member.isdir() else -(-member.size // _BLOCK) * _BLOCK
                if member.type in _EXTRA:
                    if member.size > _MAX_NAME:
                        raise UserError(f"{path}: a member's name has more than {_MAX_NAME:,} bytes")
                    extra = archive.exactly(padded)[: member.size]
                    if b"GNU.sparse" in extra:
                        raise _neither(path, member.name)
                    if member.type == tarfile.GNUTYPE_LONGNAME:
                        long_name = extra.rstrip(b"\0")
                    elif found := _LONG_NAME.search(extra):
                        long_name = found[1]
                    continue
                name = member.name if long_name is None else long_name.decode("utf-8", "surrogateescape")
                long_name = None
                _check_name(path, name)
                if member.type not in (*_FILES, tarfile.DIRTYPE):
                    raise _neither(path, name)
                last = PurePosixPath(name).name
                if member.isdir() or last.startswith(".") or not last.lower().endswith(suffixes):
                    archive.skip(padded)
                elif member.size > limit:
                    archive.skip(padded)
                    yield last, None
                else:
                    yield last, archive.exactly(padded)[: member.size]
            while archive.read(_PIECE):  # to the checksum at the end
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


class _Bounded(gzip.GzipFile):
    """Unpacks a gzip, as long as not too much comes out of it."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._path, self._left = path, _most(path)

    def read(self, size: int) -> bytes:
        content = super().read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _bomb(self._path)
        return content

    def exactly(self, size: int) -> bytes:
        content = self.read(size)
        if len(content) < size:
            raise EOFError("it is cut short")
        return content

    def skip(self, size: int) -> None:
        for start in range(0, size, _PIECE):
            self.exactly(min(_PIECE, size - start))


def _check_name(path: Path, name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if "\0" in name or ".." in parts or not parts[0] or parts[0].endswith(":"):
        raise UserError(f"{path}: the member {name[:_SHOWN]!r} leads out of the archive; do not unpack it either")


def _neither(path: Path, name: str) -> UserError:
    return UserError(
        f"{path}: the member {name[:_SHOWN]!r} is neither a file nor a folder; do not unpack it either"
    )


def _bomb(path: Path) -> UserError:
    return UserError(f"{path} unpacks to more than {MAX_EXPANSION} times its size; do not unpack it either")


def _most(path: Path) -> int:
    return MAX_EXPANSION * path.stat().st_size + ALLOWANCE
