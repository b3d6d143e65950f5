"""Takes out of prepared films what stands for nothing: placeholders, and films with nothing to be read."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmfusion.data.placeholders import frequent
from mmfusion.data.texts import TEXT, pc
from mmfusion.schema import OVERVIEW, POSTER

_CHUNK = 2**26  # bytes of pixels that are in memory at a time


class Sieve:
    """Which of N films stay, and of which an overview or a poster is a placeholder."""

    def __init__(self, keys: np.ndarray, has_cells: np.ndarray, *, keep_placeholders: bool):
        """
        Args:
            keys: uint64 (N, K), hashes of each film's overview, of its poster, and of others; 0: there is none.
            has_cells: bool (N,), whether its table says anything.
            keep_placeholders: whether what very many films share is read like others.
        """
        self.keys = keys.copy()  # those of placeholders are 0
        self.overviews: Counter[str] = Counter()  # that are placeholders, once the texts were rewritten
        found = [np.empty(0, np.uint64) if keep_placeholders else frequent(keys[:, kind]) for kind in (0, 1)]
        of_kind = zip((OVERVIEW, POSTER), found)  # their hashes, for films that come later
        self.placeholders = {str(kind): of.tolist() for kind, of in of_kind if of.size}
        self.pictures = [int((keys[:, 1] == one).sum()) for one in found[1]]  # films of each that is a placeholder
        self._no_overview, self._no_poster = (np.isin(keys[:, kind], found[kind]) for kind in (0, 1))
        self.keys[self._no_overview, 0] = 0
        self.keys[self._no_poster, 1] = 0
        self.kept = self.keys[:, :2].any(axis=1) | has_cells  # bool (N,)

    def rewrite_texts(self, file: Path) -> list[str]:
        """Writes the texts once more if any of them goes; gives the ids of films that do not stay."""
        gone = []
        if self.kept.all() and not self._no_overview.any():
            return gone
        beside, start = file.with_name("texts.new"), 0
        with pa.memory_map(str(file)) as old, beside.open("wb") as out:
            reader = pa.ipc.open_file(old)
            with pa.ipc.new_file(out, reader.schema) as writer:
                for number in range(reader.num_record_batches):
                    batch = reader.get_batch(number)
                    here = slice(start, start := start + batch.num_rows)
                    kept, none = pa.array(self.kept[here]), pa.array(self._no_overview[here])
                    self.overviews.update(batch["overview"].filter(none).to_pylist())
                    gone += batch["id"].filter(pa.array(~self.kept[here])).to_pylist()
                    place = batch.schema.get_field_index("overview")
                    overviews = pc.if_else(none, pa.scalar("", TEXT), batch["overview"])
                    writer.write(batch.set_column(place, "overview", overviews).filter(kept))
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
        return gone

    def rewrite_posters(self, file: Path, size: int) -> None:
        """Does the same to pixels, of so many bytes a film."""
        if self.kept.all() and not self._no_poster.any():
            return
        beside, step = file.with_name("posters.new"), max(1, _CHUNK // size)
        with file.open("rb") as old, beside.open("wb") as out:
            for start in range(0, len(self.kept), step):
                here = slice(start, start + step)
                pixels = np.frombuffer(old.read(step * size), np.uint8).reshape(-1, size).copy()
                pixels[self._no_poster[here]] = 0
                out.write(pixels[self.kept[here]].tobytes())
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
