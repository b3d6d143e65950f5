"""Joint (intermediate) fusion."""

import keras

from mmfusion.errors import UserError
from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import overview_encoder, poster_encoder
from mmfusion.models.operators import OPERATORS
from mmfusion.schema import POSTER, TOKENS


@keras.saving.register_keras_serializable(package="mmfusion")
class JointFusion(GenreModel):
    """The modalities meet between their encoders and one head, and the loss trains all three.

    Joint fusion of Huang et al. 2020 (npj Digital Medicine 3:136), also called intermediate fusion.

    Args:
        num_genres: G.
        poster_encoder: posters (B, H, W, 3) -> features (B, D1).
        overview_encoder: tokens (B, T) -> features (B, D2).
        operator: [(B, D1), (B, D2)] -> (B, D), see `models.operators`.
        units: of the dense layer on what was put together; in a run the operator has as many.
        dropout: before and after that layer.
    """

    handed = ("poster_encoder", "overview_encoder", "operator")

    def __init__(
        self,
        num_genres: int,
        *,
        poster_encoder: keras.Layer,
        overview_encoder: keras.Layer,
        operator: keras.Layer,
        units: int,
        dropout: float,
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.poster_encoder = poster_encoder
        self.overview_encoder = overview_encoder
        self.operator = operator
        self.units = units
        self.dropout = dropout
        self.fused = keras.Sequential(
            [
                keras.layers.Dropout(dropout),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dropout(dropout),
            ]
        )
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")

    @classmethod
    def from_run_config(cls, config, num_genres):
        joint = config.joint
        if joint.operator not in OPERATORS:
            raise UserError(f"unknown joint.operator {joint.operator!r}; there are: {', '.join(OPERATORS)}")
        operator = OPERATORS[joint.operator](joint.units)
        return cls(
            num_genres,
            poster_encoder=poster_encoder(config, as_sequence=operator.reads_sequences),
            overview_encoder=overview_encoder(config, as_sequence=operator.reads_sequences),
            operator=operator,
            units=joint.units,
            dropout=joint.dropout,
            name="joint",
        )

    def call(self, inputs, training=False):
        poster = self.poster_encoder(inputs[POSTER], training=training)  # (B, D1)
        overview = self.overview_encoder(inputs[TOKENS], training=training)  # (B, D2)
        together = self.operator([poster, overview], training=training)  # (B, D), here the modalities meet
        return self.head(self.fused(together, training=training))  # (B, G) logits

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "dropout": self.dropout}
