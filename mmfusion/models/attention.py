"""Cross attention: an operator of joint fusion that reads sequences."""

import keras
from keras import layers, ops

from mmfusion.errors import UserError

HEADS = 4  # of each attention
HIDDEN = 2  # times its units has a feed-forward layer's hidden one, as in models.early


@keras.saving.register_keras_serializable(package="mmfusion")
class CoAttentionBlock(layers.Layer):
    """One sequence reads another: attention and two dense layers, a normalisation of the sum after each.

    One stream of the co-attentional Transformer layer of Lu et al. 2019 (arXiv:1908.02265).

    Args:
        units: D, of the elements of both sequences.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        policy = self.dtype_policy
        self.attention = layers.MultiHeadAttention(HEADS, units // HEADS, dtype=policy)
        self.attention_norm = layers.LayerNormalization(epsilon=1e-6, dtype=policy)
        self.hidden = layers.Dense(HIDDEN * units, "gelu", dtype=policy)
        self.output_map = layers.Dense(units, dtype=policy)
        self.output_norm = layers.LayerNormalization(epsilon=1e-6, dtype=policy)

    def build(self, sequence_shape, other_shape, other_mask_shape):
        self.attention.build(sequence_shape, other_shape)
        self.attention_norm.build(sequence_shape)
        self.hidden.build(sequence_shape)
        self.output_map.build((*sequence_shape[:-1], HIDDEN * self.units))
        self.output_norm.build(sequence_shape)
        super().build(sequence_shape)

    def call(self, sequence, other, other_mask):
        read = self.attention(sequence, other, attention_mask=ops.expand_dims(other_mask, 1))  # (B, S, D)
        # Where nothing can be read, attention would give the mean of the padding.
        anything = ops.expand_dims(ops.any(other_mask, axis=1), (1, 2))  # (B, 1, 1)
        sequence = self.attention_norm(sequence + ops.where(anything, read, 0))  # (B, S, D)
        return self.output_norm(sequence + self.output_map(self.hidden(sequence)))  # (B, S, D)

    def compute_output_shape(self, sequence_shape, other_shape, other_mask_shape):
        return sequence_shape


@keras.saving.register_keras_serializable(package="mmfusion")
class CrossAttention(layers.Layer):
    """The modalities meet element by element: each poster patch reads all words, each word all patches.

    Co-attention as in ViLBERT (Lu et al. 2019, arXiv:1908.02265) and MulT (Tsai et al. 2019,
    arXiv:1906.00295), once in each direction, at the same time. Both sequences are mapped to `units` before it
    and averaged after it. Padding is read by nothing; a modality without a single element is not read, and its
    half of the result is 0.

    Called on [(poster patches (B, S1, D1), mask (B, S1)), (words (B, S2, D2), mask (B, S2))], masks bool and
    true where an element is no padding; gives (B, 2 units), the poster's half first.

    Args:
        units: D, of every element; 4 heads share them.
    """

    reads_sequences = True
    for_two = True

    @classmethod
    def of(cls, units: int, count: int) -> "CrossAttention":
        """Makes one, as `models.operators.Operator.of`."""
        return cls(units)

    def __init__(self, units: int, **kwargs):
        if units % HEADS:
            raise UserError(f"cross_attention has {HEADS} heads, which do not divide {units} units (joint.units)")
        super().__init__(**kwargs)
        self.units = units
        policy = self.dtype_policy
        self.poster = layers.Dense(units, dtype=policy)
        self.overview = layers.Dense(units, dtype=policy)
        self.poster_reads = CoAttentionBlock(units, dtype=policy)
        self.overview_reads = CoAttentionBlock(units, dtype=policy)

    def build(self, input_shape):
        (poster, poster_mask), (overview, overview_mask) = input_shape
        self.poster.build(poster)
        self.overview.build(overview)
        poster, overview = (*poster[:-1], self.units), (*overview[:-1], self.units)
        self.poster_reads.build(poster, overview, overview_mask)
        self.overview_reads.build(overview, poster, poster_mask)
        super().build(input_shape)

    def call(self, features):
        (poster, poster_mask), (overview, overview_mask) = features  # (B, S1, D1), (B, S1), (B, S2, D2), (B, S2)
        poster = self.poster(poster)  # (B, S1, D)
        overview = self.overview(overview)  # (B, S2, D)
        patches = self.poster_reads(poster, overview, overview_mask)  # (B, S1, D), here the modalities meet
        words = self.overview_reads(overview, poster, poster_mask)  # (B, S2, D)
        return ops.concatenate(
            [_mean_of_present(patches, poster_mask), _mean_of_present(words, overview_mask)], axis=-1
        )  # (B, 2 D)

    def compute_output_shape(self, input_shape):
        (poster, _), _ = input_shape
        return (poster[0], 2 * self.units)


def _mean_of_present(sequence, mask):
    """The mean of those elements of (B, S, D) where the mask (B, S) is true: (B, D), 0 if there are none."""
    weight = ops.expand_dims(ops.cast(mask, sequence.dtype), 2)  # (B, S, 1)
    count = ops.maximum(ops.sum(weight, axis=1), 1)  # (B, 1)
    return ops.sum(sequence * weight, axis=1) / count  # (B, D)
