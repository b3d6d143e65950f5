"""Networks on overviews, each written once and handed to the models that use it.

Every encoder takes tokens (B, T) int32 and gives features (B, D). Padding is masked: the features do not
depend on how far a batch was padded. Made with `as_sequence=True` it gives its words instead, for fusion by
attention: (B, T, D), and bool (B, T), false at padding.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops

from mmfusion.models.ngrams import OfNgrams
from mmfusion.models.recurrent import BidirectionalLSTM
from mmfusion.schema import OUT_OF_VOCABULARY, PADDING


class _OfWords(layers.Layer):
    """Word embeddings at the start, dense layers at the end.

    Subclasses build what is between, and in `build` call `_build_dense`.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        embedding_dim: int,
        embedding_dropout: float,
        dense_units: Sequence[int],
        dense_dropout: float,
        as_sequence: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.embedding_dim = embedding_dim
        self.dense_units = tuple(dense_units)
        self.as_sequence = as_sequence
        self.embedding = layers.Embedding(vocabulary_size, embedding_dim)
        self.word_dropout = layers.Dropout(embedding_dropout, noise_shape=(None, None, 1))
        self.dense = [] if as_sequence else [layers.Dense(units, "relu") for units in self.dense_units]
        self.dense_drop = layers.Dropout(dense_dropout)

    def _build_dense(self, width: int) -> None:
        for layer in self.dense:
            layer.build((None, width))
            width = layer.units

    def _after(self, features, training):
        for layer in self.dense:
            features = self.dense_drop(layer(features), training=training)  # (B, D)
        return features


@keras.saving.register_keras_serializable(package="mmfusion")
class BiLSTMEncoder(_OfWords):
    """A bidirectional LSTM over word embeddings.

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
        as_sequence: see above.
    """

    def __init__(
        self,
        vocabulary_size: int,
        *,
        lstm_units: Sequence[int],
        dropout: float,
        recurrent_dropout: float,
        pooling: str,
        **kwargs,
    ):
        super().__init__(vocabulary_size, **kwargs)
        self.lstm_units = tuple(lstm_units)
        self.pooling = pooling
        self.recurrent = []
        for depth, units in enumerate(self.lstm_units, 1):
            lstm = layers.LSTM(
                units,
                dropout=dropout,
                recurrent_dropout=recurrent_dropout,
                return_sequences=depth < len(self.lstm_units) or pooling == "max" or self.as_sequence,
            )
            self.recurrent.append(BidirectionalLSTM(lstm))

    def build(self, input_shape):
        self.embedding.build(input_shape)
        shape = (*input_shape, self.embedding_dim)
        for layer in self.recurrent:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self._build_dense(shape[-1])
        super().build(input_shape)

    def call(self, tokens, training=False):
        mask = ops.not_equal(tokens, PADDING)  # (B, T)
        features = self.word_dropout(self.embedding(tokens), training=training)  # (B, T, E)
        for layer in self.recurrent:
            features = layer(features, mask=mask, training=training)  # (B, T, 2 U), at last (B, 2 U)
        if self.as_sequence:
            # A tensor of its own: Keras hangs the mask to what an LSTM gives, and here it goes beside it.
            return ops.where(ops.expand_dims(mask, 2), features, 0.0), mask
        if self.pooling == "max":
            # An LSTM's states lie above -1, so padding never is the greatest.
            features = ops.where(ops.expand_dims(mask, 2), features, -1.0)
            features = ops.max(features, axis=1)  # (B, 2 U)
        return self._after(features, training)

    def compute_output_shape(self, input_shape):
        if self.as_sequence:
            return (*input_shape, 2 * self.lstm_units[-1]), input_shape
        width = self.dense_units[-1] if self.dense_units else 2 * self.lstm_units[-1]
        return (input_shape[0], width)


@keras.saving.register_keras_serializable(package="mmfusion")
class BagEncoder(OfNgrams, _OfWords):
    """Embeddings of words and pairs of words, averaged and maximum-pooled: what stands where is not seen.

    As fastText does (Joulin et al. 2017, arXiv:1607.01759), pairs of neighbours share their embeddings by a
    hash; a pair with a word out of the vocabulary has none. See `OfNgrams` of words' n-grams.

    Args:
        vocabulary_size: number of token ids, padding included.
        embedding_dim: size of a word's or a pair's vector.
        pairs: number of embeddings of pairs; 0: none.
        ngrams: number of embeddings of words' n-grams; 0: none.
        embedding_dropout: drops whole vectors of words and pairs while training.
        dense_units: sizes of the dense layers; D is the last one, without any twice `embedding_dim`.
        dense_dropout: after the pools, and after each dense layer.
        as_sequence: see above; the vectors of words, then those of pairs.
    """

    def __init__(self, vocabulary_size: int, *, pairs: int, ngrams: int, **kwargs):
        super().__init__(vocabulary_size, **kwargs)
        self.pairs = pairs
        self.pair_embedding = layers.Embedding(pairs, self.embedding_dim) if pairs else None
        self._make_ngrams(ngrams, self.embedding_dim)

    def build(self, input_shape):
        self.embedding.build(input_shape)
        if self.pair_embedding is not None:
            self.pair_embedding.build(input_shape)
        self._build_ngrams(self.vocabulary_size)
        self._build_dense(2 * self.embedding_dim)
        super().build(input_shape)

    def call(self, tokens, training=False):
        vectors = self._with_ngrams(self.embedding(tokens), tokens)  # (B, T, E)
        mask = ops.not_equal(tokens, PADDING)  # (B, T)
        if self.pair_embedding is not None:
            first, second = tokens[:, :-1], tokens[:, 1:]  # (B, T - 1)
            vectors = ops.concatenate([vectors, self.pair_embedding(self._hash(first, second))], axis=1)
            known = ops.logical_and(first > OUT_OF_VOCABULARY, second > OUT_OF_VOCABULARY)
            mask = ops.concatenate([mask, known], axis=1)  # (B, S)
        vectors = self.word_dropout(vectors, training=training)  # (B, S, E)
        if self.as_sequence:
            return vectors, mask
        there = ops.expand_dims(ops.cast(mask, vectors.dtype), 2)
        mean = ops.sum(vectors * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1)  # (B, E)
        # Not -inf at padding: an overview without words would give it on.
        greatest = ops.max(ops.where(ops.expand_dims(mask, 2), vectors, -1e4), axis=1)
        greatest = ops.where(ops.expand_dims(ops.any(mask, axis=1), 1), greatest, 0.0)  # (B, E)
        features = self.dense_drop(ops.concatenate([mean, greatest], axis=1), training=training)
        return self._after(features, training)

    def _hash(self, first, second):
        """A number from 0 to below `pairs`, the same for the same pair everywhere."""
        first, second = ops.cast(first, "int64"), ops.cast(second, "int64")
        return ops.cast(ops.mod(first * 1_000_003 + second * 7919, self.pairs), "int32")

    def compute_output_shape(self, input_shape):
        if self.as_sequence:
            length = input_shape[1]
            if self.pairs and length is not None:
                length = 2 * length - 1
            return (input_shape[0], length, self.embedding_dim), (input_shape[0], length)
        return (input_shape[0], self.dense_units[-1] if self.dense_units else 2 * self.embedding_dim)
