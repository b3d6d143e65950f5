"""How joint fusion puts two modalities together: one layer an operator, each in the form of its paper.

An operator is called on [poster features (B, D1), overview features (B, D2)] and gives (B, D). One whose
`reads_sequences` is true is called on sequences and their masks instead, see `models.attention`.
"""

import keras
from keras import layers, ops

from mmfusion.models.attention import CrossAttention

RANK = 4  # R of low-rank fusion; Liu et al. found low ranks enough, and high ones less stable
FACTORS = 5  # k of factorised bilinear pooling, and its dropout, as in Yu et al.
BILINEAR_DROPOUT = 0.1
SMALLEST = 1e-6  # that a root is taken of in it, next to sums of products of the size of 1


@keras.saving.register_keras_serializable(package="mmfusion")
class Concat(layers.Layer):
    """The features side by side: (B, D1 + D2)."""

    reads_sequences = False

    def call(self, features):
        return ops.concatenate(features, axis=-1)  # (B, D1 + D2)

    def compute_output_shape(self, input_shape):
        poster, overview = input_shape
        return (poster[0], poster[-1] + overview[-1])


class _VectorOperator(layers.Layer):
    """[(B, D1), (B, D2)] -> (B, units).

    Args:
        units: D, of what it gives.
    """

    reads_sequences = False

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def _dense(self, units: int, activation: str | None = None, use_bias: bool = True) -> layers.Dense:
        # By the operator's own policy, which a saved one brings with it, and not by the global one.
        return layers.Dense(units, activation, use_bias, dtype=self.dtype_policy)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.units)

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="mmfusion")
class Sum(_VectorOperator):
    """The sum of a linear map of each modality: W_p p + W_o o + b.

    Args:
        units: D, of what it gives.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)
        self.poster = self._dense(units)
        self.overview = self._dense(units, use_bias=False)  # one bias is enough for a sum

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster.build(poster)
        self.overview.build(overview)
        super().build(input_shape)

    def call(self, features):
        poster, overview = features  # (B, D1), (B, D2)
        return self.poster(poster) + self.overview(overview)  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class Gated(_VectorOperator):
    """A gate weighs each unit of one modality against that of the other.

    The gated multimodal unit of Arevalo et al. 2017 (arXiv:1702.01992), for two modalities.

    Args:
        units: D, of the gate and of what it gives.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)
        self.poster = self._dense(units, "tanh", use_bias=False)
        self.overview = self._dense(units, "tanh", use_bias=False)
        self.gate = self._dense(units, "sigmoid", use_bias=False)

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster.build(poster)
        self.overview.build(overview)
        self.gate.build((poster[0], poster[-1] + overview[-1]))
        super().build(input_shape)

    def gates(self, features):
        """How much the poster is trusted: z (B, D), 1 where a unit is the poster's alone, 0 where the overview's.

        Args:
            features: [poster (B, D1), overview (B, D2)], as the operator is called on.
        """
        return self.gate(ops.concatenate(features, axis=-1))  # (B, D)

    def call(self, features):
        poster, overview = features  # (B, D1), (B, D2)
        gate = self.gates(features)  # (B, D)
        return gate * self.poster(poster) + (1 - gate) * self.overview(overview)  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class LowRank(_VectorOperator):
    """Every product of a poster's and an overview's feature, weighed by a tensor of rank 4.

    Low-rank multimodal fusion of Liu et al. 2018 (arXiv:1806.00064). Each vector gets a 1 at its end, so that
    the features themselves are among the products. The weights of the ranks and the bias are those of the
    authors' program.

    Args:
        units: D, of what it gives.
    """

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster_factors = self._factors(poster[-1], "poster_factors")
        self.overview_factors = self._factors(overview[-1], "overview_factors")
        self.rank_weights = self.add_weight(shape=(RANK, 1), initializer="glorot_normal", name="rank_weights")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        super().build(input_shape)

    def _factors(self, features: int, name: str):
        # Xavier for the matrix of each rank; Keras counts the ranks in the fans, which `scale` undoes.
        xavier = keras.initializers.VarianceScaling(scale=RANK, mode="fan_avg")
        return self.add_weight(shape=(RANK, features + 1, self.units), initializer=xavier, name=name)

    def call(self, features):
        poster, overview = features  # (B, D1), (B, D2)
        one = ops.ones_like(poster[:, :1])  # (B, 1)
        poster = ops.concatenate([poster, one], axis=-1)  # (B, D1 + 1)
        overview = ops.concatenate([overview, one], axis=-1)  # (B, D2 + 1)
        poster = ops.einsum("bi,rid->brd", poster, self.poster_factors)  # (B, R, D)
        overview = ops.einsum("bi,rid->brd", overview, self.overview_factors)  # (B, R, D)
        return ops.sum(self.rank_weights * poster * overview, axis=1) + self.bias  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class Bilinear(_VectorOperator):
    """Each unit is the sum of 5 products of a poster's and an overview's linear map, made a vector of length 1.

    Multi-modal factorised bilinear pooling of Yu et al. 2017 (arXiv:1708.01471), with the biases of the
    authors' program: with them a modality that says nothing (zeros) does not silence the other.

    Args:
        units: D, of what it gives.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)
        self.poster = self._dense(units * FACTORS)
        self.overview = self._dense(units * FACTORS)
        self.dropout = layers.Dropout(BILINEAR_DROPOUT, dtype=self.dtype_policy)

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster.build(poster)
        self.overview.build(overview)
        super().build(input_shape)

    def call(self, features, training=False):
        poster, overview = features  # (B, D1), (B, D2)
        products = self.dropout(self.poster(poster) * self.overview(overview), training=training)  # (B, D k)
        pooled = ops.sum(ops.reshape(products, (-1, self.units, FACTORS)), axis=-1)  # (B, D)
        # The slopes of |x|^1/2 and of a vector's length are infinite or undefined at 0. With `maximum` inside
        # the root, what is smaller has the slope 0, and the sign makes the root of 0 a 0.
        rooted = ops.sign(pooled) * ops.sqrt(ops.maximum(ops.abs(pooled), SMALLEST))  # (B, D)
        squares = ops.sum(ops.square(rooted), axis=-1, keepdims=True)  # (B, 1)
        return rooted / ops.sqrt(ops.maximum(squares, SMALLEST))  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class FiLM(_VectorOperator):
    """The overview scales and shifts what a linear map makes of the poster: relu((1 + delta(o)) W p + beta(o)).

    Feature-wise linear modulation of Perez et al. 2018 (arXiv:1709.07871), with their gamma = 1 + delta. It is
    not symmetric: the overview conditions the poster, as there a question conditions a picture.

    Args:
        units: D, of what it gives.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(units, **kwargs)
        self.poster = self._dense(units)
        self.delta = self._dense(units)
        self.beta = self._dense(units)

    def build(self, input_shape):
        poster, overview = input_shape
        self.poster.build(poster)
        self.delta.build(overview)
        self.beta.build(overview)
        super().build(input_shape)

    def call(self, features):
        poster, overview = features  # (B, D1), (B, D2)
        gamma = 1 + self.delta(overview)  # (B, D)
        return ops.relu(gamma * self.poster(poster) + self.beta(overview))  # (B, D)


# Every operator: its name in a config file (`joint.operator`) -> a function of units (D) that makes the layer.
OPERATORS = {
    "concat": lambda units: Concat(),
    "sum": Sum,
    "gated": Gated,
    "low_rank": LowRank,
    "bilinear": Bilinear,
    "film": FiLM,
    "cross_attention": CrossAttention,
}
