"""What an optimizer's step is made of."""

import keras
import numpy as np
import pytest
from conftest import tiny_config

from mmfusion.models import build_model
from mmfusion.training.fitting import compile_model

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
