"""Texts and pictures that stand for none: "No overview found.", "nan", one picture that says "no image"."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mmfusion.errors import printable

FEWEST = 20  # films that share one overview, or one poster, before that can be taken for none
SHARE = 0.005  # of all films, that they must be too
_LISTED = frozenset(
    [
        *("no overview", "no overview found", "no overview available", "overview not available"),
        *("no plot", "no plot available", "plot unknown", "unknown plot", "no description", "unknown"),
        *("n/a", "na", "nan", "none", "null", "-"),
    ]
)
_LONGEST = max(map(len, _LISTED)) + 20  # characters of a text that may be one of these
_SHOWN = 60  # characters of one that is named
_NAMED = 3


def is_listed(text: str) -> bool:
    """Tells if a text is known to stand for none, whatever its case, white space and final punctuation."""
    return len(text) <= _LONGEST and " ".join(text.lower().split()).rstrip(" .!?…") in _LISTED


def frequent(hashes: np.ndarray) -> np.ndarray:
    """Finds what so many films share that it is none of theirs.

    Args:
        hashes: uint64 (N,) of overviews, or of posters; 0: there is none.

    Returns:
        The hashes of these, each once.
    """
    found, counts = np.unique(hashes[hashes != 0], return_counts=True)
    return found[counts >= max(FEWEST, SHARE * len(hashes))]


def account(texts: Mapping[str, int], pictures: list[int], groups: Mapping[str, int]) -> list[str]:
    """Gives the line that says what counted as missing; none where nothing did.

    Args:
        texts: how many films had each of them for an overview.
        pictures: how many films had each of them for a poster.
        groups: how many films had each of them for a group.
    """
    said = []
    for kind, found in (("overview", texts), ("group", groups)):
        most = Counter(found).most_common()
        said += [f"the {kind} {_brief(text)} in {_films(count)}" for text, count in most[:_NAMED]]
        if rest := most[_NAMED:]:
            what = f"another {kind}" if len(rest) == 1 else f"{len(rest)} other {kind}s"
            said.append(f"{what} in {_films(sum(count for _, count in rest))}")
    if pictures:
        what = "one picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
        said.append(f"{what} in {_films(sum(pictures))}")
    return [f"counted as missing: {', '.join(said)} (--keep-placeholders reads them)"] if said else []


def _films(count: int) -> str:
    return f"{count:,} film{'s' * (count != 1)}"


def _brief(text: str) -> str:
    text = printable(text.strip())
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
