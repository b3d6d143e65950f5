"""The optimizers. A trained model's file names its own, as it does layers."""

from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="mmfusion")
class FusedAdam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) with one operation a variable.

    Keras' own makes some twenty: each goes through memory by itself, which for the embeddings of words is most of a
    step, and TensorFlow traces each. The numbers are the same but for rounding, except for a row of an embedding
    that a batch has several times: here its gradients are added before they are squared, as they are for any other
    weight; Keras squares each, so that the steps of frequent words are larger.
    """

    def update_step(self, gradient, variable, learning_rate):
        step = ops.cast(ops.add(self.iterations, 1), variable.dtype)
        place = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=ops.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(tf.convert_to_tensor(gradient), variable.dtype),
        )


@keras.saving.register_keras_serializable(package="mmfusion")
class AdamByLayer(FusedAdam):
    """Adam in which some variables have a share of the learning rate, possibly none.

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
            learning_rate = learning_rate * ops.cast(self._shares[variable.ref()], variable.dtype)
        super().update_step(gradient, variable, learning_rate)
