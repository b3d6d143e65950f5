"""Adam in one operation a variable gives what Keras' own gives, but where that counts a row twice."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmfusion.models.optimizers import FusedAdam


def trained(kind, rows, **settings):
    """A kernel and an embedding after some steps of random gradients; the embedding has them for some rows."""
    rng = np.random.default_rng(0)
    kernel = keras.Variable(np.arange(12, dtype=np.float32).reshape(4, 3) / 7, name="kernel")
    embedding = keras.Variable(np.ones((6, 2), np.float32), name="embedding")
    optimizer = kind(0.01, **settings)
    optimizer.build([kernel, embedding])

    @tf.function
    def step(gradient, values):
        of_rows = tf.IndexedSlices(values, tf.constant(rows), (6, 2))
        optimizer.apply_gradients([(gradient, kernel), (of_rows, embedding)])

    for _ in range(20):
        step(rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(len(rows), 2)).astype(np.float32))
    optimizer.finalize_variable_values([kernel, embedding])
    return np.concatenate([np.ravel(kernel), np.ravel(embedding)])


@pytest.mark.parametrize(
    "settings", [{}, {"weight_decay": 0.1}, {"use_ema": True, "ema_momentum": 0.9}, {"clipnorm": 0.5}]
)
def test_it_is_keras_adam_but_for_rounding(settings):
    np.testing.assert_allclose(
        trained(FusedAdam, [1, 3], **settings), trained(keras.optimizers.Adam, [1, 3], **settings), atol=1e-5
    )


def test_what_a_row_gets_twice_in_a_step_is_one_gradient():
    """Keras squares the two apart, so that a word's steps would be the larger the more often a batch has it."""
    whole = np.zeros((6, 2), np.float32)
    whole[1] = 6.0
    found = []
    for gradient in (tf.IndexedSlices(tf.fill((2, 2), 3.0), tf.constant([1, 1]), (6, 2)), tf.constant(whole)):
        embedding = keras.Variable(np.ones((6, 2), np.float32))
        optimizer = FusedAdam(0.01)
        optimizer.build([embedding])
        optimizer.apply([gradient])
        found.append((np.asarray(embedding), np.asarray(optimizer.variables[-1])))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
