"""Films without a poster or without an overview: which they are, and what stands in for what is not there."""

import keras
from keras import layers, ops

from mmfusion.schema import OVERVIEW, PADDING, POSTER


def presence(inputs, *, padding: int = PADDING) -> dict:
    """Which modalities each film has.

    Args:
        inputs: {"poster", "overview"} as a model takes them, or the features that a frozen preset made of them.
        padding: the token that is none, see `padding_of`.

    Returns:
        By modality bool (B,): false where a poster or features are all zeros, or an overview is all padding.
    """
    poster, tokens = inputs[POSTER], inputs[OVERVIEW]
    nothing = padding if keras.backend.is_int_dtype(tokens.dtype) else 0
    return {
        POSTER: ops.any(ops.not_equal(poster, 0), axis=tuple(range(1, len(poster.shape)))),
        OVERVIEW: ops.any(ops.not_equal(tokens, nothing), axis=tuple(range(1, len(tokens.shape)))),
    }


def padding_of(overview_encoder: keras.Layer) -> int:
    """The token that is none for this encoder; a fine-tuned preset has its own tokenizer's."""
    return getattr(getattr(overview_encoder, "backbone", None), "padding", PADDING)


def drop_one(there: dict, rate: float, seed: keras.random.SeedGenerator) -> dict:
    """Treats one modality of some films as absent, either as often; never both, nor the only one of a film.

    Args:
        there: as `presence` gives it.
        rate: probability of it, from 0 to below 1.
        seed: of the films that are chosen.

    Returns:
        The same form.
    """
    draw = keras.random.uniform(ops.shape(there[POSTER]), seed=seed)  # (B,)
    both = ops.logical_and(there[POSTER], there[OVERVIEW])
    dropped = {POSTER: draw < rate / 2, OVERVIEW: draw >= 1 - rate / 2}
    return {
        modality: ops.logical_and(there[modality], ops.logical_not(ops.logical_and(both, dropped[modality])))
        for modality in there
    }


@keras.saving.register_keras_serializable(package="mmfusion")
class MissingEmbedding(layers.Layer):
    """A learned vector in place of what an encoder makes of a modality that a film does not have.

    Called on features (B, D) and bool (B,), true where the modality is there; gives (B, D). Of a sequence
    (B, S, D) with its mask (B, S) the vector becomes the first element, and the only one that is no padding.
    """

    def build(self, features_shape, there_shape):
        is_sequence = isinstance(features_shape[0], tuple | list)
        width = (features_shape[0] if is_sequence else features_shape)[-1]
        self.embedding = self.add_weight(shape=(width,), initializer="zeros", name="embedding")
        super().build(features_shape)

    def call(self, features, there):
        if not isinstance(features, tuple | list):
            there = ops.expand_dims(there, 1)  # (B, 1)
            return ops.where(there, features, ops.cast(self.embedding, features.dtype))  # (B, D)
        sequence, mask = features  # (B, S, D), (B, S)
        only_first = ops.arange(ops.shape(mask)[1]) == 0  # (S,)
        sequence = ops.where(ops.expand_dims(there, (1, 2)), sequence, ops.cast(self.embedding, sequence.dtype))
        return sequence, ops.where(ops.expand_dims(there, 1), mask, only_first)

    def compute_output_shape(self, features_shape, there_shape):
        return features_shape
