"""That the two sides of the throughput benchmark do the same work, and that it is counted right."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, command

from benchmarks import notebook, sides, throughput
from benchmarks.flops import training_flops
from benchmarks.options import OPTIONS, Varied
from benchmarks.sides import Product, Worker
from benchmarks.throughput import Row
from mmfusion.config import resolve
from mmfusion.errors import UserError
from mmfusion.models import build_model
from mmfusion.models.recurrent import BidirectionalLSTM
from mmfusion.schema import OVERVIEW, POSTER

FILMS, GENRES = 8, 25


@pytest.mark.parametrize("variant", ["poster", "overview"])
def test_both_sides_compute_the_same_probabilities(variant):
    """With the same weights; the notebook pads every overview to 100 tokens, the product to a bucket."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 25, FILMS)
    tokens = np.where(np.arange(100) < lengths[:, None], rng.integers(1, 10_000, (FILMS, 100)), 0).astype(np.int32)
    posters = rng.random((FILMS, 64, 64, 3), np.float32)
    ours = build_model(resolve(variant, recipe="report"), GENRES)
    theirs = notebook.MODELS[variant](GENRES)
    # Keras gives the weights of our layers in another order, and a temperature that the notebook has not.
    order = ("embedding", "conv", "bidirectional", "dense", "head")
    weights = sorted(
        ours.trainable_weights, key=lambda weight: next(i for i, n in enumerate(order) if n in weight.path)
    )
    theirs.set_weights([keras.ops.convert_to_numpy(weight) for weight in weights])
    logits = ours({POSTER: posters, OVERVIEW: tokens[:, :24]}, training=False)
    probabilities = theirs(posters if variant == "poster" else tokens, training=False)
    np.testing.assert_allclose(keras.ops.sigmoid(logits), probabilities, atol=1e-5)


def test_the_work_of_known_layers_is_counted():
    dense = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7)])
    assert training_flops(dense, [np.zeros((2, 5), np.float32)] * 3) == 3 * 3 * 2 * (2 * 5 * 7)
    lstm = keras.Sequential([keras.Input((None, 5)), keras.layers.Bidirectional(keras.layers.LSTM(4))])
    steps = [training_flops(lstm, [np.zeros((2, t, 5), np.float32)]) for t in (1, 9)]
    assert steps == [t * 3 * 2 * 2 * 2 * (5 * 16 + 4 * 16) for t in (1, 9)]


def test_a_part_that_is_frozen_is_counted_too():
    inputs = {POSTER: np.zeros((2, 64, 64, 3), np.float32), OVERVIEW: np.ones((2, 9), np.int32)}
    count = {v: training_flops(build_model(resolve(v), GENRES), [inputs]) for v in ("poster", "overview", "late")}
    assert count["late"] == count["poster"] + count["overview"] > 0


def test_the_notebook_reads_the_films_of_a_folder(folder):
    films = notebook.Notebook(folder)
    batches = [*films.posters(0, 40), *films.tokens(0, 40)]
    shapes = [tuple(first.shape) for first, _ in batches]
    assert shapes == [(40, 64, 64, 3), (40, 100)]
    assert batches[0][0].dtype == tf.float32
    np.testing.assert_array_equal(batches[0][1], batches[1][1])


def test_better_is_more_films_or_fewer_seconds():
    assert Row("a", "films/s", {"mmfusion": [90.0, 100.0, 110.0], "notebook": [50.0]}).ratio == 2
    assert Row("a", "s", {"mmfusion": [90.0, 100.0, 110.0], "notebook": [50.0]}).ratio == 0.5
    assert Row("a", "s", {"mmfusion": [1.0], "notebook": []}).ratio is None


class Side:
    """Stands in for a side of the benchmark in a worker's process."""

    def double(self, number):
        return 2 * number

    def fail(self):
        raise MemoryError("no room\nfor more")


def test_a_worker_answers_and_its_errors_come_back_as_one_line():
    worker = Worker(Side)
    assert worker.ask("double", 21) == 42
    with pytest.raises(UserError, match=r"^MemoryError: no room$"):
        worker.ask("fail")
    worker.close()


@pytest.fixture
def tiny(monkeypatch):
    """Whatever is timed is tiny, and early fusion knows fewer words than the others."""

    def resolved(variant, *, recipe, overrides):
        words = {"early.vocabulary_size": 10, "overview_encoder.bilstm.vocabulary_size": 30}
        return resolve(variant, recipe=recipe, overrides={**TINY, **overrides, **words})

    monkeypatch.setattr(sides, "resolve", resolved)


def test_a_variant_with_a_vocabulary_of_its_own_is_timed(tiny, cache):
    product = Product("report", {}, cache)
    product.warm_up("early")
    words = {weight.path: weight.shape[0] for weight in product._models["early"].trainable_weights}
    assert words["early/word_embedding/embeddings"] == 10
    assert product.epoch("early") > 0
    assert product.predict("early") > 0


def test_the_option_of_keras_own_lstm_builds_it(tiny, cache):
    option = next(option for option in OPTIONS if option.keras_lstm)
    try:
        kinds = {type(layer) for layer in Varied(option, {}, cache)._build("overview")._flatten_layers()}
    finally:
        mock.patch.stopall()
    assert {keras.layers.Bidirectional, keras.layers.LSTM} <= kinds
    assert BidirectionalLSTM not in kinds


def test_the_old_flag_says_what_it_is_called_now(monkeypatch, capsys, tmp_path):
    assert command(throughput.main, monkeypatch, "--films", "5000", "20000", "--out", tmp_path / "out") == 2
    assert capsys.readouterr().err == "mmfusion: --films: the number of synthetic films is --film-count now\n"
    assert not (tmp_path / "out").exists()
