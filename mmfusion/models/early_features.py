"""Early fusion of features that frozen presets have made (type II)."""

import keras
from keras import layers, ops

from mmfusion.models.base import GenreModel
from mmfusion.schema import OVERVIEW, POSTER


@keras.saving.register_keras_serializable(package="mmfusion")
class EarlyFeatures(GenreModel):
    """The modalities meet before anything that is trained: features of frozen presets are joined.

    Early fusion of type II of Huang et al. 2020: the presets, which have read the films before, get no
    gradient; one classifier reads the features of both.

    Args:
        num_genres: G.
        groups: as many equal parts of the overview's features are normalised each by itself.
        units: of the classifier's hidden layer.
        dropout: before and after that layer.
    """

    def __init__(self, num_genres: int, *, groups: int, units: int, dropout: float, **kwargs):
        super().__init__(num_genres, **kwargs)
        self.groups = groups
        self.units = units
        self.dropout = dropout
        self.poster_norm = layers.LayerNormalization(name="poster_norm")
        self.overview_norm = layers.LayerNormalization(name="overview_norm")
        self.hidden = layers.Dense(units, "relu", name="hidden")
        self.drop = layers.Dropout(dropout)
        self.head = layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        groups = config.overview_encoder.preset.layers
        return cls(num_genres, groups=groups, **dict(config.early_features), name="early_features")

    def call(self, inputs, training=False):
        poster = self.poster_norm(inputs[POSTER])  # (B, D1)
        overview = inputs[OVERVIEW]  # (B, D2)
        parts = ops.reshape(overview, (-1, self.groups, overview.shape[-1] // self.groups))
        overview = ops.reshape(self.overview_norm(parts), ops.shape(overview))  # (B, D2)
        joined = ops.concatenate([poster, overview], axis=1)  # (B, D1 + D2), here the modalities meet
        hidden = self.hidden(self.drop(joined, training=training))  # (B, U)
        return self.calibrated(self.head(self.drop(hidden, training=training)))  # (B, G) logits

    def get_config(self) -> dict:
        return {**super().get_config(), "groups": self.groups, "units": self.units, "dropout": self.dropout}
