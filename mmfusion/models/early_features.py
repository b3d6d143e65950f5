"""Early fusion of features that frozen presets have made (type II)."""

from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

from mmfusion.models.base import GenreModel
from mmfusion.schema import OVERVIEW, POSTER, TABLE


@keras.saving.register_keras_serializable(package="mmfusion")
class EarlyFeatures(GenreModel):
    """The modalities meet before anything that is trained: features of frozen presets are joined.

    Early fusion of type II of Huang et al. 2020: the presets, which have read the films before, get no
    gradient; one classifier reads the features of all.

    Args:
        num_genres: G.
        modalities: those that are read; a table's columns are joined as they are, categories one-hot.
        values: the most values of a table's category that are told apart, V.
        groups: as many equal parts of the overview's features are normalised each by itself.
        units: of the classifier's hidden layer.
        dropout: before and after that layer.
    """

    def __init__(
        self,
        num_genres: int,
        *,
        modalities: Sequence[str],
        values: int,
        groups: int,
        units: int,
        dropout: float,
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.modalities = tuple(modalities)
        self.values = values
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
        return cls(
            num_genres,
            modalities=config.reads,
            values=config.table.values,
            groups=groups,
            **dict(config.early_features),
            name="early_features",
        )

    def call(self, inputs, training=False):
        of: dict[str, Callable] = {POSTER: self.poster_norm, OVERVIEW: self._normalised, TABLE: self._one_hot}
        features = [of[modality](inputs[modality]) for modality in self.modalities]  # (B, D_m) each
        joined = ops.concatenate(features, axis=1)  # (B, D_1 + D_2 + ...), here the modalities meet
        hidden = self.hidden(self.drop(joined, training=training))  # (B, U)
        return self.calibrated(self.head(self.drop(hidden, training=training)))  # (B, G) logits

    def _normalised(self, overview):
        parts = ops.reshape(overview, (-1, self.groups, overview.shape[-1] // self.groups))
        return ops.reshape(self.overview_norm(parts), ops.shape(overview))  # (B, D2)

    def _one_hot(self, table):
        value = ops.one_hot(ops.cast(ops.clip(table[:, :, 1], 0, self.values), "int32"), self.values + 1)
        cells = ops.concatenate([table[:, :, 0:1], value * table[:, :, 2:3]], axis=2)  # (B, C, V + 2)
        return ops.reshape(cells, (-1, cells.shape[1] * cells.shape[2]))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in "modalities values groups units dropout".split()},
        }
