"""Films that a run knows already, under whatever id: by id, by the poster's bytes, or by the overview."""

from collections.abc import Sequence

import numpy as np

from mmfusion.runs import Run


def splits_of(run: Run, ids: Sequence[str], hashes: np.ndarray) -> dict[str, str]:
    """Tells which split of a run has the same film.

    Args:
        run: a run; one that keeps no hashes knows films by their ids only.
        ids: N film ids.
        hashes: uint64 (N, 2) of the poster and of the overview of each; 0 is like no other.

    Returns:
        A split by id, of the films that the run knows; where several have it, "train" before "validation" before
        "test".
    """
    split, kept = run.split, run.hashes
    known: list[dict] = [{}, {}, {}]  # by id, by poster, by overview
    ends = np.cumsum([len(films) for films in split.values()])
    end_of = dict(zip(split, ends.tolist(), strict=True))
    for name in ("test", "validation", "train"):  # the last one stays
        films = split.get(name, [])
        end = end_of.get(name, 0)
        of_films = () if kept is None else kept[end - len(films) : end].T.tolist()
        for table, keys in zip(known, (films, *of_films)):
            table.update(dict.fromkeys(keys, name))
    found = {}
    for film, *own in zip(ids, *hashes.T.tolist(), strict=True):
        names = {table[key] for table, key in zip(known, (film, *own)) if key and key in table}
        if names:
            found[film] = next(name for name in ("train", "validation", "test") if name in names)
    return found
