"""What holds for any input that Hypothesis can think of: the CSV, splits, duplicates, config, arrays, metrics.

The same examples every time; more of them by hand:

    MMFUSION_EXAMPLES=20000 pytest -n 0 tests/test_properties.py
"""

import csv
import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import FROM_FILMS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tables import films_in

from mmfusion.config import from_dict, resolve
from mmfusion.data.dealing import deal, is_near
from mmfusion.data.film_table import roles
from mmfusion.data.splits import duplicate_groups, split_films
from mmfusion.errors import UserError
from mmfusion.evaluation import metrics
from mmfusion.runs.arrays import parse_arrays, write_arrays
from mmfusion.schema import SPLITS

os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{tempfile.gettempdir()}/mmfusion-hypothesis")
settings.register_profile(
    "mmfusion",
    derandomize=True,
    database=None,  # nothing is left in the repository
    deadline=None,  # the machine may be busy
    max_examples=int(os.environ.get("MMFUSION_EXAMPLES", "200")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("mmfusion")


def outcome(call):
    """What a call gives, and what it says when it refuses; no other error may come out of it."""
    try:
        return call(), ""
    except UserError as error:
        return None, str(error)


# ---------------------------------------------------------------- the CSV

texts = st.text(st.characters(exclude_categories=["Cs"]))  # all that UTF-8 can write, NUL and line ends included
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True)
known = {*roles._IDS, *roles._OVERVIEWS, *roles._GENRES, *roles._POSTERS, *roles._SPLITS, *roles._GROUPS}
genre_names = texts.filter(
    lambda name: name.strip() and name.isprintable() and roles._plain(name) not in known  # nor "OVERVIEW"
)


@st.composite
def tables(draw):
    """Genres, films as (id, overview, genres), and where the columns stand."""
    genres = draw(st.lists(genre_names, min_size=1, max_size=5, unique=True))
    films = [
        (film, draw(texts), tuple(genre for genre in genres if draw(st.booleans())))
        for film in draw(st.lists(ids, min_size=1, max_size=8, unique=True))
    ]
    return genres, films, draw(st.permutations(["Id", "Overview", "Genre", *genres]))


@given(
    tables(),
    # With another line end than its own, Python 3.11's writer leaves some line breaks without quotes.
    st.sampled_from(
        [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]
    ),
    st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_what_a_csv_writer_writes_is_read_back_to_the_letter(table, form, encoding):
    (genres, films, columns), (line_end, quoting) = table, form
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, restval="0", lineterminator=line_end, quoting=quoting)
    writer.writeheader()
    for film, overview, of_film in films:
        writer.writerow({"Id": film, "Overview": overview, "Genre": "[]", **dict.fromkeys(of_film, "1")})
    read_genres, rows = films_in(file.getvalue().encode(encoding))
    assert read_genres == tuple(column for column in columns if column in genres)
    assert [(row.id, row.overview, set(row.genres)) for row in rows] == [
        (film, overview, set(of_film)) for film, overview, of_film in films
    ]


pieces = st.sampled_from(
    [
        b"Id",
        b"Overview",
        b"Genre",
        b"War",
        b",",
        b",",
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b'"',
        b"0",
        b"1",
        b"tt1",
        b"\0",
        b"\xff",
    ]
)


@given(st.one_of(st.binary(max_size=200), st.lists(pieces, max_size=40).map(b"".join)))
@example(b"\xef\xbb\xbf")
@example(b"Id,Overview,War\n\n\n")
@example(b'Id,Overview,War\n"tt1"x,y,1\n')
@example(b"I\0d,Overview,War\ntt1,x,1\n")
def test_any_bytes_are_films_or_one_line_that_names_the_file(content):
    said, genres, rows = "", (), []
    try:
        genres, rows = films_in(content)
    except UserError as error:
        said = str(error)
    assert ("films.csv" in said and "\n" not in said) if said else (genres and rows)
    for row in rows:
        assert row.overview.encode() in content.replace(b'""', b'"')
        assert set(row.genres) <= set(genres)


@given(st.lists(texts, min_size=1, max_size=6), st.data())
def test_a_wrong_row_is_named_by_the_line_where_it_begins(overviews, data):
    """Whatever lines the overviews before it have."""
    wrong = data.draw(st.integers(0, len(overviews) - 1))
    head = io.StringIO(newline="")
    writer = csv.writer(head)
    writer.writerow(["Id", "Overview", "War"])
    overviews += ["a", "b"]  # most of a column's cells are as they should be
    for number, overview in enumerate(overviews):
        if number == wrong:
            line = len(io.StringIO(head.getvalue(), newline=None).readlines()) + 1
        writer.writerow([f"tt{number}", overview, "2" if number == wrong else "1"])
    with pytest.raises(UserError, match=rf"films\.csv, line {line}: genre 'War' must be 0 or 1, not '2'"):
        films_in(head.getvalue().encode())


# ---------------------------------------------------------------- splits


@st.composite
def labelled_films(draw):
    films, genres = draw(st.integers(0, 60)), draw(st.integers(1, 5))
    labels = draw(arrays(np.int8, (films, genres), elements=st.integers(0, 1)))
    for column in range(genres):  # genres that no film has, or every one
        labels[:, column] = draw(st.sampled_from([labels[:, column], np.zeros(films), np.ones(films)]))
    groups = draw(st.sampled_from([np.arange(films), draw(arrays(np.int64, films, elements=st.integers(0, 40)))]))
    return np.array([f"f{number:02d}" for number in range(films)], dtype="<U3"), labels, groups


shares = st.sampled_from([(0.7, 0.1, 0.2), (0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33)])


@given(labelled_films(), shares, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_splits_are_disjoint_complete_whole_in_their_groups_and_blind_to_order(films, shares, seed, random):
    ids, labels, groups = films
    if len(set(groups)) < 10:
        with pytest.raises(UserError, match="too few to split"):
            split_films(ids, labels, groups, shares, seed)
        return
    split = split_films(ids, labels, groups, shares, seed)
    assert tuple(split) == SPLITS
    assert sorted(film for part in split.values() for film in part) == list(ids)
    assert all(split.values())
    part_of = {film: name for name, part in split.items() for film in part}
    for group in set(groups):
        assert len({part_of[film] for film in ids[groups == group]}) == 1
    order = random.sample(range(len(ids)), len(ids))
    assert split_films(ids[order], labels[order], 1000 - groups[order], shares, seed) == split
    if len(set(groups)) == len(groups):
        assert is_near([len(part) for part in split.values()], shares)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=8), shares, st.integers(0, 2**32 - 1))
