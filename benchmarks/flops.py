"""Counts the multiplications and additions of a model's matrix products and convolutions."""

import contextlib
import functools
import math
from collections.abc import Iterable
from unittest import mock

import keras
import tensorflow as tf
from keras import layers

from mmfusion.models.recurrent import BidirectionalLSTM


def training_flops(model: keras.Model, batches: Iterable) -> int:
    """Floating-point operations of training on these batches, counted as three forward passes.

    The two others are the gradients with regard to each layer's inputs and weights.

    Args:
        model: built; of this package, or any Keras model of the layers that are counted.
        batches: the model's inputs as arrays, in its own structure.
    """
    seen = {}  # how many batches have which shapes
    for batch in batches:
        specs = keras.tree.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), batch)
        times, _ = seen.get(str(specs), (0, None))
        seen[str(specs)] = times + 1, specs
    return 3 * sum(times * forward_flops(model, specs) for times, specs in seen.values())


def forward_flops(model: keras.Model, specs) -> int:
    """Floating-point operations of one forward pass, two for each multiply-and-add.

    Those of convolutions, dense layers, LSTMs and attention, which are nearly all; what is done element
    by element is not counted. Nothing is computed: only shapes go through the model.

    Args:
        model: as above.
        specs: `tf.TensorSpec` of the inputs, with all sizes known.
    """
    films = keras.tree.flatten(specs)[0].shape[0]
    counted = []
    with contextlib.ExitStack() as stack:
        for kind, count in _COUNTS.items():
            stack.enter_context(_counting(kind, count, films, counted))
        tf.function(lambda batch: model(batch)).get_concrete_function(specs)
    return sum(counted)


@contextlib.contextmanager
def _counting(kind, count, films, counted):
    original = kind.call

    @functools.wraps(original)
    def call(self, x, *args, **kwargs):
        outputs = original(self, x, *args, **kwargs)
        known = [films if size is None else size for size in x.shape]
        counted.append(count(self, known, outputs))
        return outputs

    with mock.patch.object(kind, "call", call):
        yield


def _convolution(layer, shape, outputs):
    _, height, width, channels = outputs.shape
    return 2 * shape[0] * height * width * channels * math.prod(layer.kernel.shape[:3])


def _dense(layer, shape, outputs):
    return 2 * math.prod(shape[:-1]) * math.prod(layer.kernel.shape)


def _einsum_dense(layer, shape, outputs):  # as attention has them: (B, S, ...) whatever follows
    return 2 * shape[0] * shape[1] * math.prod(layer.kernel.shape)


def _attention(layer, shape, outputs):  # queries with keys, then the result with values
    return 2 * 2 * shape[0] * shape[1] ** 2 * layer.num_heads * layer.key_dim


def _bidirectional(layer, shape, outputs):
    kernels = [k for of in (layer.forward_layer, layer.backward_layer) for k in of.cell.weights]
    return 2 * shape[0] * shape[1] * sum(math.prod(k.shape) for k in kernels if len(k.shape) == 2)


_COUNTS = {
    layers.Conv2D: _convolution,
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    layers.MultiHeadAttention: _attention,
    layers.Bidirectional: _bidirectional,
    BidirectionalLSTM: _bidirectional,
}
