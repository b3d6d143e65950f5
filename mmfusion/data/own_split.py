"""A split that somebody has made: of a file, or of a column of the films' own table."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfusion.data.films import Films
from mmfusion.data.splits import split_films
from mmfusion.errors import UserError
from mmfusion.files import read_regular
from mmfusion.schema import SIDES, SPLITS

TRAIN, VALIDATION, TEST = SPLITS
_LIMIT = 2**26  # bytes of a file; a million ids of 11 characters have 15 MB
_SHOWN = 40  # characters of a text that is named in a message


def read_split_file(file: Path) -> dict[str, list[str]]:
    """Reads ids by split: a JSON object of lists, with the keys of `schema.SIDES`.

    An id may be a text, or a number as it is written there.

    Returns:
        The ids by split, as they are in the file; without "validation" where the file has none.

    Raises:
        UserError: the file cannot be read, or is of another form.
    """
    content = read_regular(file, _LIMIT)
    try:
        pairs = json.loads(
            content, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON: {error}") from error
    known = f"the keys are {', '.join(SIDES)}"
    if not isinstance(pairs, _Pairs):
        raise UserError(f"{file} must hold a JSON object of lists of ids, by split; {known}")
    named: dict[str, list[str]] = {}
    for key, ids in pairs:
        split = SIDES.get(key.lower())
        if split is None:
            raise UserError(f"{file} has the key {_shown(key)}; {known}")
        if split in named:
            raise UserError(f"{file} names {split} films under two keys; put them under one")
        if not isinstance(ids, list) or isinstance(ids, _Pairs) or not all(isinstance(film, str) for film in ids):
            raise UserError(f"{file}: {key} must be a list of ids, which are texts or numbers")
        named[split] = ids
    return named


class _Pairs(list):
    """A JSON object with all its keys, also one that is there twice."""


def _refuse_constant(name: str):
    raise ValueError(f"{name} is no id")


def own_split(
    films: Films, named: Mapping[str, Sequence[str]], shares: Sequence[float], seed: int, where: str
) -> dict[str, list[str]]:
    """Splits films as somebody has named them, and says on standard error what differs from that.

    Films on no side are left out. A film with the overview, the poster or the group of a test film is left out of
    training and validation, one with those of a validation film out of training. Where no validation films are
    named they are drawn from the training films, in the proportion that `shares` has.

    Args:
        films: all that there are.
        named: ids by split; "validation" may be left out.
        shares: of train, validation and test, for validation films that are drawn.
        seed: of that draw.
        where: the split comes from, for messages.

    Returns:
        Sorted ids under "train", "validation" and "test".

    Raises:
        UserError: an id is named twice, a split has no film, or there are too few to draw from.
    """
    row_of = {str(film): row for row, film in enumerate(films.ids)}
    rows = _rows(row_of, named, where)
    if unnamed := len(row_of) - sum(map(len, rows.values())):
        _say(f"{unnamed} of {len(row_of)} films are on no side of {where}: left out")
    earlier, taken = [], np.zeros(0, int)  # splits that win, and their groups
    for split in [name for name in (TEST, VALIDATION, TRAIN) if name in rows]:
        groups = films.groups[rows[split]]
        copies = np.isin(groups, taken)
        if copies.any():
            _say(
                f"{copies.sum()} {split} films of {where} share an overview, a poster or a group with "
                f"{' or '.join(earlier)} films: left out"
            )
        rows[split] = rows[split][~copies]
        earlier, taken = [*earlier, split], np.concatenate([taken, groups])
        if not len(rows[split]):
            raise UserError(
                f"{where} leaves no {split} film; its ids must be those of the {len(row_of)} films here"
            )
    ids = np.array(list(row_of), object)
    split = {name: sorted(ids[found]) for name, found in rows.items()}
    if VALIDATION not in rows:
        share = shares[1] / (shares[0] + shares[1])
        train = rows[TRAIN]
        split |= split_films(
            ids[train].astype(str),
            films.labels[train],
            films.groups[train],
            (1 - share, share),
            seed,
            names=(TRAIN, VALIDATION),
        )
        drawn = len(split[VALIDATION])
        _say(f"{where} has no validation films: {drawn} are drawn from its {len(train)} training films")
    return {name: split[name] for name in SPLITS}


def _rows(row_of: Mapping[str, int], named: Mapping[str, Sequence[str]], where: str) -> dict[str, np.ndarray]:
    """The rows of the named films by split; ids that no film has are counted and said."""
    if missing := [name for name in (TRAIN, TEST) if name not in named]:
        raise UserError(f"{where} names no {missing[0]} films")
    side_of: dict[str, str] = {}
    for name, ids in named.items():
        for film in ids:
            if film in side_of:
                both = f"in {side_of[film]} and in {name}" if side_of[film] != name else f"twice in {name}"
                raise UserError(f"{where} names the film {_shown(film)} {both}")
            side_of[film] = name
    if unknown := [film for film in side_of if film not in row_of]:
        _say(f"{len(unknown)} of {len(side_of)} ids of {where} are of no film here, such as {_shown(unknown[0])}")
    return {
        name: np.array(sorted(row_of[film] for film in ids if film in row_of), np.int64)
        for name, ids in named.items()
    }


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
