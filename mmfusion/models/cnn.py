"""Posters only."""

import keras

from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import poster_encoder
from mmfusion.schema import POSTER


@keras.saving.register_keras_serializable(package="mmfusion")
class CNN(GenreModel):
    """The modalities meet nowhere: genres from the poster alone.

    Args:
        num_genres: G.
        poster_encoder: posters (B, H, W, 3) -> features (B, D).
    """

    handed = ("poster_encoder",)
    reads = (POSTER,)

    def __init__(self, num_genres: int, *, poster_encoder: keras.Layer, **kwargs):
        super().__init__(num_genres, **kwargs)
        self.poster_encoder = poster_encoder
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        return cls(num_genres, poster_encoder=poster_encoder(config), name="cnn")

    def call(self, inputs, training=False):
        features = self.poster_encoder(inputs[POSTER], training=training)  # (B, D)
        return self.calibrated(self.head(features))  # (B, G) logits
