"""Splits films into those that train, that choose, and that are only looked at in the end."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

from mmfusion.errors import UserError
from mmfusion.schema import SPLITS

_FEWEST = 10  # films, or groups of films, that are not each other's copies


def split_films(
    ids: Sequence[str] | np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Sequence[float],
    seed: int,
) -> dict[str, list[str]]:
    """Splits films into train, validation and test, every genre in the same proportions.

    Iterative stratification (Sechidis et al. 2011) over groups of films that must stay together.
    The result depends on the set of films and the seed, not on the order of the films.

    Args:
        ids: N film ids, each once.
        labels: (N, G) multi-hot genres.
        groups: (N,) group numbers; films of one group (same overview or same poster) are not parted.
        shares: shares of train, validation and test; they add up to 1.
        seed: another seed gives another split.

    Returns:
        Sorted ids under "train", "validation" and "test".

    Raises:
        UserError: there are too few films.
    """
    order = np.argsort(np.asarray(ids))
    ids, labels, groups = np.asarray(ids)[order], np.asarray(labels)[order], np.asarray(groups)[order]
    # One row a group, in order of its first film: the union of the group's genres.
    _, first, member_of = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    member_of = rank[member_of]
    genres = np.zeros((len(first), labels.shape[1]), int)
    np.maximum.at(genres, member_of, (labels > 0).astype(int))

    if len(genres) < _FEWEST:
        raise UserError(f"{len(genres)} films of their own are too few to split; there must be {_FEWEST}")
    if genres.shape[1] == 1:  # the splitter wants two columns
        genres = np.hstack([genres, 1 - genres])
    everything = np.arange(len(genres))
    rest, test = _stratified(everything, genres, shares[2], seed)
    train, validation = _stratified(rest, genres, shares[1] / (shares[0] + shares[1]), seed)
    return {
        name: sorted(ids[np.isin(member_of, chosen)].tolist())
        for name, chosen in zip(SPLITS, (train, validation, test), strict=True)
    }


def _stratified(rows: np.ndarray, genres: np.ndarray, share: float, seed: int):
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1,
        test_size=share,  # pyright: ignore[reportArgumentType]  the default is a word
        random_state=seed,
    )
    kept, taken = next(splitter.split(rows, genres[rows]))
    return rows[kept], rows[taken]


def split_hash(split: dict[str, list[str]]) -> str:
    """Names a split: runs with the same hash were trained and scored on the same films."""
    return hashlib.sha256(json.dumps(split, sort_keys=True).encode()).hexdigest()[:16]


_HASH = 8  # bytes: among a million films two others share one with a probability of 3 in 10 million


def content_hash(content: bytes | str) -> int:
    """Names a poster's bytes or an overview, by which a film is known under another id; 0 where there is none."""
    content = content.strip().encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return int.from_bytes(hashlib.sha256(content).digest()[:_HASH], "big") if content else 0


def duplicate_groups(keys: np.ndarray) -> np.ndarray:
    """Numbers films so that two that share a key, directly or through others, get one number.

    Args:
        keys: uint64 (N, K), hashes of K kinds, such as of a film's poster and of its overview. 0 says nothing about
            a film and joins nothing.

    Returns:
        (N,) int group numbers.
    """
    first = np.empty(keys.shape, np.int64)  # the first film with the same key
    for kind, column in enumerate(keys.T):
        _, places, member_of = np.unique(column, return_index=True, return_inverse=True)
        first[:, kind] = places[member_of]
    parent = np.arange(len(keys)).tolist()

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    again = np.nonzero((keys != 0) & (first != np.arange(len(keys))[:, None]))  # film by film
    for i, other in zip(again[0].tolist(), first[again].tolist()):
        parent[root(i)] = root(other)
    groups = np.array(parent, np.int64)
    while (groups[groups] != groups).any():
        groups = groups[groups]
    return groups
