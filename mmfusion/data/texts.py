"""Many texts in one Arrow array: as a sequence of `str`, of which Python holds those that are asked for."""

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from typing import Any, overload

import numpy as np
import pyarrow as pa

pc: Any = import_module("pyarrow.compute")  # makes its functions when it is imported
_CHUNK = 4096  # texts that are Python's at a time while all are gone through
TEXT = pa.large_string()  # one of 32-bit offsets ends at 2 GiB


class Texts(Sequence[str]):
    """N texts; equal to any other sequence of the same ones, a tuple included."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, array: pa.ChunkedArray):
        """
        Args:
            array: of `TEXT`, without nulls; it may lie in a memory-mapped file.
        """
        self.array = array

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Copies texts."""
        return cls(pa.chunked_array([pa.array(texts if isinstance(texts, list) else list(texts), TEXT)]))

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[str, ...]: ...
    def __getitem__(self, place):
        if isinstance(place, slice):
            return tuple(self.take(np.arange(len(self))[place]))
        return self.array[int(place)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _CHUNK):
            yield from self.array.slice(start, _CHUNK).to_pylist()

    def __eq__(self, other) -> bool:
        if isinstance(other, Texts):
            return self.array is other.array or self.array.equals(other.array)
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other))

    def __contains__(self, text) -> bool:
        return isinstance(text, str) and pc.index(self.array, pa.scalar(text, TEXT)).as_py() >= 0

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"

    def take(self, rows: np.ndarray) -> list[str]:
        """Gives the texts of these rows, in this order."""
        return self.array.take(pa.array(np.asarray(rows, np.int64))).to_pylist()

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Finds texts that are in here once each: their places, int64, in their order.

        Raises:
            KeyError: one is not in here.
        """
        wanted = texts.array if isinstance(texts, Texts) else pa.array(list(texts), TEXT)
        found = pc.index_in(wanted, value_set=self.array)
        if found.null_count:
            raise KeyError(wanted.filter(found.is_null())[0].as_py())
        return np.asarray(found, np.int64)


def join(columns: Sequence[Texts], between: str = "\n") -> Texts:
    """Joins N texts of each of these columns to one each; empty ones are passed over."""
    joined = columns[0].array
    for other in columns[1:]:
        # Not by nulls that are skipped: a row of nothing else would be lost.
        both = pc.and_(pc.not_equal(joined, ""), pc.not_equal(other.array, ""))
        middle = pc.if_else(both, pa.scalar(between, TEXT), pa.scalar("", TEXT))
        joined = pc.binary_join_element_wise(joined, other.array, middle)
    return Texts(joined if isinstance(joined, pa.ChunkedArray) else pa.chunked_array([joined]))
