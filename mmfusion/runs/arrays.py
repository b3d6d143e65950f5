"""Arrays by name in one `.npz` file, whose form is known before anything is made of it."""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mmfusion.errors import UserError, first_line
from mmfusion.files import write_atomically

_KINDS = "biufU"  # of NumPy's types: numbers and text; an object would be a pickle
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write_arrays(path: Path, arrays: Mapping[str, ArrayLike]) -> None:
    """Writes arrays as `np.savez` does, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    buffer = io.BytesIO()
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    np.savez(buffer, **whole)  # pyright: ignore[reportArgumentType]  none has the name of a flag
    write_atomically(path, buffer.getbuffer())


def parse_arrays(content: bytes, where: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote; no pickle, and no more bytes than the file has.

    Args:
        content: of the file; the ZIP archive's checksums are compared.
        where: the file, for messages.

    Returns:
        By name read-only arrays of numbers or text.

    Raises:
        UserError: it is cut short, damaged, compressed, or holds anything else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            stored = all(one.compress_type == zipfile.ZIP_STORED for one in members)
            if not stored or sum(one.file_size for one in members) > len(content):
                raise ValueError("it unpacks to more than it is")
            return {one.filename.removesuffix(".npy"): _parse(archive.read(one)) for one in members}
    # A damaged archive makes zipfile raise as it pleases: NotImplementedError, struct.error and more.
    except Exception as error:
        raise UserError(f"{where} cannot be read: {first_line(error)}") from error


def _parse(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    shape, in_columns, dtype = _HEADERS[np.lib.format.read_magic(file)](file)
    if dtype.kind not in _KINDS:
        raise ValueError(f"it holds {dtype}, not numbers or text")
    if in_columns or math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError("an array has another size than it says")
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape)
