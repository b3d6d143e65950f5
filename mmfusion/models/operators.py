"""How joint fusion puts two feature vectors together: one layer an operator.

An operator is called on [poster features (B, D1), overview features (B, D2)] and gives (B, D).
"""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mmfusion")
class Gated(layers.Layer):
    """A gate weighs each unit of one modality against that of the other.

    The gated multimodal unit of Arevalo et al. 2017 (arXiv:1702.01992), for two modalities.

    Args:
        units: D, of the gate and of what it gives.
    """

    def __init__(self, units: int = 128, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.poster = layers.Dense(units, "tanh", use_bias=False)
        self.overview = layers.Dense(units, "tanh", use_bias=False)
        self.gate = layers.Dense(units, "sigmoid", use_bias=False)

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster.build(poster)
        self.overview.build(overview)
        self.gate.build((poster[0], poster[-1] + overview[-1]))
        super().build(input_shape)

    def call(self, features):
        poster, overview = features  # (B, D1), (B, D2)
        gate = self.gate(keras.ops.concatenate([poster, overview], axis=-1))  # (B, D)
        return gate * self.poster(poster) + (1 - gate) * self.overview(overview)  # (B, D)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


# Every operator: its name in a config file (`joint.operator`) -> a function that makes the layer.
OPERATORS = {
    "concat": layers.Concatenate,  # (B, D1 + D2)
    "gated": Gated,  # (B, 128)
}
