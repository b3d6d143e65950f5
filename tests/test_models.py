"""One harness over all variants, then what the field's words demand of each of them."""

import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import FROM_FILMS, for_all, tiny_config

import mmfusion.models
from mmfusion.config import COMBINERS, OPERATORS, VARIANTS, Variant, resolve
from mmfusion.errors import UserError
from mmfusion.models import build_model, recurrent
from mmfusion.models.late import Combiner, cross_fitted
from mmfusion.models.poster_encoders import ResidualBlock
from mmfusion.models.recurrent import BidirectionalLSTM
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER

GENRES = 3
WORDS = 30
TWO_BLOCKS = {"poster_encoder__resnet__filters": [4, 4]}  # a tiny run has one


def make(variant, seed=1, **overrides):
    keras.utils.set_random_seed(seed)
    config = tiny_config(variant, **for_all(vocabulary_size=WORDS), **{**TWO_BLOCKS, **overrides})
    return build_model(config, GENRES)


def batch(films=5, tokens=9):
    rng = np.random.default_rng(0)
    ids = rng.integers(1, WORDS, (films, tokens)).astype(np.int32)
    ids[0, 4:] = 0  # a short overview
    return {POSTER: rng.random((films, 16, 16, 3), np.float32), OVERVIEW: ids}


def logits(model, inputs):
    return np.asarray(model(inputs, training=False))


def gradients(model, inputs):
    """The loss of a batch's predictions, and the gradient of each weight by its path; a missing one is an error.

    Joint fusion's heads of each encoder, which decide nothing, are left out.
    """
    labels = np.eye(len(inputs[POSTER]), GENRES, dtype=np.float32)
    with tf.GradientTape() as tape:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)(labels, model(inputs, training=False))
    heads = tuple(f"{modality}_head" for modality in MODALITIES)
    weights = [w for w in model.trainable_weights if not any(head in w.path for head in heads)]
    found = tape.gradient(loss, [w.value for w in weights])
    return float(loss), {w.path: np.asarray(tf.convert_to_tensor(g)) for w, g in zip(weights, found)}


def with_other(inputs, modality):
    other = {name: np.array(value) for name, value in inputs.items()}
    other[modality] = np.roll(other[modality], 1, axis=0)
    return other


def changes(model, modality) -> bool:
    inputs = batch()
    return not np.allclose(logits(model, inputs), logits(model, with_other(inputs, modality)), atol=1e-6)


