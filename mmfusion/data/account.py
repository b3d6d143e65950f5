"""The account of prepared films, in lines for people: what they have, which genres, and who was left out."""

from collections.abc import Mapping, Sequence

import numpy as np

_GENRES = 12  # that are named


def account(genres: Sequence[str], labels: np.ndarray, there: np.ndarray, left_out: Mapping[str, str]) -> list[str]:
    """Gives the lines.

    Args:
        genres: G names.
        labels: (N, G) multi-hot.
        there: bool (N, 2), whether each film has a poster, and an overview.
        left_out: films and rows that are not among these, and why.
    """
    posters, overviews = there.sum(axis=0).tolist()
    both = int(there.all(axis=1).sum())
    lines = [
        f"{len(labels):,} films; {posters:,} with a poster, {overviews:,} with an overview, {both:,} with both",
        f"genres: {_genres(genres, labels)}",
    ]
    if left_out:
        one, why = next(iter(left_out.items()))
        lines.append(f"left out: {len(left_out):,} (skipped.csv says why), for example {one} ({why})")
    return lines


def _genres(genres: Sequence[str], labels: np.ndarray) -> str:
    counts = labels.sum(axis=0, dtype=np.int64)
    order = np.argsort(-counts, kind="stable").tolist()
    said = ", ".join(f"{genres[g]} {counts[g]:,}" for g in order[:_GENRES])
    if more := order[_GENRES:]:
        said += f", and {len(more)} more"
    without = int((~labels.any(axis=1)).sum())
    return said + (f" ({without:,} films without a genre)" if without else "")
