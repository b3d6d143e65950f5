"""What an optimizer's step is made of."""

import keras
import numpy as np
import pytest
from conftest import tiny_config

from mmfusion.errors import UserError
from mmfusion.models import build_model
from mmfusion.models.weights import load_weights
from mmfusion.runs import Run
from mmfusion.training.checkpoint import Checkpoint
from mmfusion.training.fitting import compile_model, learning_rate_at

LABELS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], np.float32)
LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], np.float32)


def compiled(**training):
    keras.utils.set_random_seed(1)
    config = tiny_config("overview", **{f"training__{key}": value for key, value in training.items()})
    model = build_model(config, 3)
    compile_model(model, config)
    return model


def cross_entropy(labels):
    p = 1 / (1 + np.exp(-LOGITS))
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def test_label_smoothing_moves_training_labels_only_so_that_validation_losses_compare():
    model = compiled(label_smoothing=0.1)
    training = model.compute_loss(y=LABELS, y_pred=LOGITS, training=True)
    validation = model.compute_loss(y=LABELS, y_pred=LOGITS, training=False)
    assert float(training) == pytest.approx(cross_entropy(0.9 * LABELS + 0.05), abs=1e-6)
    assert float(validation) == pytest.approx(cross_entropy(LABELS), abs=1e-6)


def test_keras_own_evaluation_knows_no_label_smoothing():
    films = {"poster": np.zeros((2, 16, 16, 3), np.float32), "overview": np.array([[1, 2], [2, 0]], np.int32)}
    losses = [
        compiled(label_smoothing=share).evaluate(films, LABELS, verbose=0, return_dict=True)["loss"]
        for share in (0.0, 0.5)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_weight_decay_shrinks_kernels_and_embeddings_and_leaves_biases(weight_decay):
    model = compiled(weight_decay=weight_decay, learning_rate=0.1)
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape, np.float32))
    nothing = [np.zeros(weight.shape, np.float32) for weight in model.trainable_weights]
    model.optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in nothing])
    for weight in model.trainable_weights:
        kept = 1.0 if "bias" in weight.name else 1 - 0.1 * weight_decay
        np.testing.assert_allclose(weight, kept, rtol=1e-6, err_msg=weight.path)


def rates(**training):
    config = tiny_config("overview", **{f"training__{key}": value for key, value in training.items()})
    return [learning_rate_at(epoch, config.training) for epoch in range(config.training.epochs)]


def test_the_learning_rate_is_held_and_decays_or_follows_a_cosine_to_nothing_after_a_rise():
    found = rates(epochs=6, learning_rate=1.0, hold_epochs=2, decay=0.5)
    np.testing.assert_allclose(found, [1, 1, *np.exp([-0.5, -1, -1.5, -2])])
    found = rates(epochs=6, learning_rate=1.0, hold_epochs=2, decay=0.5, warmup_epochs=3)
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1, np.exp(-0.5)])
    found = rates(epochs=6, learning_rate=2.0, schedule="cosine", warmup_epochs=2)
    np.testing.assert_allclose(found, [2 / 3, 4 / 3, 2, 1 + np.sqrt(0.5), 1, 1 - np.sqrt(0.5)])
    assert rates(epochs=1, schedule="cosine", warmup_epochs=5) == [pytest.approx(1e-3 / 6)]


def test_genres_start_from_how_frequent_they_are():
    frequencies = np.array([0.5, 0.1, 0.0])
    films = {"overview": np.array([[1, 2], [2, 0]], np.int32)}
    for loss in ("bce", "asymmetric"):
        config = tiny_config("overview", training__prior_bias=True, training__loss=loss)
        model = build_model(config, 3)
        model.head.kernel.assign(np.zeros(model.head.kernel.shape))
        compile_model(model, config, frequencies)
        found = keras.ops.sigmoid(model(films))
        np.testing.assert_allclose(found, [[0.5, 0.1, 0.001]] * 2, rtol=1e-5)


def test_a_head_without_a_bias_cannot_start_from_frequencies():
    config = tiny_config("overview", training__prior_bias=True)
    model = build_model(config, 3)
    model.head.bias = None
    with pytest.raises(UserError, match="needs a layer `head` with a bias"):
        compile_model(model, config, np.full(3, 0.5))


def test_what_is_kept_is_the_average_of_weights_and_training_goes_on_from_its_own(tmp_path):
    model = compiled(ema_momentum=0.5, learning_rate=0.1)
    for value in (1.0, 2.0):
        for weight in model.trainable_weights:
            weight.assign(np.full(weight.shape, value, np.float32))
        nothing = [keras.ops.zeros(weight.shape) for weight in model.trainable_weights]
        model.optimizer.apply(nothing)  # after which the weights' values are counted in
    checkpoint = Checkpoint(Run(tmp_path), patience=0)
    checkpoint._save(model)
    assert {float(np.max(weight)) for weight in model.trainable_weights} == {2.0}
    again = build_model(tiny_config("overview"), 3)
    load_weights(again, Run(tmp_path).model_file)
    assert {float(np.max(weight)) for weight in again.trainable_weights} == {1.5}