@pytest.mark.parametrize("variant", FROM_FILMS)
class TestEveryVariant:
    def test_gives_one_logit_a_genre(self, variant):
        found = logits(make(variant), batch())
        assert found.shape == (5, GENRES)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()

    def test_comes_back_from_its_config(self, variant):
        model = make(variant)
        again = type(model).from_config(model.get_config())
        again.build({POSTER: (None, 16, 16, 3), OVERVIEW: (None, None)})
        again.set_weights(model.get_weights())
        assert again.get_config() == model.get_config()
        np.testing.assert_array_equal(logits(again, batch()), logits(model, batch()))

    def test_saved_and_loaded_gives_the_same_logits(self, variant, tmp_path):
        model = make(variant)
        model.save(tmp_path / "model.keras")
        whole = keras.saving.load_model(tmp_path / "model.keras")
        weights_only = make(variant, seed=2)
        weights_only.load_weights(tmp_path / "model.keras")
        for again in (whole, weights_only):
            np.testing.assert_array_equal(logits(again, batch()), logits(model, batch()))

    def test_one_fit_step_moves_its_weights_unless_it_is_frozen(self, variant):
        model = make(variant)
        before = [np.array(w) for w in model.trainable_weights]
        assert bool(before) == (variant != "late")
        if before:
            model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
            model.fit(batch(), np.eye(5, GENRES, dtype=np.float32), verbose=0)
            assert any(not np.array_equal(a, b) for a, b in zip(before, model.trainable_weights))

    def test_reads_the_modalities_that_its_name_says_and_no_other(self, variant):
        model, reads = make(variant), tiny_config(variant).reads
        assert changes(model, POSTER) == (variant not in ("overview", "bilstm")) == (POSTER in reads)
        assert changes(model, OVERVIEW) == (variant not in ("poster", "cnn")) == (OVERVIEW in reads)

    def test_bfloat16_arithmetic_gives_nearly_the_same_float32_logits(self, variant):
        model, mixed = make(variant), make(variant, training__precision="mixed_bfloat16")
        assert keras.config.dtype_policy().name == "float32"
        assert logits(mixed, batch()).dtype == np.float32
        np.testing.assert_allclose(logits(mixed, batch()), logits(model, batch()), atol=0.02)
        assert (logits(mixed, batch()) != logits(model, batch())).any()

    def test_padding_to_a_bucket_or_to_100_is_the_same_for_logits_loss_and_gradients(self, variant):
        model, inputs = make(variant, **for_all(max_tokens=100)), batch()
        padded = {**inputs, OVERVIEW: np.pad(inputs[OVERVIEW], ((0, 0), (0, 91)))}
        np.testing.assert_allclose(logits(model, padded), logits(model, inputs), atol=1e-5)
        (loss, found), (loss_100, found_100) = gradients(model, inputs), gradients(model, padded)
        assert loss == pytest.approx(loss_100, abs=1e-5)
        for path, gradient in found.items():
            np.testing.assert_allclose(gradient, found_100[path], atol=1e-5, err_msg=path)

    def test_its_logits_are_divided_by_its_temperature_which_is_no_parameter(self, variant):
        model = make(variant)
        before, parameters = logits(model, batch()), model.count_params()
        model.temperature.assign(2.0)
        np.testing.assert_array_equal(logits(model, batch()), before / 2)
        # Nor is the table in which a bag looks up its words' n-grams.
        counted = [w for w in model.weights if not w.path.endswith(("temperature", "ngrams_of"))]
        # Nor are heads that help training and decide nothing.
        heads = [w for w in counted if w.path.split("/")[1] in ("poster_head", "overview_head")]
        assert len(heads) == 2 * sum(len(getattr(model, name)) for name in model.auxiliary)
        assert parameters == sum(w.shape.num_elements() for w in counted if not any(w is one for one in heads))

    def test_an_empty_overview_and_no_poster_give_numbers(self, variant):
        inputs = {name: np.zeros_like(value) for name, value in batch().items()}
        assert np.isfinite(logits(make(variant), inputs)).all()


@pytest.mark.parametrize("operator", OPERATORS)
def test_joint_fusion_with_any_operator_reads_both_and_comes_back_from_its_file(operator, tmp_path):
    model = make("joint", joint__operator=operator)
    assert changes(model, POSTER)
    assert changes(model, OVERVIEW)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(logits(again, batch()), logits(model, batch()))


@pytest.mark.parametrize(("variant", "count"), [("cnn", 3_464_601), ("bilstm", 4_303_129)])
def test_the_reports_networks_have_the_reports_parameters(variant, count):
    assert build_model(resolve(variant, recipe="report"), 25).count_params() == count


def layers_of(variant) -> set[type]:
    return {type(layer) for layer in make(variant)._flatten_layers()}


def test_cnn_and_bilstm_are_what_they_are_called():
    assert keras.layers.Conv2D in layers_of("cnn")
    assert ResidualBlock not in layers_of("cnn")
    assert BidirectionalLSTM in layers_of("bilstm")
    assert ResidualBlock in layers_of("poster")  # with the default's encoder, which is none
    assert BidirectionalLSTM not in layers_of("overview")


