"""What every encoder promises to the model that it is handed to, whichever was named."""

import zlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import for_all, run_variant, tiny_config

from mmfusion import inference
from mmfusion.config import ENCODERS
from mmfusion.models import build_model, encoders
from mmfusion.models.overview_encoders import BagEncoder
from mmfusion.models.poster_encoders import ResidualBlock
from mmfusion.schema import OVERVIEW, POSTER

WORDS = 30


def overview_encoder(name, **options):
    keras.utils.set_random_seed(1)
    config = tiny_config("joint", **for_all(vocabulary_size=WORDS), overview_encoder__name=name)
    return encoders.overview_encoder(config, **options)


def tokens(length=9):
    ids = np.random.default_rng(0).integers(1, WORDS, (5, length)).astype(np.int32)
    ids[0, 4:] = 0  # a short overview
    ids[1] = 0  # none
    return ids


@pytest.mark.parametrize("variant", ["poster", "overview", "joint", "late"])
@pytest.mark.parametrize("poster", ENCODERS[POSTER])
@pytest.mark.parametrize("overview", ENCODERS[OVERVIEW])
def test_any_two_encoders_go_with_any_variant(variant, poster, overview):
    names = {"poster_encoder__name": poster, "overview_encoder__name": overview}
    model = build_model(tiny_config(variant, **for_all(vocabulary_size=WORDS), **names), 3)
    found = model({POSTER: np.zeros((5, 16, 16, 3), np.float32), OVERVIEW: tokens()})
    assert found.shape == (5, 3)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", ENCODERS[OVERVIEW])
class TestOverviews:
    def test_features_do_not_depend_on_the_padding(self, name):
        encoder, ids = overview_encoder(name), tokens()
        padded = np.pad(ids, ((0, 0), (0, 20)))
        np.testing.assert_allclose(encoder(padded), encoder(ids), atol=1e-6)

    def test_as_a_sequence_padding_is_masked_and_everything_else_is_not(self, name):
        encoder, ids = overview_encoder(name, as_sequence=True), tokens()
        sequence, mask = encoder(ids)
        assert sequence.shape[:2] == mask.shape
        assert not np.asarray(mask)[1].any()
        assert np.asarray(mask)[2, :9].all()
        assert np.asarray(mask)[0, :9].sum() == 4


@pytest.mark.parametrize("name", ENCODERS[POSTER])
def test_as_a_sequence_a_poster_that_is_not_there_has_no_place_to_see(name):
    config = tiny_config("joint", poster_encoder__name=name)
    encoder = encoders.poster_encoder(config, as_sequence=True)
    posters = np.random.default_rng(0).random((2, 16, 16, 3)).astype(np.float32)
    posters[1] = 0
    sequence, mask = encoder(posters)
    assert sequence.shape[:2] == mask.shape
    assert np.asarray(mask)[0].all()
    assert not np.asarray(mask)[1].any()


def test_the_bag_is_the_mean_and_maximum_of_its_words_and_known_pairs():
    encoder = BagEncoder(
        WORDS, embedding_dim=4, pairs=7, ngrams=0, embedding_dropout=0.5, dense_units=(), dense_dropout=0.5
    )
    ids = np.array([[5, 6, 1, 8, 0, 0]], np.int32)  # 1 is out of the vocabulary: one pair is known
    encoder.build(ids.shape)
    encoder.pair_embedding.set_weights([np.random.default_rng(0).normal(size=(7, 4))])
    words, pairs = (np.asarray(layer.embeddings) for layer in (encoder.embedding, encoder.pair_embedding))
    seen = np.stack([words[5], words[6], words[1], words[8], pairs[(5 * 1_000_003 + 6 * 7919) % 7]])
    expected = np.concatenate([seen.mean(0), seen.max(0)])
    np.testing.assert_allclose(np.asarray(encoder(ids))[0], expected, atol=1e-6)


def test_the_bag_does_not_see_the_order_of_words_but_that_of_pairs():
    for pairs in (0, 500):
        encoder = BagEncoder(
            WORDS, embedding_dim=4, pairs=pairs, ngrams=0, embedding_dropout=0, dense_units=(), dense_dropout=0
        )
        encoder.build((None, None))
        if pairs:
            encoder.pair_embedding.set_weights([np.random.default_rng(0).normal(size=(pairs, 4))])
        one, other = encoder(np.array([[5, 6, 7], [7, 6, 5]], np.int32))
        assert np.allclose(one, other) == (pairs == 0)


def test_a_words_vector_has_the_mean_of_its_n_grams_in_it():
    vocabulary = ["", "[UNK]", "cats", "cat", "a", "Ünï"]
    encoder = BagEncoder(
        len(vocabulary), embedding_dim=4, pairs=0, ngrams=50, embedding_dropout=0, dense_units=(), dense_dropout=0
    )
    encoder.build((None, None))
    encoder.adapt(vocabulary)
    words, ngrams = (np.asarray(layer.embeddings) for layer in (encoder.embedding, encoder.ngram_embedding))
    parts = {2: ("<cat", "cats", "ats>"), 3: ("<cat", "cat>"), 5: ("<Ünï", "Ünï>")}  # a letter alone has none
    for token in range(1, len(vocabulary)):
        of_parts = [ngrams[zlib.crc32(part.encode()) % 50] for part in parts.get(token, ())]
        expected = words[token] + (np.mean(of_parts, axis=0) if of_parts else 0)
        found = np.asarray(encoder(np.array([[token, 0]], np.int32)))[0]
        np.testing.assert_allclose(found, np.concatenate([expected, expected]), atol=1e-6)


def test_a_trained_model_knows_its_words_n_grams_and_they_count_as_no_parameters(tmp_path, cache):
    run = run_variant("overview", tmp_path / "run", cache, overview_encoder__name="bag")
    model = inference.load_model(run)
    table = np.asarray(model.encoder.ngrams_of)
    model.encoder.adapt(run.vocabulary)
    np.testing.assert_array_equal(model.encoder.ngrams_of, table)
    assert table[2:].any(axis=1).mean() > 0.9
    trained = sum(w.shape.num_elements() for w in model.trainable_weights)
    assert run.report["parameters"] == model.count_params() == trained


def test_a_residual_block_adds_what_it_computes_to_what_it_was_given():
    """relu(F(x) + W x): equation 2 of He et al. 2016, at the block's own weights."""
    keras.utils.set_random_seed(0)
    block = ResidualBlock(3, strides=2)
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32))
    block.build(x.shape)
    for layer in (block.inside.layers[-1], block.inside.layers[1]):
        layer.gamma.assign(np.zeros(3))  # F is 0: what is left is the way around
    around = block.around.layers[0](x) / np.sqrt(1 + 1e-3)
    np.testing.assert_allclose(block(x), tf.nn.relu(around), atol=1e-5)
