"""The optimizer of fine-tuned presets. A trained model's file names it, as it does layers."""

from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable(package="mmfusion")
class AdamByLayer(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) in which some variables have a share of the learning rate, possibly none.

    A smaller gradient would not do: Adam divides by its size.

    Args:
        shares: weights, each with a scalar variable that holds its share. They are of one training: a model that
            Keras loads from its file has none.
    """

    def __init__(self, *args, shares: Sequence[tuple[keras.Variable, keras.Variable]] = (), **kwargs):
        super().__init__(*args, **kwargs)
        # Keras hands TensorFlow's own variables on to `update_step`.
        self._shares = {weight.value.ref(): share for weight, share in shares}

    def update_step(self, gradient, variable, learning_rate):
        if variable.ref() in self._shares:
            learning_rate = learning_rate * keras.ops.cast(self._shares[variable.ref()], variable.dtype)
        super().update_step(gradient, variable, learning_rate)
