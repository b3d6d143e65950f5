"""Films that a run knows already, under whatever id: by id, by the poster's bytes, or by the overview."""

from collections.abc import Mapping, Sequence

from mmfusion.runs import Run


def splits_of(run: Run, ids: Sequence[str], hashes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Tells which split of a run has the same film.

    Args:
        run: a run; one that keeps no hashes knows films by their ids only.
        ids: N film ids.
        hashes: of the poster and of the overview of each, by id; an empty one is like no other.

    Returns:
        A split by id, of the films that the run knows; where several have it, "train" before "validation" before
        "test".
    """
    split, kept = run.split, run.hashes or {}
    known: list[dict[str, str]] = [{}, {}, {}]  # by id, by poster, by overview
    for name in ("test", "validation", "train"):  # the last one stays
        for film in split.get(name, ()):
            for table, key in zip(known, (film, *kept.get(film, ()))):
                table[key] = name
    found = {}
    for film in ids:
        keys = (film, *hashes.get(film, ()))
        names = {table[key] for table, key in zip(known, keys) if key and key in table}
        if names:
            found[film] = next(name for name in ("train", "validation", "test") if name in names)
    return found
