"""Networks on posters, each written once and handed to the models that use it.

Every encoder takes posters (B, H, W, 3) float32 in [0, 1] and gives features (B, D). Made with
`as_sequence=True` it gives what it sees where instead, for fusion by attention: (B, S, D), and bool (B, S),
true where there is something to see, which without a poster is nowhere.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops


class _Convolutional(layers.Layer):
    """A feature map, then a pool and dense layers, or the map's places as a sequence.

    Subclasses make `self.map` and call `_finish`.
    """

    def __init__(self, *, dense_units: Sequence[int], dense_dropout: float, as_sequence: bool, **kwargs):
        super().__init__(**kwargs)
        self.dense_units = tuple(dense_units)
        self.dense_dropout = dense_dropout
        self.as_sequence = as_sequence

    def _finish(self, stack: list[layers.Layer], pool: layers.Layer) -> None:
        self.map = keras.Sequential(stack)
        if not self.as_sequence:
            dense = [pool]
            for units in self.dense_units:
                dense += [layers.Dense(units, "relu"), layers.Dropout(self.dense_dropout)]
            self.dense = keras.Sequential(dense)

    def build(self, input_shape):
        self.map.build(input_shape)
        if not self.as_sequence:
            self.dense.build(self.map.compute_output_shape(input_shape))
        super().build(input_shape)

    def call(self, poster, training=False):
        features = self.map(poster, training=training)  # (B, H', W', C)
        if not self.as_sequence:
            return self.dense(features, training=training)  # (B, D)
        height, width, channels = features.shape[1:]
        sequence = ops.reshape(features, (-1, height * width, channels))  # (B, S, C)
        there = ops.expand_dims(ops.any(ops.not_equal(poster, 0), axis=(1, 2, 3)), 1)  # (B, 1)
        return sequence, ops.logical_and(there, ops.ones_like(sequence[:, :, 0], "bool"))

    def compute_output_shape(self, input_shape):
        shape = self.map.compute_output_shape(input_shape)
        if not self.as_sequence:
            return self.dense.compute_output_shape(shape)
        count, height, width, channels = shape  # pyright: ignore[reportGeneralTypeIssues]  Keras' is never None
        return (count, height * width, channels), (count, height * width)


@keras.saving.register_keras_serializable(package="mmfusion")
class CNNEncoder(_Convolutional):
    """A plain convolutional network, the original report's.

    One strided convolution, then for each further entry of `filters` two convolutions and a pool; all
    3x3 with ReLU. Then dense layers.

    Args:
        filters: channels of the first convolution and of each pair.
        batch_norm: normalise after every convolution.
        dropout: after the first convolution and each pair.
        pooling: "flatten" keeps where something was seen, "average" only that it was.
        dense_units: sizes of the dense layers; D is the last one.
        dense_dropout: after each dense layer.
        as_sequence: see above.
    """

    def __init__(
        self,
        filters: Sequence[int],
        *,
        batch_norm: bool,
        dropout: float,
        pooling: str,
        dense_units: Sequence[int],
        dense_dropout: float,
        as_sequence: bool = False,
        **kwargs,
    ):
        super().__init__(dense_units=dense_units, dense_dropout=dense_dropout, as_sequence=as_sequence, **kwargs)
        self.filters = tuple(filters)
        self.batch_norm = batch_norm
        self.dropout = dropout

        stack = [*self._convolution(self.filters[0], strides=2), layers.Dropout(dropout)]
        for channels in self.filters[1:]:
            stack += [*self._convolution(channels), *self._convolution(channels)]
            stack += [layers.MaxPooling2D(), layers.Dropout(dropout)]
        self._finish(stack, layers.GlobalAveragePooling2D() if pooling == "average" else layers.Flatten())

    def _convolution(self, channels: int, strides: int = 1) -> list[layers.Layer]:
        if not self.batch_norm:
            return [layers.Conv2D(channels, 3, strides, "same", activation="relu")]
        return [layers.Conv2D(channels, 3, strides, "same", use_bias=False), _normalisation(), layers.ReLU()]


@keras.saving.register_keras_serializable(package="mmfusion")
class ResidualBlock(layers.Layer):
    """Two 3x3 convolutions with batch normalisation, and a way around them (He et al. 2016, arXiv:1512.03385).

    (B, H, W, C) -> (B, H', W', filters).

    Args:
        filters: channels that it gives.
        strides: of the first convolution and of the way around; 2 halves height and width.
    """

    def __init__(self, filters: int, strides: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.inside = keras.Sequential(
            [
                layers.Conv2D(filters, 3, strides, "same", use_bias=False),
                _normalisation(),
                layers.ReLU(),
                layers.Conv2D(filters, 3, 1, "same", use_bias=False),
                _normalisation(),
            ]
        )
        self.around = keras.Sequential([layers.Conv2D(filters, 1, strides, use_bias=False), _normalisation()])

    def build(self, input_shape):
        self.inside.build(input_shape)
        self.around.build(input_shape)
        super().build(input_shape)

    def call(self, features, training=False):
        return ops.relu(self.inside(features, training=training) + self.around(features, training=training))

    def compute_output_shape(self, input_shape):
        return self.inside.compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="mmfusion")
class ResNetEncoder(_Convolutional):
    """A small residual network (He et al. 2016): a strided convolution, then a strided block an entry.

    Args:
        filters: channels of each block; the first convolution has those of the first.
        dropout: after each block.
        dense_units: sizes of the dense layers behind the average over all places; D is the last one.
        dense_dropout: after each dense layer.
        as_sequence: see above.
    """

    def __init__(
        self,
        filters: Sequence[int],
        *,
        dropout: float,
        dense_units: Sequence[int],
        dense_dropout: float,
        as_sequence: bool = False,
        **kwargs,
    ):
        super().__init__(dense_units=dense_units, dense_dropout=dense_dropout, as_sequence=as_sequence, **kwargs)
        self.filters = tuple(filters)
        self.dropout = dropout
        stack = [layers.Conv2D(self.filters[0], 3, 2, "same", use_bias=False), _normalisation(), layers.ReLU()]
        for channels in self.filters:
            stack += [ResidualBlock(channels, 2), layers.SpatialDropout2D(dropout)]
        self._finish(stack, layers.GlobalAveragePooling2D())


def _normalisation() -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9)  # few steps an epoch: 0.99 would lag behind