@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 0.3])
def test_the_bidirectional_lstm_is_keras_own(return_sequences, dropout, recurrent_dropout):
    """Outputs and all gradients, with padding anywhere, and with the dropout masks of the same seeds."""
    rng = np.random.default_rng(0)
    sequences = tf.constant(rng.normal(size=(4, 9, 5)), tf.float32)
    mask = rng.random((4, 9)) < 0.7
    mask[0] = False
    weight = rng.normal(size=(4, 9, 14) if return_sequences else (4, 14)).astype(np.float32)
    found, start = [], None
    for kind in (keras.layers.Bidirectional, BidirectionalLSTM):
        lstm = keras.layers.LSTM(
            7, dropout=dropout, recurrent_dropout=recurrent_dropout, return_sequences=return_sequences, seed=1
        )
        layer = kind(lstm)
        layer.build(sequences.shape)
        start = start or layer.get_weights()
        layer.set_weights(start)
        with tf.GradientTape() as tape:
            tape.watch(sequences)
            outputs = layer(sequences, mask=tf.constant(mask), training=True)
            loss = tf.reduce_sum(outputs * weight)
        found.append([outputs, *tape.gradient(loss, [sequences, *[w.value for w in layer.trainable_weights]])])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_where_there_is_a_gpu_keras_computes_its_lstm_itself(monkeypatch):
    """It has cuDNN's kernels there; to the byte its own, which ours is not."""
    monkeypatch.setattr(recurrent, "has_gpu", lambda: True)
    sequences = keras.random.normal((4, 9, 5), seed=0)
    mask = np.arange(9) < np.array([[9], [4], [1], [0]])
    own, keras_own = (kind(keras.layers.LSTM(7)) for kind in (BidirectionalLSTM, keras.layers.Bidirectional))
    for layer in (own, keras_own):
        layer.build(sequences.shape)
    own.set_weights(keras_own.get_weights())
    ours, theirs = (layer(sequences, mask=tf.constant(mask)) for layer in (own, keras_own))
    np.testing.assert_array_equal(ours, theirs)


def test_joint_loss_reaches_both_encoders():
    _, found = gradients(make("joint"), batch())
    for encoder in ("poster_encoder", "overview_encoder"):
        parts = [g for path, g in found.items() if encoder in path]
        assert parts
        assert any(np.abs(g).max() > 0 for g in parts)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_bidirectional_lstm_trains_in_a_graph_without_a_mask(dtype):
    """As `fit` runs it, with lengths not known beforehand; in bfloat16 the gradients are nearly the same."""
    sequences = tf.constant(np.random.default_rng(0).normal(size=(3, 6, 4)), tf.float32)
    found, start = [], None
    for kind, policy in ((keras.layers.Bidirectional, "float32"), (BidirectionalLSTM, dtype)):
        layer = kind(keras.layers.LSTM(5, dtype=policy), dtype=policy)
        layer.build(sequences.shape)
        start = start or layer.get_weights()
        layer.set_weights(start)

        @tf.function(input_signature=[tf.TensorSpec((None, None, 4))])
        def gradients_of(x, layer=layer):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.cast(layer(x, training=True), tf.float32))
            return tape.gradient(loss, [w.value for w in layer.trainable_weights])

        found.append(gradients_of(sequences))
    for theirs, ours in zip(*found, strict=True):
        assert ours.dtype == tf.float32
        np.testing.assert_allclose(
            ours, theirs, **({"atol": 1e-5} if dtype == "float32" else {"rtol": 0.1, "atol": 0.05})
        )


def test_early_has_one_encoder_that_reads_both():
    """Before the shared encoder a poster meets one linear map and a word one table, and nothing else."""
    model = make("early")
    before = {"to_patches", "patch_position", "word_embedding", "word_position", "modality"}
    inside = {path.split("/")[1] for path in (w.path for w in model.trainable_weights)}
    assert before <= inside
    shared = [path for path in inside - before if "transformer_block" in path]
    assert len(shared) == len(model.encoder)
    # Words reach patches and patches words already inside the first block.
    sequence = np.random.default_rng(0).random((1, 6, 8), np.float32)
    other = sequence.copy()
    other[0, 5] = other[0, 5, ::-1]
    block = model.encoder[0]
    mask = np.ones((1, 1, 6), bool)
    first, second = (np.asarray(block(s, mask))[0, 0] for s in (sequence, other))
    assert not np.allclose(first, second, atol=1e-6)


def test_early_fusions_patches_may_overlap():
    assert make("early").patch_position.position.shape[0] == 2 * 2  # of 16 pixels a side, 8 a patch
    assert make("early", early__overlap=True).patch_position.position.shape[0] == 3 * 3
    with pytest.raises(UserError, match=r"early\.patch_size 1 is odd"):
        make("early", early__patch_size=1, early__overlap=True)


