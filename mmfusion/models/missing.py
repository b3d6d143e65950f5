"""Films without one of their modalities: which they are, and what stands in for what is absent."""

from collections.abc import Mapping

import keras
from keras import layers, ops

from mmfusion.schema import PADDING


def presence(inputs: Mapping, *, padding: Mapping[str, int] | None = None) -> dict:
    """Tells which modalities each film has.

    Args:
        inputs: by modality as a model takes them, or the features that a frozen preset made of them.
        padding: by modality the token that is none, see `padding_of`; of others it is `PADDING`.

    Returns:
        By modality bool (B,): false where a poster or features are all zeros, or an overview is all padding.
    """
    present = {}
    for modality, values in inputs.items():
        is_tokens = keras.backend.is_int_dtype(values.dtype)
        nothing = (padding or {}).get(modality, PADDING) if is_tokens else 0
        present[modality] = ops.any(ops.not_equal(values, nothing), axis=tuple(range(1, len(values.shape))))
    return present


def padding_of(encoders: Mapping[str, keras.Layer]) -> dict[str, int]:
    """The token that is none for each encoder; a fine-tuned preset has its own tokenizer's."""
    return {
        name: getattr(getattr(encoder, "backbone", None), "padding", PADDING) for name, encoder in encoders.items()
    }


def number_of(present: Mapping):
    """Counts the modalities that each film has: float32 (B,)."""
    return sum(ops.cast(one, "float32") for one in present.values())


def drop_one(present: Mapping, rate: float, seed: keras.random.SeedGenerator) -> dict:
    """Treats one modality of some films as absent, each as often; never the only one of a film.

    Args:
        present: as `presence` gives it, of M modalities.
        rate: probability of it, from 0 to below 1.
        seed: of the films that are chosen.

    Returns:
        The same form.
    """
    count = len(present)
    draw = keras.random.uniform(ops.shape(next(iter(present.values()))), seed=seed)  # (B,)
    others = number_of(present) > 1
    after = {}
    for place, (modality, has) in enumerate(present.items()):
        if place < count - 1:
            dropped = ops.logical_and(draw >= rate * place / count, draw < rate * (place + 1) / count)
        else:
            dropped = draw >= 1 - rate / count
        after[modality] = ops.logical_and(has, ops.logical_not(ops.logical_and(others, dropped)))
    return after


@keras.saving.register_keras_serializable(package="mmfusion")
class MissingEmbedding(layers.Layer):
    """A learned vector in place of what an encoder makes of a modality that a film does not have.

    Called on features (B, D) and bool (B,), true where the modality is present; gives (B, D). Of a sequence
    (B, S, D) with its mask (B, S) the vector becomes the first element, and the only one that is no padding.
    """

    def build(self, features_shape, present_shape):
        is_sequence = isinstance(features_shape[0], tuple | list)
        width = (features_shape[0] if is_sequence else features_shape)[-1]
        self.embedding = self.add_weight(shape=(width,), initializer="zeros", name="embedding")
        super().build(features_shape)

    def call(self, features, present):
        if not isinstance(features, tuple | list):
            present = ops.expand_dims(present, 1)  # (B, 1)
            return ops.where(present, features, ops.cast(self.embedding, features.dtype))  # (B, D)
        sequence, mask = features  # (B, S, D), (B, S)
        only_first = ops.arange(ops.shape(mask)[1]) == 0  # (S,)
        embedding = ops.cast(self.embedding, sequence.dtype)
        sequence = ops.where(ops.expand_dims(present, (1, 2)), sequence, embedding)
        return sequence, ops.where(ops.expand_dims(present, 1), mask, only_first)

    def compute_output_shape(self, features_shape, present_shape):
        return features_shape