@example([12] * 10, (0.7, 0.1, 0.2), 0)
def test_groups_are_dealt_near_the_shares_wherever_any_dealing_is(sizes, shares, seed):
    """As all dealings that there are find it."""
    sizes = np.array(sizes)
    split_of = deal(sizes, np.zeros((len(sizes), 0), int), shares, seed)
    films = np.bincount(split_of, sizes, 3)
    assert (films > 0).all()
    all_of_them = np.zeros((1, 3), int)
    for size in sizes:
        all_of_them = np.unique((all_of_them[:, None] + size * np.eye(3, dtype=int)).reshape(-1, 3), axis=0)
    assert is_near(films, shares) == any(is_near(one, shares) for one in all_of_them)


# ---------------------------------------------------------------- groups of duplicates

keys = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 2)), max_size=30)


@given(keys)
def test_groups_of_duplicates_are_the_connected_components(keys):
    """As powers of the adjacency matrix find them."""
    near = np.eye(len(keys), dtype=bool)
    for i, one in enumerate(keys):
        for j, other in enumerate(keys):
            near[i, j] |= any(a and a == b for a, b in zip(one, other, strict=True))
    for _ in keys:
        near = near @ near
    groups = duplicate_groups(np.array(keys, np.uint64).reshape(-1, 3))
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], near)


@given(keys)
def test_groups_are_numbered_as_a_forest_of_one_film_after_the_other_numbers_them(keys):
    """Splits of films that were prepared before stay what they were."""
    parent, seen = list(range(len(keys))), {}

    def root(i):
        while parent[i] != i:
            i = parent[i]
        return i

    for i, of_film in enumerate(keys):
        for kind, key in enumerate(of_film):
            if key:
                parent[root(i)] = root(seen.setdefault((kind, key), i))
    groups = duplicate_groups(np.array(keys, np.uint64).reshape(-1, 3))
    assert groups.tolist() == [root(i) for i in range(len(keys))]


# ---------------------------------------------------------------- configuration

