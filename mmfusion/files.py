"""Files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from mmfusion.errors import UserError


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
