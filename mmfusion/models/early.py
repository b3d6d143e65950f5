"""Early fusion of what was not encoded yet (type I)."""

from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

from mmfusion.config.sections import of_layers
from mmfusion.errors import UserError
from mmfusion.models.base import GenreModel
from mmfusion.models.missing import presence
from mmfusion.models.ngrams import OfNgrams
from mmfusion.models.table_encoders import ColumnEmbedding
from mmfusion.schema import OVERVIEW, PADDING, POSTER, TABLE


@keras.saving.register_keras_serializable(package="mmfusion")
class TransformerBlock(layers.Layer):
    """Self-attention and two dense layers, each behind a normalisation (Xiong et al. 2020).

    Args:
        width: D, of the sequence's elements.
        heads: of the attention; they divide `width`.
        dropout: on the attention weights and on what either half adds.
    """

    def __init__(self, width: int, heads: int, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.heads = heads
        self.dropout = dropout
        self.attention_norm = layers.LayerNormalization(epsilon=1e-6)
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=dropout)
        self.mlp_norm = layers.LayerNormalization(epsilon=1e-6)
        self.mlp = keras.Sequential([layers.Dense(2 * width, "gelu"), layers.Dense(width)])
        self.drop = layers.Dropout(dropout)

    def build(self, input_shape):
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.mlp.build(input_shape)
        super().build(input_shape)

    def call(self, sequence, attention_mask, training=False):
        normed = self.attention_norm(sequence)  # (B, S, D)
        added = self.attention(normed, normed, attention_mask=attention_mask, training=training)
        sequence = sequence + self.drop(added, training=training)  # (B, S, D)
        added = self.mlp(self.mlp_norm(sequence))
        return sequence + self.drop(added, training=training)  # (B, S, D)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="mmfusion")
