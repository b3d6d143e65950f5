"""An array that stays in its file, of which rows are read as they are asked for."""

import errno
import math
import os
import weakref
from pathlib import Path

import numpy as np


class OnDisk:
    """Rows of a file, read like those of an array: `rows[numbers]`, `rows[start:stop]`, `rows[number]`.

    Memory maps would do the same, but all that was ever read of one counts as memory of the process, and an error
    of the disk ends it.
    """

    def __init__(self, file: Path, dtype: np.dtype | type, shape: tuple[int, ...], offset: int = 0):
        """
        Args:
            file: it may be removed while this object is there.
            dtype: of its numbers.
            shape: (N, ...).
            offset: bytes of the file before the first row.

        Raises:
            OSError: it cannot be opened.
        """
        self.dtype, self.shape, self._offset = np.dtype(dtype), shape, offset
        self._file = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, rows) -> np.ndarray:
        """Reads rows into memory.

        Raises:
            IndexError: there is no such row.
            OSError: the file cannot be read, or is shorter than it was.
        """
        numbers = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if numbers.size and not -len(self) <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"a row that is not one of {len(self)}")
        numbers = numbers % len(self)
        found = np.empty((*numbers.shape, *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        for number, place in zip(numbers.reshape(-1).tolist(), found.reshape(-1, *self.shape[1:])):
            if os.preadv(self._file, [place], self._offset + number * size) != size:
                raise OSError(errno.EIO, "a file in the cache has become shorter")
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


Array = np.ndarray | OnDisk
