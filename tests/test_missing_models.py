"""Models of films without a poster or an overview, and joint fusion's balance of the modalities."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config
from test_models import GENRES, batch, gradients, logits, make

from mmfusion.config import COMBINERS
from mmfusion.models.balance import ALPHA, coefficients, modulate
from mmfusion.models.missing import MissingEmbedding, drop_one, presence
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training.checkpoint import EpochSeeds
from mmfusion.training.fitting import compile_model

LABELS = np.eye(5, GENRES, dtype=np.float32)


def without(inputs, modality, films=slice(None)):
    """The same films, some of them without a modality."""
    other = {name: np.array(value) for name, value in inputs.items()}
    other[modality][films] = 0
    return other


def test_presence_is_told_from_zeros_and_from_the_encoders_own_padding():
    inputs = without(without(batch(), POSTER, 1), OVERVIEW, 2)
    there = presence({name: tf.constant(value) for name, value in inputs.items()})
    assert there[POSTER].numpy().tolist() == [True, False, True, True, True]
    assert there[OVERVIEW].numpy().tolist() == [True, True, False, True, True]
    own = {**inputs, OVERVIEW: np.where(inputs[OVERVIEW] == 0, 7, inputs[OVERVIEW])}  # 0 is a word there
    there = presence({name: tf.constant(value) for name, value in own.items()}, padding={OVERVIEW: 7})
    assert there[OVERVIEW].numpy().tolist() == [True, True, False, True, True]
    features = {POSTER: tf.constant([[0.0, 0.0], [0.0, -1.0]]), OVERVIEW: tf.constant([[[0.0]], [[1e-6]]])}
    for found in presence(features).values():
        assert found.numpy().tolist() == [False, True]


class TestJoint:
    @pytest.mark.parametrize("operator", ["concat", "cross_attention"])
    @pytest.mark.parametrize("modality", [POSTER, OVERVIEW])
    def test_an_absent_modality_trains_its_embedding_and_not_its_encoder(self, modality, operator):
        _, found = gradients(make("joint", joint__operator=operator), without(batch(), modality))
        own, other = ("poster", "overview") if modality == POSTER else ("overview", "poster")

        def size(part):
            return max(np.abs(gradient).max() for path, gradient in found.items() if part in path)

        assert size(f"missing_{own}") > 0
        assert size(f"{own}_encoder") == 0
        assert size(f"missing_{other}") == 0
        assert size(f"{other}_encoder") > 0

    def test_embeddings_do_not_matter_to_films_that_have_both(self):
        model, inputs = make("joint", joint__modality_dropout=0.0), without(batch(), POSTER, 1)
        before = logits(model, inputs)
        embedding = model.missing[POSTER].embedding
        embedding.assign(keras.ops.ones_like(embedding))
        after = logits(model, inputs)
        np.testing.assert_array_equal(after[[0, 2, 3, 4]], before[[0, 2, 3, 4]])
        assert not np.allclose(after[1], before[1])

    def test_an_absent_sequence_is_its_embedding_alone(self):
        layer, sequence = MissingEmbedding(), tf.ones((2, 3, 4))
        mask, there = tf.constant([[True, True, False]] * 2), tf.constant([True, False])
        layer([sequence, mask], there)
        layer.embedding.assign([5.0] * 4)
        found, read = layer([sequence, mask], there)
        np.testing.assert_array_equal(read, [[True, True, False], [True, False, False]])
        np.testing.assert_array_equal(found[0], sequence[0])
        np.testing.assert_array_equal(found[1, 0], [5.0] * 4)

    def test_modality_dropout_takes_either_as_often_never_both_and_never_the_only_one(self):
        there = {POSTER: np.arange(4000) % 4 != 0, OVERVIEW: np.arange(4000) % 4 != 1}
        after = drop_one({name: tf.constant(of) for name, of in there.items()}, 0.4, keras.random.SeedGenerator(0))
        poster, overview = (np.array(after[modality]) for modality in (POSTER, OVERVIEW))
        both = there[POSTER] & there[OVERVIEW]
        assert (poster | overview).all()
        np.testing.assert_array_equal(poster[~both], there[POSTER][~both])
        np.testing.assert_array_equal(overview[~both], there[OVERVIEW][~both])
        assert np.mean(~poster[both]) == pytest.approx(0.2, abs=0.03)
        assert np.mean(~overview[both]) == pytest.approx(0.2, abs=0.03)

    def test_modality_dropout_takes_each_of_three_as_often(self):
        present = {name: tf.constant(np.ones(6000, bool)) for name in "abc"}
        after = np.array(list(drop_one(present, 0.3, keras.random.SeedGenerator(0)).values()))
        assert after.sum(axis=0).min() == 2
        assert (~after).mean(axis=1) == pytest.approx([0.1] * 3, abs=0.02)

    @pytest.mark.parametrize("operator", ["concat", "cross_attention"])
    def test_modality_dropout_and_noise_depend_on_seed_and_epoch_alone(self, operator):
        settings = {"joint__operator": operator}
        settings |= {"joint__modality_dropout": 0.5, "joint__balance": "ogm_ge", "joint__unimodal_loss": 0.1}
        model = make("joint", **settings)
        start, found = model.get_weights(), []
        for epoch, anew in ((3, True), (4, False), (3, True)):
            model.set_weights(start)
            if anew:
                model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
                model.optimizer.build(model.trainable_variables)  # else the first step is traced twice
            seeds = EpochSeeds(0)
            seeds.set_model(model)
            seeds.on_epoch_begin(epoch)
            model.train_on_batch(batch(), LABELS)
            found.append(np.concatenate([np.ravel(weight) for weight in model.get_weights()]))
        np.testing.assert_array_equal(found[0], found[2])
        assert (found[0] != found[1]).any()

    def test_the_encoders_own_losses_change_their_gradients_and_not_the_predictions(self):
        """A step of plain gradient descent moves a weight by its gradient; no film here has an overview."""
        found = []
        for weight in (0.0, 1.0):
            model = make("joint", joint__dropout=0.0, joint__modality_dropout=0.0, joint__unimodal_loss=weight)
            said, before = logits(model, batch()), [np.array(w) for w in model.trainable_weights]
            model.compile(keras.optimizers.SGD(1.0), keras.losses.BinaryCrossentropy(from_logits=True))
            seeds = EpochSeeds(0)
            seeds.set_model(model)
            seeds.on_epoch_begin(0)
            model.train_on_batch(without(batch(), OVERVIEW), LABELS)
            after = [(w.path.split("/")[1], np.array(w)) for w in model.trainable_weights]
            found.append((said, [(part, new - old) for old, (part, new) in zip(before, after)]))
        (said, moved), (also_said, moved_more) = found
        np.testing.assert_array_equal(said, also_said)
        heads = moved_more[len(moved) :]
        assert {part for part, _ in heads} == {"poster_head", "overview_head"}
        assert all((np.abs(change).max() > 0) == (part == "poster_head") for part, change in heads)
        changed = {part for (part, one), (_, other) in zip(moved, moved_more) if not np.allclose(one, other)}
        assert changed == {"poster_encoder"}


class TestBalance:
    def test_the_coefficients_are_the_papers(self):
        rng = np.random.default_rng(0)
        poster, overview = rng.normal(2, 1, (6, GENRES)), rng.normal(-1, 1, (6, GENRES))
        labels, both = (rng.random((6, GENRES)) < 0.5).astype(np.float32), np.array([1, 1, 0, 1, 1, 0], bool)
        scores = []
        for own in (poster, overview):
            true_ones = [(film, genre) for film, genre in np.argwhere(labels) if both[film]]
            scores.append(sum(1 / (1 + np.exp(-own[at])) for at in true_ones))
        assert scores[0] > scores[1]
        found = coefficients([poster.astype(np.float32), overview.astype(np.float32)], labels, both)
        np.testing.assert_allclose(found, [1 - np.tanh(ALPHA * scores[0] / scores[1]), 1], rtol=1e-5)
        found = coefficients([overview.astype(np.float32), poster.astype(np.float32)], labels, both)
        np.testing.assert_allclose(found, [1, 1 - np.tanh(ALPHA * scores[0] / scores[1])], rtol=1e-5)
        third = rng.normal(0, 1, (6, GENRES)).astype(np.float32)
        scores.append(sum(1 / (1 + np.exp(-third[at])) for at in true_ones))
        others = [(sum(scores) - score) / 2 for score in scores]  # of more than two: the mean of the others
        expected = [1 - np.tanh(ALPHA * s / o) if s > o else 1 for s, o in zip(scores, others)]
        found = coefficients([np.float32(poster), np.float32(overview), third], labels, both)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for nothing in ((np.zeros_like(labels), both), (labels, np.zeros_like(both))):
            np.testing.assert_array_equal(coefficients([poster, overview], *nothing), [1, 1])

    def test_noise_is_as_large_as_the_gradient_and_only_where_there_is_one(self):
        gradient = np.random.default_rng(0).normal(0.5, 2, (400, 50)).astype(np.float32)
        rows = tf.IndexedSlices(tf.constant(gradient), tf.range(400) * 2, tf.constant([800, 50]))
        found = modulate(rows, 0.25, keras.random.SeedGenerator(1)).numpy()
        assert (found[1::2] == 0).all()
        noise = found[::2] - 0.25 * gradient
        assert noise.mean() == pytest.approx(0, abs=0.1)
        assert noise.std() == pytest.approx(gradient.std(), rel=0.03)
        assert abs(np.corrcoef(noise.ravel(), gradient.ravel())[0, 1]) < 0.03
        assert modulate(None, 0.25, keras.random.SeedGenerator(1)) is None

    def test_a_step_modulates_the_encoders_and_nothing_else(self, monkeypatch):
        """With coefficients of 0 and no noise the encoders stay, while their heads and the fusion learn."""
        monkeypatch.setattr("mmfusion.models.balance.coefficients", lambda *_: (0.0, 0.0))
        monkeypatch.setattr(
            "mmfusion.models.balance.modulate", lambda gradient, by, _: by * tf.convert_to_tensor(gradient)
        )
        model = make("joint", joint__balance="ogm_ge", joint__modality_dropout=0.5)
        before = {w.path: np.array(w) for w in model.trainable_weights}
        model.compile(keras.optimizers.SGD(1.0), keras.losses.BinaryCrossentropy(from_logits=True))
        model.fit(batch(), LABELS, batch_size=5, epochs=3, verbose=0)
        moved = {w.path.split("/")[1] for w in model.trainable_weights if (before[w.path] != np.array(w)).any()}
        assert not moved & {"poster_encoder", "overview_encoder"}
        assert {"poster_head", "overview_head", "head", "missing_poster", "missing_overview"} <= moved

    def test_the_loss_that_is_reported_is_that_of_the_predictions(self):
        model = make("joint", joint__balance="ogm_ge", joint__unimodal_loss=3.0, joint__dropout=0.0)
        compile_model(model, tiny_config("joint"))
        with_heads = model.train_on_batch(batch(), LABELS, return_dict=True)
        assert set(with_heads) == {"loss", "precision", "recall", "pr_auc"}
        assert with_heads["loss"] < 1.2  # about log 2; the weighted sum would be about 5


@pytest.mark.parametrize("kind", COMBINERS)
def test_late_fusion_leaves_a_film_with_one_modality_to_its_model_and_others_as_they_were(kind):
    model, inputs = make("late", late__combiner=kind), batch()
    model.combiner.model_weights.assign([[0.2, 0.5, 0.9], [0.8, 0.5, 0.1]])
    some = without(without(without(without(inputs, POSTER, 1), OVERVIEW, 2), POSTER, 3), OVERVIEW, 3)
    found, poster, overview = (logits(one, some) for one in (model, *model.models.values()))
    combined = np.asarray(model.combiner([poster, overview]))
    np.testing.assert_array_equal(found[1], overview[1])
    np.testing.assert_array_equal(found[2], poster[2])
    np.testing.assert_array_equal(found[[0, 3, 4]], combined[[0, 3, 4]])
    assert not np.allclose(found[1:3], combined[1:3])


def test_early_fusion_does_not_read_the_patches_of_an_absent_poster():
    model, inputs = make("early"), without(batch(), POSTER, 1)
    before = logits(model, inputs)
    bias = model.to_patches.bias  # all that a poster of zeros gives
    bias.assign(keras.random.normal(bias.shape, seed=0))
    after = logits(model, inputs)
    np.testing.assert_array_equal(after[1], before[1])
    assert not np.allclose(after[0], before[0])