def test_early_fusion_reads_fewer_words_in_training_where_words_are_dropped():
    model, inputs = make("early", early__dropout=0.0, early__word_dropout=0.95), batch(films=40, tokens=3)
    without = logits(model, {**inputs, OVERVIEW: np.zeros_like(inputs[OVERVIEW])})
    trained = np.asarray(model(inputs, training=True))
    gone = np.isclose(trained, without, atol=1e-6).all(1)
    assert 0.6 < gone.mean() < 1  # of three words none is left in 0.86 of films
    assert not np.isclose(logits(model, inputs), without, atol=1e-6).all(1).any()


def test_early_fusion_knows_words_by_what_they_share():
    model, inputs = make("early", early__ngrams=50), batch()
    model.adapt(["", "[UNK]", *(f"word{number}" for number in range(WORDS - 2))])
    before = logits(model, inputs)
    model.ngram_embedding.embeddings.assign(np.zeros(model.ngram_embedding.embeddings.shape))
    assert not np.allclose(logits(model, inputs), before, atol=1e-6)


def test_late_has_nothing_to_train_and_its_parts_do_not_know_each_other():
    model, inputs = make("late"), batch()
    assert model.trainable_weights == []
    for own, other in ((POSTER, OVERVIEW), (OVERVIEW, POSTER)):
        part = model.models[own]
        without = {**inputs, other: np.zeros_like(inputs[other])}
        np.testing.assert_array_equal(logits(part, without), logits(part, inputs))
        without = {**inputs, own: np.zeros_like(inputs[own])}
        assert not np.allclose(logits(part, without), logits(part, inputs))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class TestCombiner:
    rng = np.random.default_rng(3)
    poster = rng.normal(size=(200, GENRES)).astype(np.float32)
    overview = rng.normal(size=(200, GENRES)).astype(np.float32)

    def fitted(self, kind, labels):
        combiner = Combiner(kind)
        combiner.build([(None, GENRES), (None, GENRES)])
        combiner.fit([self.poster, self.overview], labels)
        return combiner

    def test_mean_averages_probabilities(self):
        found = self.fitted("mean", np.zeros((200, GENRES)))([self.poster, self.overview])
        expected = (sigmoid(self.poster) + sigmoid(self.overview)) / 2
        np.testing.assert_allclose(sigmoid(np.asarray(found)), expected, atol=1e-6)

    def test_mean_is_finite_where_probabilities_round_to_0_and_1(self):
        combiner = self.fitted("mean", np.zeros((200, GENRES)))
        extreme = np.array([[200.0, -200.0, 200.0]], np.float32)
        found = np.asarray(combiner([extreme, -extreme]))
        np.testing.assert_allclose(found, 0, atol=1e-5)
        np.testing.assert_allclose(np.asarray(combiner([extreme, extreme])), extreme, rtol=1e-5)

    def test_product_is_bayes_rule_where_the_modalities_tell_independent_things(self):
        rng = np.random.default_rng(0)
        truth = rng.random((100_000, 1)) < 0.1
        # Two Gaussians of unit width around 0 and 1: log p(x | yes) - log p(x | no) = x - 1/2.
        ratios = [truth + rng.normal(size=truth.shape) - 0.5 for _ in range(2)]
        prior = np.log(0.1 / 0.9)
        combiner = Combiner("product")
        combiner.build([(None, 1), (None, 1)])
        logits = [(prior + ratio).astype(np.float32) for ratio in ratios]
        combiner.fit(logits, truth.astype(np.float32))
        np.testing.assert_allclose(np.asarray(combiner(logits)), prior + sum(ratios), atol=0.05)

    def test_product_of_a_genre_that_no_film_has_stays_finite(self):
        combiner = self.fitted("product", np.zeros((200, GENRES)))
        found = np.asarray(combiner([self.poster, self.overview]))
        np.testing.assert_allclose(found, self.poster + self.overview + np.log(201), rtol=1e-5)

    @pytest.mark.parametrize("kind", ["weighted", "stacked"])
    def test_fitted_ones_trust_the_model_that_knows(self, kind):
        labels = np.stack([self.poster[:, 0] > 0, self.overview[:, 1] > 0, self.poster[:, 2] > 9], 1)
        combiner = self.fitted(kind, labels.astype(np.float32))
        poster, overview = np.asarray(combiner.model_weights)
        assert poster[0] > 2 * overview[0]
        assert overview[1] > 2 * poster[1]
        # No film of the third genre: it is left as it was.
        assert (poster[2], overview[2]) == (0.5, 0.5)

    @pytest.mark.parametrize("kind", COMBINERS)
    def test_three_models_are_combined_as_two_are(self, kind):
        third = self.rng.normal(size=(200, GENRES)).astype(np.float32)
        logits, labels = [self.poster, self.overview, third], (third > 0).astype(np.float32)
        combiner = Combiner(kind)
        combiner.build([(None, GENRES)] * 3)
        combiner.fit(logits, labels)
        weights, found = np.asarray(combiner.model_weights), np.asarray(combiner(logits))
        if kind == "mean":
            np.testing.assert_allclose(sigmoid(found), np.mean([sigmoid(z) for z in logits], axis=0), atol=1e-6)
        elif kind == "product":
            prior = np.log((201 - labels.sum(axis=0)) / (labels.sum(axis=0) + 1))
            np.testing.assert_allclose(found, sum(logits) + 2 * prior, rtol=1e-4)
        else:
            assert (weights[2] > 2 * weights[:2]).all()


