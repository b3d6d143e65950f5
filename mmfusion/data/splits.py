"""Splits films into those that train, that choose, and that are only looked at in the end."""

import hashlib
import json
import sys
from collections.abc import Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

from mmfusion.data.dealing import deal, is_near
from mmfusion.errors import UserError
from mmfusion.schema import SPLITS

_FEWEST = 10  # films, or groups of films, that are not each other's copies


def split_films(
    ids: Sequence[str] | np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    shares: Sequence[float],
    seed: int,
    names: Sequence[str] = SPLITS,
) -> dict[str, list[str]]:
    """Splits films into train, validation and test, every genre in the same proportions.

    Iterative stratification (Sechidis et al. 2011) over groups of films that must stay together. Where groups of
    several films have taken a split more than a point from its share, all are dealt again by how many films they
    have (`dealing.deal`); if that comes no nearer, a line on standard error says so. The result depends on the
    set of films and the seed, not on the order of the films. A million films with 25 genres take half a minute
    and half a gigabyte.

    Args:
        ids: N film ids, each once.
        labels: (N, G) multi-hot genres.
        groups: (N,) group numbers; films of one group (same overview or same poster) are not parted.
        shares: shares of train, validation and test; they add up to 1.
        seed: another seed gives another split.
        names: of the splits, one for each share.

    Returns:
        Sorted ids under "train", "validation" and "test".

    Raises:
        UserError: there are too few films.
    """
    order = np.argsort(np.asarray(ids))
    ids, labels, groups = np.asarray(ids)[order], np.asarray(labels)[order] > 0, np.asarray(groups)[order]
    # One row a group, in order of its first film.
    _, first, member_of = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    member_of = rank[member_of]
    if len(first) < _FEWEST:
        raise UserError(f"{len(first)} films of their own are too few to split; there must be {_FEWEST}")
    genres = np.zeros((len(first), labels.shape[1]), int)  # of how many films of the group
    np.add.at(genres, member_of, labels)
    sizes = np.bincount(member_of)

    split_of = _stratified(genres > 0, shares, seed)
    if not is_near(np.bincount(split_of, sizes, len(shares)), shares):
        split_of = deal(sizes, genres, shares, seed)
        _say_if_not_near(sizes, split_of, shares, names)
    of_film = split_of[member_of]
    return {name: sorted(ids[of_film == number].tolist()) for number, name in enumerate(names)}


def _stratified(has_genre: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """The split (M,) of each group, whatever its size: the last split is taken from all, then the one before."""
    genres = has_genre.astype(int)
    if genres.shape[1] == 1:  # the splitter wants two columns
        genres = np.hstack([genres, 1 - genres])
    split_of, rest, left = np.zeros(len(genres), int), np.arange(len(genres)), 1.0
    for number in range(len(shares) - 1, 0, -1):
        splitter = MultilabelStratifiedShuffleSplit(
            n_splits=1,
            test_size=shares[number] / left,  # pyright: ignore[reportArgumentType]  the default is a word
            random_state=seed,
        )
        kept, taken = next(splitter.split(rest, genres[rest]))
        split_of[rest[taken]] = number
        rest, left = rest[kept], sum(shares[:number])
    return split_of


def _say_if_not_near(
    sizes: np.ndarray, split_of: np.ndarray, shares: Sequence[float], names: Sequence[str]
) -> None:
    films = np.bincount(split_of, sizes, len(shares))
    if not is_near(films, shares):
        said = ", ".join(
            f"{name} {has / films.sum():.1%} (asked for: {share:.1%})"
            for name, has, share in zip(names, films, shares, strict=True)
        )
        print(
            f"Note: the films are split into {said}: groups of films are not parted, and the largest of the "
            f"{len(sizes)} has {sizes.max()} of {sizes.sum()} films",
            file=sys.stderr,
        )


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
