"""Films of one modality as a model reads them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mmfusion.data.on_disk import Array
from mmfusion.schema import PADDING

_CHUNK = 2**12  # films that are looked at at a time
Kind = Literal["pixels", "tokens", "table", "features"]


@dataclass(frozen=True)
class Encoded:
    """N films of one modality, in memory or on disk.

    A film without the modality is in band, as decided here and read by `models.missing`: a poster, a table or
    features of zeros, an overview of padding alone.
    """

    values: Array
    # uint8 (N, H, W, 3); int32 (N, T); float32 (N, C, 3); floats (N, C) or (N, S, C)
    kind: Kind
    padding: int = PADDING  # the token that is none

    def at(self, rows: np.ndarray) -> "Encoded":
        """Gives the films of these rows, in this order."""
        return Encoded(self.values[rows], self.kind, self.padding)

    def absent(self) -> "Encoded":
        """Gives as many films without the modality."""
        return Encoded(np.full(self.values.shape, self._nothing, self.values.dtype), self.kind, self.padding)

    def where_not(self, absent: np.ndarray) -> "Encoded":
        """Gives the films, some of them without the modality: bool (N,)."""
        values = np.array(self.values)
        values[absent] = self._nothing
        return Encoded(values, self.kind, self.padding)

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Tells which of the films in these rows have the modality: bool (R,)."""
        found = np.empty(len(rows), bool)
        for start in range(0, len(rows), _CHUNK):
            values = self.values[rows[start : start + _CHUNK]]
            found[start : start + _CHUNK] = (values != self._nothing).reshape(len(values), -1).any(axis=1)
        return found

    @property
    def _nothing(self) -> int:
        return self.padding if self.kind == "tokens" else 0
