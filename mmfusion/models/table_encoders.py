"""Networks on tables, each written once and handed to the models that use it.

Every encoder takes a table (B, C, 3) as the batch contract has it and gives features (B, D). Made with
`as_sequence=True` it gives its columns instead, for fusion by attention: (B, C, D), and bool (B, C), false at an
empty cell.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="mmfusion")
class ColumnEmbedding(layers.Layer):
    """Makes a vector of each column: (B, C, 3) -> (B, C, D); zeros for an empty cell.

    The feature tokenizer of Gorishniy et al. 2021 (arXiv:2106.11959): a number times the column's vector and a
    category's own vector, with a bias that each column has. Here the bias is the vector of the value 0, which a
    column of numbers always has.

    Args:
        values: the most values of a category that are told apart, V.
        width: D.
    """

    def __init__(self, values: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.values = values
        self.width = width

    def build(self, input_shape):
        columns = input_shape[1]
        # As wide as an embedding starts in Keras.
        start = keras.initializers.RandomUniform(-0.05, 0.05)
        self.scale = self.add_weight(shape=(columns, self.width), initializer=start, name="scale")
        self.of_value = self.add_weight(
            shape=(columns * (self.values + 1), self.width), initializer=start, name="of_value"
        )
        super().build(input_shape)

    def call(self, table):
        number, value, there = table[:, :, 0:1], table[:, :, 1], table[:, :, 2:3]  # (B, C, 1), (B, C), (B, C, 1)
        first = ops.arange(table.shape[1]) * (self.values + 1)  # (C,), where each column's vectors begin
        # A file of films may hold any number.
        place = ops.cast(ops.clip(value, 0, self.values), "int32") + first  # (B, C)
        vectors = number * self.scale + ops.take(self.of_value, place, axis=0)  # (B, C, D)
        return vectors * there

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.width)


@keras.saving.register_keras_serializable(package="mmfusion")
class MLPEncoder(layers.Layer):
    """Dense layers on the columns' vectors side by side.

    Args:
        values: the most values of a category that are told apart.
        embedding_dim: size of a column's vector.
        dense_units: sizes of the dense layers; D is the last one, without any C times `embedding_dim`.
        dense_dropout: after each dense layer.
        as_sequence: see above.
    """

    def __init__(
        self,
        values: int,
        *,
        embedding_dim: int,
        dense_units: Sequence[int],
        dense_dropout: float,
        as_sequence: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.values = values
        self.embedding_dim = embedding_dim
        self.dense_units = tuple(dense_units)
        self.as_sequence = as_sequence
        self.columns = ColumnEmbedding(values, embedding_dim)
        self.dense = [] if as_sequence else [layers.Dense(units, "relu") for units in self.dense_units]
        self.drop = layers.Dropout(dense_dropout)

    def build(self, input_shape):
        self.columns.build(input_shape)
        width = input_shape[1] * self.embedding_dim
        for layer in self.dense:
            layer.build((None, width))
            width = layer.units
        super().build(input_shape)

    def call(self, table, training=False):
        vectors = self.columns(table)  # (B, C, E)
        if self.as_sequence:
            return vectors, ops.any(ops.not_equal(table, 0), axis=2)
        features = ops.reshape(vectors, (-1, vectors.shape[1] * vectors.shape[2]))  # (B, C E)
        for layer in self.dense:
            features = self.drop(layer(features), training=training)  # (B, D)
        return features

    def compute_output_shape(self, input_shape):
        if self.as_sequence:
            return (*input_shape[:2], self.embedding_dim), input_shape[:2]
        return (input_shape[0], self.dense_units[-1] if self.dense_units else input_shape[1] * self.embedding_dim)
