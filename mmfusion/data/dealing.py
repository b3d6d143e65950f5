"""Deals groups of films that must stay together to splits: by how many films they have, and by their genres."""

import itertools
from collections.abc import Sequence

import numpy as np

POINT = 0.01  # of all films: so near to its share a split should be
_TRIES = 300  # at another place from which to come nearer
_SHAKEN = 5  # groups that are moved for that


def is_near(films: Sequence[int] | np.ndarray, shares: Sequence[float]) -> bool:
    """Tells if each split has a film, and is less than one film or at most a point away from its share.

    Args:
        films: of each split, how many it has.
        shares: of each split; they add up to 1.
    """
    off, total = _off(np.asarray(films), shares), np.sum(films)
    within = (off < 1 - 1e-9) | (off <= POINT * total + 1e-9)
    return bool(within.all() and np.min(films) > 0)


def _off(films: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    return np.abs(films - np.asarray(shares) * films.sum())


def deal(sizes: np.ndarray, genres: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Deals groups to splits so that each split has its share of the films, and of the films of each genre.

    After the iterative stratification of Sechidis et al. (2011), for examples of different sizes: the largest
    groups first, among those of one size the ones with the rarest genre, otherwise in an order drawn from the seed.
    Each goes to the split that lacks its genres most, among those that have room for it; where none has, to the one
    with the most room. If a split is not near its share then, groups are exchanged. A million groups take some ten
    seconds.

    Args:
        sizes: int (M,) how many films a group has.
        genres: int (M, G) how many of them have each genre.
        shares: of S splits; they add up to 1.
        seed: another seed gives another split.

    Returns:
        int (M,) the split of each group. None is left empty where M >= S.
    """
    rng = np.random.default_rng(seed)
    parts = _dealt(sizes, genres, shares, rng)
    films = np.bincount(parts, sizes, len(shares))
    return parts if is_near(films, shares) else _nearer(parts, sizes, shares, rng)


def _dealt(sizes: np.ndarray, genres: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    # The last column stands for any film: it settles where groups go that have no genre.
    counted = np.hstack([genres, sizes[:, None]])
    totals = np.maximum(counted.sum(axis=0), 1)
    rarest = np.where(counted > 0, totals, totals.max()).min(axis=1)
    order = np.lexsort((rng.permutation(len(sizes)), rarest, -sizes))
    room = _targets(int(sizes.sum()), shares)
    weights = (1 / totals).tolist()
    # For each split and genre, what one film more is of all that the split should get; and what it has of that.
    steps = (1 / (np.asarray(shares)[:, None] * totals)).tolist()
    has = np.zeros((len(shares), len(totals))).tolist()
    parts, groups = np.zeros(len(sizes), int), [0] * len(shares)
    for left, group in zip(range(len(order), 0, -1), order.tolist()):
        size = int(sizes[group])
        columns = counted[group].nonzero()[0].tolist()
        counts = counted[group, columns].tolist()
        candidates = [part for part, free in enumerate(room) if free >= size]
        if left <= groups.count(0):
            candidates = [part for part, some in enumerate(groups) if not some]
        elif not candidates:
            candidates = [room.index(max(room))]
        chosen, least = candidates[0], np.inf
        for part in candidates if len(candidates) > 1 else ():
            # As if half of the group were there already, which is Webster's method of apportionment: of a genre's
            # three films the smallest split does not get one because it has none.
            filled = 0.0
            for column, count in zip(columns, counts):
                filled += weights[column] * count * (has[part][column] + count / 2 * steps[part][column])
            if filled < least:
                chosen, least = part, filled
        parts[group] = chosen
        room[chosen] -= size
        groups[chosen] += 1
        for column, count in zip(columns, counts):
            has[chosen][column] += count * steps[chosen][column]
    return parts


def _targets(films: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers of films: each less than one from its share, but at least 1."""
    wanted = [share * films for share in shares]
    found = [max(1, int(one)) for one in wanted]
    while sum(found) < films:
        found[max(range(len(found)), key=lambda part: wanted[part] - found[part])] += 1
    while sum(found) > films:
        found[max(range(len(found)), key=lambda part: found[part] - wanted[part] if found[part] > 1 else -1)] -= 1
    return found


def _nearer(parts: np.ndarray, sizes: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Moves and exchanges groups until each split is near its share, or no nearer one is found.

    Only sizes count here; of the groups of one size those stay that come first.
    """
    kinds, kind_of = np.unique(sizes, return_inverse=True)
    before = np.zeros((len(shares), len(kinds)), int)  # how many groups of each size a split has
    np.add.at(before, (parts, kind_of), 1)
    best = _settled(before, kinds, shares)
    for _ in range(_TRIES):
        if is_near(best @ kinds, shares):
            break
        shaken = best.copy()
        for _ in range(_SHAKEN):
            split, kind = rng.choice(np.argwhere(shaken))
            shaken[split, kind] -= 1
            shaken[rng.integers(len(shares)), kind] += 1
        if shaken.any(axis=1).all():
            shaken = _settled(shaken, kinds, shares)
            best = min(best, shaken, key=lambda groups: _off(groups @ kinds, shares).sum())
    parts = parts.copy()
    for kind in np.flatnonzero((best != before).any(axis=0)):
        of_kind = np.flatnonzero(kind_of == kind)
        free = [of_kind[parts[of_kind] == split][stay:] for split, stay in enumerate(best[:, kind])]
        parts[np.concatenate(free)] = np.repeat(np.arange(len(shares)), np.maximum(best - before, 0)[:, kind])
    return parts


def _settled(groups: np.ndarray, kinds: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The same after the best move of a group, or exchange of two, again and again while there is one.

    Args:
        groups: int (S, K) how many groups of each size a split has.
        kinds: int (K,) these sizes.
        shares: of the splits.
    """
    # One size more stands for no group: a move is an exchange with it.
    kinds, groups = np.append(kinds, 0), np.hstack([groups, np.full((len(shares), 1), len(kinds) + groups.sum())])
    while True:
        films = groups @ kinds
        off = films - np.asarray(shares) * films.sum()
        least, found = np.abs(off).sum() - 1e-9, None
        for one, other in itertools.combinations(range(len(shares)), 2):
            gives, gets = (np.flatnonzero(groups[split]) for split in (one, other))
            gain = kinds[gets] - kinds[gives][:, None]
            total = np.abs(off[one] + gain) + np.abs(off[other] - gain)
            total += np.abs(off).sum() - abs(off[one]) - abs(off[other])
            if groups[one, :-1].sum() == 1:
                total[:-1, -1] = np.inf
            if groups[other, :-1].sum() == 1:
                total[-1, :-1] = np.inf
            place = np.unravel_index(total.argmin(), total.shape)
            if total[place] < least:
                least, found = total[place], (one, gives[place[0]], other, gets[place[1]])
        if found is None:
            return groups[:, :-1]
        one, given, other, got = found
        groups[[one, other], given] += -1, 1
        groups[[one, other], got] += 1, -1
