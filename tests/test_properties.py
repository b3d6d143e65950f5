"""What holds for any input that Hypothesis can think of: the CSV, splits, groups of duplicates.

The same examples every time; more of them by hand:

    MMFUSION_EXAMPLES=20000 pytest -n 0 tests/test_properties.py
"""

import csv
import io
import os
import tempfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmfusion.data.multimodal_imdb.films_csv import parse_films
from mmfusion.data.splits import duplicate_groups, split_films
from mmfusion.errors import UserError
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


# ---------------------------------------------------------------- the CSV

texts = st.text(st.characters(exclude_categories=["Cs"]))  # all that UTF-8 can write, NUL and line ends included
ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}", fullmatch=True)
genre_names = texts.filter(
    lambda name: name.strip() and name.isprintable() and name not in ("Id", "Overview", "Genre")
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
    read_genres, rows = parse_films(file.getvalue().encode(encoding), "films.csv")
    assert read_genres == tuple(column for column in columns if column in genres)
    assert [(row.film, row.overview, set(row.genres)) for row in rows] == [
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
        genres, rows = parse_films(content, "films.csv")
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
    for number, overview in enumerate(overviews):
        if number == wrong:
            line = len(io.StringIO(head.getvalue(), newline=None).readlines()) + 1
        writer.writerow([f"tt{number}", overview, "2" if number == wrong else "1"])
    with pytest.raises(UserError, match=rf"films\.csv, line {line}: genre 'War' must be 0 or 1, not '2'"):
        parse_films(head.getvalue().encode(), "films.csv")


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


# ---------------------------------------------------------------- groups of duplicates

keys = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c", "d", "e"]), st.sampled_from([b"", b"1", b"2", b"a", b"3"]))
)


@given(keys)
def test_groups_of_duplicates_are_the_connected_components(keys):
    """As powers of the adjacency matrix find them."""
    near = np.eye(len(keys), dtype=bool)
    for i, one in enumerate(keys):
        for j, other in enumerate(keys):
            near[i, j] |= any(a and a == b for a, b in zip(one, other, strict=True))
    for _ in keys:
        near = near @ near
    groups = duplicate_groups(keys)
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], near)
