"""Overviews only."""

import keras

from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import overview_encoder
from mmfusion.schema import TOKENS


@keras.saving.register_keras_serializable(package="mmfusion")
class BiLSTM(GenreModel):
    """The modalities meet nowhere: genres from the overview alone.

    Args:
        num_genres: G.
        overview_encoder: tokens (B, T) -> features (B, D).
    """

    handed = ("overview_encoder",)
    reads = (TOKENS,)

    def __init__(self, num_genres: int, *, overview_encoder: keras.Layer, **kwargs):
        super().__init__(num_genres, **kwargs)
        self.overview_encoder = overview_encoder
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        return cls(num_genres, overview_encoder=overview_encoder(config), name="bilstm")

    def call(self, inputs, training=False):
        features = self.overview_encoder(inputs[TOKENS], training=training)  # (B, D)
        return self.calibrated(self.head(features))  # (B, G) logits