def test_confidence_trusts_a_model_where_it_is_sure():
    """Of half of the films the poster's model knows all, of the others nothing; the overview's some of each."""
    rng = np.random.default_rng(0)
    truth = rng.random((400, 6)) < 0.5
    knows = rng.random((400, 1)) < 0.5
    guess = np.where(rng.random(truth.shape) < 0.5, 0.7, -0.7)
    poster = np.where(knows, np.where(truth, 2.0, -2.0), guess).astype(np.float32)
    overview = np.where(truth == (rng.random(truth.shape) < 0.8), 1.0, -1.0).astype(np.float32)
    labels, present = truth.astype(np.float32), np.ones((2, 400), bool)

    def loss(kind):
        y_prob = cross_fitted(kind, [poster, overview], labels, present, folds=5, seed=0)
        return -np.mean(labels * np.log(y_prob) + (1 - labels) * np.log(1 - y_prob))

    assert loss("confidence") < min(loss(kind) for kind in COMBINERS if kind != "confidence") - 0.02


def test_a_combiner_that_is_cross_fitted_tells_of_films_that_did_not_fit_it():
    """With labels that nothing predicts, many weights fitted on the films themselves look better than none."""
    rng = np.random.default_rng(0)
    poster, overview = rng.normal(size=(2, 60, 40)).astype(np.float32)
    labels = (rng.random((60, 40)) < 0.5).astype(np.float32)

    def loss(y_prob):
        return -np.mean(labels * np.log(y_prob) + (1 - labels) * np.log(1 - y_prob))

    combiner = Combiner("stacked")
    combiner.build([poster.shape, overview.shape])
    combiner.fit([poster, overview], labels)
    flattered = loss(np.asarray(keras.ops.sigmoid(combiner([poster, overview]))))
    present = np.ones((2, len(labels)), bool)
    honest = loss(cross_fitted("stacked", [poster, overview], labels, present, folds=5, seed=0))
    guessed = loss(np.tile(labels.mean(axis=0), (len(labels), 1)))
    assert flattered < guessed < honest


def test_the_readmes_variant_of_ones_own_works(monkeypatch, tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    (tmp_path / "gated.py").write_text(code)
    monkeypatch.setattr(mmfusion.models, "__path__", [*mmfusion.models.__path__, str(tmp_path)])
    monkeypatch.setitem(VARIANTS, "gated", Variant("gated.GatedFusion"))
    monkeypatch.delitem(sys.modules, "mmfusion.models.gated", raising=False)
    harness = TestEveryVariant()
    harness.test_gives_one_logit_a_genre("gated")
    harness.test_comes_back_from_its_config("gated")
    harness.test_saved_and_loaded_gives_the_same_logits("gated", tmp_path)
    harness.test_one_fit_step_moves_its_weights_unless_it_is_frozen("gated")
    harness.test_reads_the_modalities_that_its_name_says_and_no_other("gated")
    harness.test_padding_to_a_bucket_or_to_100_is_the_same_for_logits_loss_and_gradients("gated")
    harness.test_its_logits_are_divided_by_its_temperature_which_is_no_parameter("gated")
