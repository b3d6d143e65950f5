"""The two modality encoders, each written once and handed to the models that use it."""

from collections.abc import Sequence

import keras
from keras import layers

from mmfusion.config import OverviewEncoderConfig, PosterEncoderConfig
from mmfusion.models.recurrent import BidirectionalLSTM
from mmfusion.schema import PADDING


@keras.saving.register_keras_serializable(package="mmfusion")
class PosterEncoder(layers.Layer):
    """A plain convolutional network: (B, H, W, 3) float32 in [0, 1] -> features (B, D).

    One strided convolution, then for each further entry of `filters` two convolutions and a pool; all
    3x3 with ReLU. Then dense layers.

    Args:
        filters: channels of the first convolution and of each pair.
        batch_norm: normalise after every convolution.
        dropout: after the first convolution and each pair.
        pooling: "flatten" keeps where something was seen, "average" only that it was.
        dense_units: sizes of the dense layers; D is the last one.
        dense_dropout: after each dense layer.
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
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = tuple(filters)
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.pooling = pooling
        self.dense_units = tuple(dense_units)
        self.dense_dropout = dense_dropout

        stack = [*self._convolution(self.filters[0], strides=2), layers.Dropout(dropout)]
        for channels in self.filters[1:]:
            stack += [*self._convolution(channels), *self._convolution(channels)]
            stack += [layers.MaxPooling2D(), layers.Dropout(dropout)]
        stack.append(layers.GlobalAveragePooling2D() if pooling == "average" else layers.Flatten())
        for units in self.dense_units:
            stack += [layers.Dense(units, "relu"), layers.Dropout(dense_dropout)]
        self.stack = keras.Sequential(stack)

    def _convolution(self, channels: int, strides: int = 1) -> list[layers.Layer]:
        if not self.batch_norm:
            return [layers.Conv2D(channels, 3, strides, "same", activation="relu")]
        return [
            layers.Conv2D(channels, 3, strides, "same", use_bias=False),
            layers.BatchNormalization(momentum=0.9),  # few steps an epoch: 0.99 would lag behind
            layers.ReLU(),
        ]

    @classmethod
    def from_run_config(cls, config: PosterEncoderConfig) -> "PosterEncoder":
        return cls(**vars(config), name="poster_encoder")

    def build(self, input_shape):
        self.stack.build(input_shape)
        super().build(input_shape)

    def call(self, poster, training=False):
        return self.stack(poster, training=training)  # (B, D)

    def compute_output_shape(self, input_shape):
        return self.stack.compute_output_shape(input_shape)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "pooling": self.pooling,
            "dense_units": self.dense_units,
            "dense_dropout": self.dense_dropout,
        }


@keras.saving.register_keras_serializable(package="mmfusion")
class OverviewEncoder(layers.Layer):
    """A bidirectional LSTM over word embeddings: tokens (B, T) int32 -> features (B, D).

    Padding is masked: the features do not depend on how far a batch was padded.

    Args:
        vocabulary_size: number of token ids, padding included.
        embedding_dim: size of a word's vector.
        embedding_dropout: drops whole word vectors while training.
        lstm_units: units a direction of each LSTM.
        dropout: on the inputs of each LSTM.
        recurrent_dropout: on its state.
        pooling: "last" state of the last LSTM, or "max" over its states.
        dense_units: sizes of the dense layers; D is the last one.
        dense_dropout: after each dense layer.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        embedding_dim: int,
        embedding_dropout: float,
        lstm_units: Sequence[int],
        dropout: float,
        recurrent_dropout: float,
        pooling: str,
        dense_units: Sequence[int],
        dense_dropout: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.embedding_dropout = embedding_dropout
        self.lstm_units = tuple(lstm_units)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.pooling = pooling
        self.dense_units = tuple(dense_units)
        self.dense_dropout = dense_dropout

        self.embedding = layers.Embedding(vocabulary_size, embedding_dim, mask_zero=True)
        self.word_dropout = layers.Dropout(embedding_dropout, noise_shape=(None, None, 1))
        self.recurrent = []
        for depth, units in enumerate(self.lstm_units, 1):
            lstm = layers.LSTM(
                units,
                dropout=dropout,
                recurrent_dropout=recurrent_dropout,
                return_sequences=depth < len(self.lstm_units) or pooling == "max",
            )
            self.recurrent.append(BidirectionalLSTM(lstm))
        self.dense = [layers.Dense(units, "relu") for units in self.dense_units]
        self.dense_drop = layers.Dropout(dense_dropout)

    @classmethod
    def from_run_config(cls, config: OverviewEncoderConfig, vocabulary_size: int) -> "OverviewEncoder":
        return cls(vocabulary_size, **vars(config), name="overview_encoder")

    def build(self, input_shape):
        self.embedding.build(input_shape)
        shape = (*input_shape, self.embedding_dim)
        for layer in self.recurrent:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        shape = (shape[0], shape[-1])
        for layer in self.dense:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        super().build(input_shape)

    def call(self, tokens, training=False):
        mask = keras.ops.not_equal(tokens, PADDING)  # (B, T)
        features = self.word_dropout(self.embedding(tokens), training=training)  # (B, T, E)
        for layer in self.recurrent:
            features = layer(features, mask=mask, training=training)  # (B, T, 2 U), at last (B, 2 U)
        if self.pooling == "max":
            # An LSTM's states lie above -1, so padding never is the greatest.
            features = keras.ops.where(mask[:, :, None], features, -1.0)
            features = keras.ops.max(features, axis=1)  # (B, 2 U)
        for layer in self.dense:
            features = self.dense_drop(layer(features), training=training)  # (B, D)
        return features

    def compute_output_shape(self, input_shape):
        width = self.dense_units[-1] if self.dense_units else 2 * self.lstm_units[-1]
        return (input_shape[0], width)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "embedding_dropout": self.embedding_dropout,
            "lstm_units": self.lstm_units,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "pooling": self.pooling,
            "dense_units": self.dense_units,
            "dense_dropout": self.dense_dropout,
        }
