"""One modality alone."""

import keras

from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import encoder_of, wide_path
from mmfusion.models.wide import WidePath
from mmfusion.schema import OVERVIEW


@keras.saving.register_keras_serializable(package="mmfusion")
class Unimodal(GenreModel):
    """The modalities meet nowhere: genres from one of them alone.

    Args:
        num_genres: G.
        modality: the one that is read.
        encoder: that modality, as the batch contract has it -> features (B, D).
        wide: a linear path from an overview's words.
    """

    handed = ("encoder", "wide")

    def __init__(
        self, num_genres: int, *, modality: str, encoder: keras.Layer, wide: WidePath | None = None, **kwargs
    ):
        super().__init__(num_genres, **kwargs)
        self.modality = modality
        self.encoder = encoder
        self.wide = wide
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        (modality,) = config.reads
        return cls.of(modality, config, num_genres, name=config.variant)

    @classmethod
    def of(cls, modality: str, config, num_genres: int, **kwargs) -> "Unimodal":
        """Builds the model of one modality, with the encoder that a configuration names for it."""
        wide = wide_path(config, num_genres) if modality == OVERVIEW else None
        return cls(num_genres, modality=modality, encoder=encoder_of(modality, config), wide=wide, **kwargs)

    def call(self, inputs, training=False):
        features = self.encoder(inputs[self.modality], training=training)  # (B, D)
        return self.decided(self.head(features), inputs)  # (B, G) logits

    def get_config(self) -> dict:
        return {**super().get_config(), "modality": self.modality}
