"""Films are kept so that a million of them have room: in files, and not as objects of Python."""

import weakref

import numpy as np
import pytest
from conftest import tiny_config, write_folder
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.data import prepared
from mmfusion.data.films import load_films
from mmfusion.data.on_disk import OnDisk
from mmfusion.data.synthetic import Builder
from mmfusion.data.text import encode_overviews
from mmfusion.data.texts import Texts, join
from mmfusion.evaluation import resampling
from mmfusion.training import inputs, preparation

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=12)


class TestTexts:
    @given(texts)
    def test_they_are_what_a_tuple_of_them_is(self, texts):
        ours, plain = Texts.of(texts), tuple(texts)
        assert ours == plain
        assert plain == ours
        assert list(ours) == texts
        assert len(ours) == len(plain)
        assert ours[1:4] == plain[1:4]
        assert [ours[i] for i in range(-len(plain), len(plain))] == [*plain, *plain]
        assert ours != (*plain, "one more")
        assert all(text in ours for text in texts)
        assert "something else" not in ours

    @given(st.lists(st.text("abc\n", max_size=3), unique=True, min_size=1), st.randoms())
    def test_places_are_found_of_texts_in_any_order(self, texts, random):
        some = random.sample(texts, random.randint(0, len(texts)))
        places = Texts.of(texts).rows(some)
        assert [texts[place] for place in places] == some
        assert Texts.of(texts).take(places) == some
        with pytest.raises(KeyError):
            Texts.of(texts).rows(["nobody's"])

    @given(texts, texts)
    def test_columns_are_joined_and_empty_cells_passed_over(self, one, other):
        columns = [Texts.of(column[: min(len(one), len(other))]) for column in (one, other)]
        assert list(join(columns)) == ["\n".join(filter(None, both)) for both in zip(*columns)]


def test_an_array_on_disk_gives_the_rows_of_one_in_memory(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 4, 3), np.uint8)
    (tmp_path / "file").write_bytes(b"head" + array.tobytes())
    on_disk = OnDisk(tmp_path / "file", np.uint8, array.shape, offset=4)
    for rows in (np.array([3, 1, 3]), np.array([], int), slice(2, 7), slice(None), 5, -1, [-9, 8]):
        np.testing.assert_array_equal(on_disk[rows], array[rows])
    np.testing.assert_array_equal(on_disk, array)
    assert on_disk.nbytes == array.nbytes
    with pytest.raises(IndexError):
        on_disk[9]
    (tmp_path / "file").write_bytes(b"head")
    with pytest.raises(OSError, match="shorter"):
        on_disk[0]


def test_no_more_than_some_films_are_in_memory_while_all_are_prepared(cache, monkeypatch):
    monkeypatch.setattr(prepared, "_WINDOW", 16)
    real, alive, most = Builder.films, weakref.WeakSet(), 0

    def watched(self, *args):
        nonlocal most
        for film in real(self, *args):
            alive.add(film.read_poster)
            yield film
            most = max(most, len(alive))

    monkeypatch.setattr(Builder, "films", watched)
    films = load_films(tiny_config("poster", data__films=80, data__films_seed=77).data, cache, poster_size=16)
    assert len(films) == 80
    assert 16 <= most <= 3 * 16


def test_a_prepared_folder_gives_back_what_was_written(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(prepared, "_BATCH", 7)
    data = {"data__dataset": "multimodal_imdb", "data__data_dir": str(write_folder(tmp_path / "films"))}
    films = load_films(tiny_config("overview", **data).data, cache, poster_size=16)
    assert films.ids == [f"tt{number:04d}" for number in range(40)]
    assert films.overviews == [f"A film about thing{number} and war{number % 3}" for number in range(40)]
    assert films.labels.dtype == np.uint8
    assert films.hashes.all()
    assert len(np.unique(films.hashes)) == 80


@pytest.mark.parametrize(("words", "columns"), [(12, 16), (20, 24), (64, 64), (65, 100), (200, 100)])
def test_tokens_have_the_columns_that_their_batches_have(words, columns, cache, monkeypatch):
    """And those are the same as of all columns, since models see how far a batch is padded."""
    monkeypatch.setattr(inputs, "_CHUNK", 9)
    config = tiny_config("overview", overview_encoder__bag__max_tokens=100)
    made = preparation.prepare(config, cache)
    long = Texts.of(["A lonely teacher."] * 30 + [" ".join(["film"] * words)] + ["A rival."] * 29)
    object.__setattr__(made.films, "texts", long)
    read = made.inputs(config)
    tokens = read.films["overview"].values
    whole = encode_overviews(list(long), made.fitted.vocabulary, 100)
    assert tokens.shape == (60, columns)
    np.testing.assert_array_equal(tokens, whole[:, :columns])
    assert not whole[:, columns:].any()
    everything = inputs.Inputs({"overview": inputs.Encoded(whole, "tokens")}, {})
    ours, theirs = (one.source(made.films.labels, 8).ordered(np.arange(60))[0] for one in (read, everything))
    for a, b in zip(ours.as_numpy_iterator(), theirs.as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(a[1], b[0])


def test_draws_are_the_same_however_many_are_drawn_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    truth, said = rng.integers(0, 2, (50, 3)), rng.random((2, 50, 3))
    ours, theirs = (resampling.Predicted(np.arange(50), truth, one, np.full(3, 0.5)) for one in said)
    found = []
    for cells in (10_000_000, 120):
        monkeypatch.setattr(resampling, "_CELLS", cells)
        monkeypatch.setattr(resampling, "_BLOCK", cells)
        draws = resampling.draw_films(50, 40, 0)
        scores, ap = resampling.weighted_scores(ours, draws)
        p_value, _ = resampling.paired_p_values([ours], [theirs], 99, 0, by_genre=False)
        found.append((draws, ap, p_value, *scores.values()))
    np.testing.assert_array_equal(found[0][0], np.random.default_rng(0).multinomial(50, np.full(50, 1 / 50), 40))
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(whole, parts, rtol=1e-12)