CONFIG = resolve("joint").to_dict()
places = st.sampled_from(
    [(key,) for key in CONFIG] + [(a, b) for a, table in CONFIG.items() if isinstance(table, dict) for b in table]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(scalars, lambda values: st.lists(values) | st.dictionaries(st.text(), values), max_leaves=8)


def changed(place, value) -> dict:
    values = json.loads(json.dumps(CONFIG))
    table = values
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    return values


@given(places, anything)
def test_any_value_in_a_configuration_is_taken_as_it_is_or_refused_by_its_name(place, value):
    config, said = outcome(lambda: from_dict(changed(place, value), where="config.json"))
    if said:
        assert said.startswith("config.json: ")
        assert place[0] in said
        assert len(said.splitlines()) == 1
        return
    again = json.loads(json.dumps(config.to_dict()))
    assert from_dict(again, where="config.json") == config
    taken = config.to_dict()
    for key in place:
        taken = taken[key]
    # A table may leave out what it likes.
    assert taken == ({**taken, **value} if isinstance(value, dict) else value)


@given(st.text(), anything, st.sampled_from([(), ("data",), ("training",)]))
def test_any_other_key_is_refused_by_its_name(key, value, table):
    names = CONFIG if not table else CONFIG[table[0]]
    if key in names:
        return
    with pytest.raises(UserError, match="unknown key") as error:
        from_dict(changed((*table, key), value), where="config.json")
    assert len(str(error.value).splitlines()) == 1


@given(st.sampled_from(FROM_FILMS), st.integers(0, 2**31 - 1))
def test_an_override_changes_what_it_names_and_nothing_else(variant, seed):
    plain, other = resolve(variant).to_dict(), resolve(variant, overrides={"seed": seed}).to_dict()
    assert other == {**plain, "seed": seed, "split_seed": seed}


# ---------------------------------------------------------------- arrays in a file


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,20}", fullmatch=True),
        arrays(
            st.sampled_from([np.float32, np.uint8, np.int64, "U7"]), st.tuples(st.integers(0, 4), st.integers(0, 4))
        ),
        max_size=4,
    ),
    st.data(),
)
def test_arrays_come_back_as_they_were_and_a_changed_byte_is_noticed_or_changes_nothing(found, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "arrays.npz")
        write_arrays(path, found)
        content = path.read_bytes()
    again = parse_arrays(content, path)
    assert list(again) == list(found)
    for name, array in found.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    place, byte = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 255))
    damaged = content[:place] + bytes([byte]) + content[place + 1 :]
    again, said = outcome(lambda: parse_arrays(damaged, path))
    if said:
        assert len(said.splitlines()) == 1
    else:  # a name, or what a ZIP archive says of dates and systems
        for array, other in zip(found.values(), again.values(), strict=False):
            np.testing.assert_array_equal(array, other)


# ---------------------------------------------------------------- metrics


@st.composite
def predictions(draw):
    """True genres and probabilities of some films, with ties, and with genres that no film or every film has."""
    films, genres = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    y_true = draw(arrays(np.uint8, (films, genres), elements=st.integers(0, 1)))
    y_prob = draw(arrays(np.float32, (films, genres), elements=st.sampled_from([0, 0.1, 0.25, 0.5, 0.75, 1])))
    return y_true, y_prob


def values(report):
    for value in report.values():
        yield from values(value) if isinstance(value, dict) else [value]


@given(predictions())
def test_scores_are_within_their_bounds_or_undefined_and_do_not_depend_on_the_order_of_films(found):
    y_true, y_prob = found
    thresholds = metrics.tune_thresholds(y_true, y_prob)
    report = metrics.overall(y_true, y_prob, thresholds)
    for value in values({**report, "bce": 0.0}):
        assert value is None or 0 <= value <= 1 + 1e-12
    assert np.isfinite(report["bce"])
    np.testing.assert_array_equal(np.isnan(thresholds), ~y_true.any(axis=0))
    assert (report["ap_macro"] is None) == (not y_true.any())
    order = np.random.default_rng(0).permutation(len(y_true))
    shuffled = metrics.overall(y_true[order], y_prob[order], thresholds)
    for one, other in zip(values(report), values(shuffled), strict=True):
        assert one == (other if other is None else pytest.approx(other, abs=1e-12))


@given(predictions())
def test_a_tuned_threshold_is_as_good_on_its_own_films_as_any_other(found):
    y_true, y_prob = found
    thresholds = metrics.tune_thresholds(y_true, y_prob)
    for genre in np.flatnonzero(y_true.any(axis=0)):
        truth = y_true[:, genre]

        def f1(threshold, truth=truth, probability=y_prob[:, genre]):
            said = probability >= threshold
            return 2 * (said & (truth > 0)).sum() / max(said.sum() + truth.sum(), 1)

        best = max(f1(threshold) for threshold in (0, 0.1, 0.25, 0.5, 0.75, 1))
        assert f1(thresholds[genre]) == pytest.approx(best)


@given(predictions())
def test_right_and_certain_predictions_score_one(found):
    y_true, _ = found
    if not y_true.any():
        return
    report = metrics.overall(y_true, y_true.astype(np.float32), np.full(y_true.shape[1], 0.5))
    for score in ("ap_micro", "ap_macro", "lrap"):
        assert report[score] == pytest.approx(1)
    assert report["tuned"]["f1_micro"] == report["at_0.5"]["f1_macro"] == 1
    assert report["bce"] < 1e-6
