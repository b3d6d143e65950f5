"""One modality alone."""

import keras

from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import encoder_of


@keras.saving.register_keras_serializable(package="mmfusion")
class Unimodal(GenreModel):
    """The modalities meet nowhere: genres from one of them alone.

    Args:
        num_genres: G.
        modality: the one that is read.
        encoder: that modality, as the batch contract has it -> features (B, D).
    """

    handed = ("encoder",)

    def __init__(self, num_genres: int, *, modality: str, encoder: keras.Layer, **kwargs):
        super().__init__(num_genres, **kwargs)
        self.modality = modality
        self.encoder = encoder
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        (modality,) = config.reads
        return cls.of(modality, config, num_genres, name=config.variant)

    @classmethod
    def of(cls, modality: str, config, num_genres: int, **kwargs) -> "Unimodal":
        """Builds the model of one modality, with the encoder that a configuration names for it."""
        return cls(num_genres, modality=modality, encoder=encoder_of(modality, config), **kwargs)

    def call(self, inputs, training=False):
        features = self.encoder(inputs[self.modality], training=training)  # (B, D)
        return self.calibrated(self.head(features))  # (B, G) logits

    def get_config(self) -> dict:
        return {**super().get_config(), "modality": self.modality}