class EarlyFusion(OfNgrams, GenreModel):
    """The modalities meet before anything has encoded any: patches, words and columns are one sequence.

    Early fusion (type I of Huang et al. 2020, npj Digital Medicine 3:136; Snoek et al. 2005): poster
    patches, words and a table's columns become vectors of one width by one linear map or table look-up each, get a
    modality and a position embedding, and one Transformer encoder reads them together (as in ViLT, Kim
    et al. 2021). Padding and empty cells are not read, nor are the patches of a poster that is absent.

    Args:
        num_genres: G.
        modalities: those that are read.
        values: the most values of a table's category that are told apart.
        vocabulary_size: number of token ids, padding included.
        max_tokens: the longest overview.
        ngrams: number of embeddings of words' n-grams, see `OfNgrams`; 0: none.
        word_dropout: the share of words that are not read while training.
        patch_size: P, pixels a side of a patch; it divides the poster's sides.
        overlap: neighbouring patches share half of their pixels.
        width: D, of the sequence's elements.
        heads: of each block's attention.
        blocks: of the encoder.
        dropout: in the encoder, and before the head.
    """

    def __init__(
        self,
        num_genres: int,
        *,
        modalities: Sequence[str],
        values: int,
        vocabulary_size: int,
        max_tokens: int,
        ngrams: int = 0,
        word_dropout: float = 0.0,
        patch_size: int,
        overlap: bool = False,
        width: int,
        heads: int,
        blocks: int,
        dropout: float,
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.modalities = tuple(modalities)
        self.values = values
        self.vocabulary_size = vocabulary_size
        self.max_tokens = max_tokens
        self.word_dropout = word_dropout
        self.patch_size = patch_size
        self.overlap = overlap
        self.width = width
        self.heads = heads
        self.blocks = blocks
        self.dropout = dropout

        if POSTER in self.modalities:
            stride = patch_size // 2 if overlap else patch_size
            self.to_patches = layers.Conv2D(width, patch_size, stride, name="to_patches")
            self.patch_position = PositionEmbedding(name="patch_position")
        if OVERVIEW in self.modalities:
            self.word_embedding = layers.Embedding(vocabulary_size, width, name="word_embedding")
            self.word_position = layers.Embedding(max_tokens, width, name="word_position")
        if TABLE in self.modalities:
            self.column_embedding = ColumnEmbedding(values, width, name="column_embedding")
        self.modality = layers.Embedding(len(self.modalities), width, name="modality")
        self.embedding_dropout = layers.Dropout(dropout)
        self.encoder = [TransformerBlock(width, heads, dropout) for _ in range(blocks)]
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.head_dropout = layers.Dropout(dropout)
        self.head = layers.Dense(num_genres, dtype="float32", name="head")
        # Made last, so that all else starts from the same weights without them.
        self.word_drop = layers.Dropout(word_dropout)
        self._make_ngrams(ngrams if OVERVIEW in self.modalities else 0, width)
        self._build_ngrams(vocabulary_size)

    @classmethod
    def check(cls, config):
        early, size = config.early, config.early.poster_size
        if POSTER in config.reads and size % early.patch_size:
            raise UserError(f"early.patch_size {early.patch_size} does not divide early.poster_size {size}")
        if POSTER in config.reads and early.overlap and early.patch_size % 2:
            raise UserError(f"early.overlap takes half of a patch: early.patch_size {early.patch_size} is odd")
        if early.width % early.heads:
            raise UserError(f"early.heads {early.heads} does not divide early.width {early.width}")

    @classmethod
    def from_run_config(cls, config, num_genres):
        cls.check(config)
        sizes = {name: getattr(config, name) for name in ("vocabulary_size", "max_tokens")}
        sizes |= {"modalities": config.reads, "values": config.table.values}
        return cls(num_genres, **sizes, **of_layers(config.early), name="early")

    def call(self, inputs, training=False):
        of: dict[str, Callable] = {POSTER: self._patches, OVERVIEW: self._words, TABLE: self._columns}
        elements = [of[one](inputs[one], training) for one in self.modalities]  # (B, S, D), bool (B, S) each
        elements = [
            (vectors + self.modality(ops.full((1,), place, "int32")), there)
            for place, (vectors, there) in enumerate(elements)
        ]
        sequence, there = (ops.concatenate(one, axis=1) for one in zip(*elements))  # here the modalities meet
        # A film with nothing keeps its first element: attention to nothing is not defined.
        nothing = ops.logical_not(ops.any(there, axis=1, keepdims=True))  # (B, 1)
        there = ops.logical_or(there, ops.logical_and(nothing, ops.arange(ops.shape(there)[1]) == 0))  # (B, S)
        sequence = self.embedding_dropout(sequence, training=training)
        for block in self.encoder:
            sequence = block(sequence, ops.expand_dims(there, 1), training=training)  # (B, S, D)
        sequence = self.norm(sequence)
        weight = ops.expand_dims(ops.cast(there, sequence.dtype), 2)  # (B, S, 1)
        pooled = ops.sum(sequence * weight, axis=1) / ops.sum(weight, axis=1)  # (B, D)
        return self.calibrated(self.head(self.head_dropout(pooled, training=training)))  # (B, G) logits

    def _patches(self, poster, training):
        patches = self.to_patches(poster)  # (B, H', W', D)
        patches = ops.reshape(patches, (-1, patches.shape[1] * patches.shape[2], self.width))  # (B, N, D)
        present = ops.expand_dims(presence({POSTER: poster})[POSTER], 1)  # (B, 1)
        return self.patch_position(patches), ops.logical_and(present, ops.ones_like(patches[:, :, 0], "bool"))

    def _words(self, tokens, training):
        places = ops.arange(ops.shape(tokens)[1])  # (T,)
        there = ops.not_equal(tokens, PADDING)
        if training and self.word_dropout:
            there = self.word_drop(ops.cast(there, "float32"), training=True) > 0
        vectors = self._with_ngrams(self.word_embedding(tokens), tokens)  # (B, T, D)
        return vectors + self.word_position(places), there

    def _columns(self, table, training):
        return self.column_embedding(table), ops.any(ops.not_equal(table, 0), axis=2)

    def get_config(self) -> dict:
        names = "modalities values vocabulary_size max_tokens ngrams word_dropout patch_size overlap".split()
        names += "width heads blocks dropout".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="mmfusion")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to each place of a sequence of fixed length: (B, N, D) -> (B, N, D)."""

    def build(self, input_shape):
        self.position = self.add_weight(shape=input_shape[1:], initializer="random_normal", name="position")
        super().build(input_shape)

    def call(self, sequence):
        return sequence + self.position
