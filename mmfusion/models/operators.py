"""Operators of joint fusion: a layer each, in the form of its paper.

An operator is called on a list of M modalities' features (B, D_m), posters first, and gives (B, D). One whose
`reads_sequences` is true is called on sequences and their masks instead, see `models.attention`. One whose
`for_two` is true is made for two modalities, as its paper is.
"""

import keras
from keras import layers, ops

from mmfusion.config import OPERATORS, Config
from mmfusion.errors import UserError
from mmfusion.models.registry import class_of

RANK = 4  # R of low-rank fusion; Liu et al. found low ranks enough, and high ones less stable
FACTORS = 5  # k of factorised bilinear pooling, and its dropout, as in Yu et al.
BILINEAR_DROPOUT = 0.1
SMALLEST = 1e-6  # that a root is taken of in it, next to sums of products of the size of 1


class Operator(layers.Layer):
    """A list of features -> one vector a film."""

    reads_sequences = False
    for_two = False

    @classmethod
    def of(cls, units: int, count: int) -> "Operator":
        """Makes one.

        Args:
            units: D, of what it gives.
            count: M, of the modalities.
        """
        return cls(units)  # pyright: ignore[reportCallIssue]  a Keras layer's takes none, a subclass' does


@keras.saving.register_keras_serializable(package="mmfusion")
class Concat(Operator):
    """The features side by side: (B, D_1 + D_2 + ...)."""

    @classmethod
    def of(cls, units, count):
        return cls()

    def call(self, features):
        return ops.concatenate(features, axis=-1)  # (B, D_1 + D_2 + ...)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], sum(shape[-1] for shape in input_shape))


class VectorOperator(Operator):
    """A list of (B, D_m) -> (B, units).

    Args:
        units: D, of what it gives.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def _dense(self, units: int, activation: str | None = None, use_bias: bool = True) -> layers.Dense:
        # By the operator's own policy, which a saved one brings with it, and not by the global one.
        return layers.Dense(units, activation, use_bias, dtype=self.dtype_policy)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.units)


@keras.saving.register_keras_serializable(package="mmfusion")
class Sum(VectorOperator):
    """The sum of a linear map of each modality: W_1 x_1 + W_2 x_2 + ... + b.

    Args:
        units: D, of what it gives.
        count: M, of the modalities.
    """

    @classmethod
    def of(cls, units, count):
        return cls(units, count)

    def __init__(self, units: int, count: int = 2, **kwargs):
        super().__init__(units, **kwargs)
        self.count = count
        self.maps = [
            self._dense(units, use_bias=not place) for place in range(count)
        ]  # one bias is enough for a sum

    def build(self, input_shape):
        for layer, shape in zip(self.maps, input_shape, strict=True):
            layer.build(shape)
        super().build(input_shape)

    def call(self, features):
        return sum(layer(one) for layer, one in zip(self.maps, features, strict=True))  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class Gated(VectorOperator):
    """A gate weighs each unit of one modality against those of the others.

    The gated multimodal unit of Arevalo et al. 2017 (arXiv:1702.01992). Of two modalities one has the gate z, the
    other 1 - z; of more each has a gate of its own.

    Args:
        units: D, of the gates and of what it gives.
        count: M, of the modalities.
    """

    @classmethod
    def of(cls, units, count):
        return cls(units, count)

    def __init__(self, units: int, count: int = 2, **kwargs):
        super().__init__(units, **kwargs)
        self.count = count
        self.maps = [self._dense(units, "tanh", use_bias=False) for _ in range(count)]
        gates = 1 if count == 2 else count
        self.gate_maps = [self._dense(units, "sigmoid", use_bias=False) for _ in range(gates)]

    def build(self, input_shape):
        for layer, shape in zip(self.maps, input_shape, strict=True):
            layer.build(shape)
        for layer in self.gate_maps:
            layer.build((input_shape[0][0], sum(shape[-1] for shape in input_shape)))
        super().build(input_shape)

    def gates(self, features):
        """Computes how much each modality is trusted: M times (B, D), from 0 to 1; of two they add up to 1.

        Args:
            features: as the operator is called on.
        """
        joined = ops.concatenate(features, axis=-1)  # (B, D_1 + D_2 + ...)
        gates = [layer(joined) for layer in self.gate_maps]  # (B, D) each
        return gates if len(gates) > 1 else [gates[0], 1 - gates[0]]

    def call(self, features):
        gates = self.gates(features)
        return sum(z * layer(one) for z, layer, one in zip(gates, self.maps, features, strict=True))  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class LowRank(VectorOperator):
    """Every product of a feature of each modality, weighed by a tensor of rank 4.

    Low-rank multimodal fusion of Liu et al. 2018 (arXiv:1806.00064). Each vector gets a 1 at its end, so that
    the features themselves are among the products. The weights of the ranks and the bias are those of the
    authors' program.

    Args:
        units: D, of what it gives.
    """

    def build(self, input_shape):
        self.factors = [self._factors(shape[-1], f"factors_{place}") for place, shape in enumerate(input_shape)]
        self.rank_weights = self.add_weight(shape=(RANK, 1), initializer="glorot_normal", name="rank_weights")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        super().build(input_shape)

    def _factors(self, features: int, name: str):
        # Xavier for the matrix of each rank; Keras counts the ranks in the fans, which `scale` undoes.
        xavier = keras.initializers.VarianceScaling(scale=RANK, mode="fan_avg")
        return self.add_weight(shape=(RANK, features + 1, self.units), initializer=xavier, name=name)

    def call(self, features):
        product = self.rank_weights  # (R, 1)
        for one, factors in zip(features, self.factors, strict=True):
            with_one = ops.concatenate([one, ops.ones_like(one[:, :1])], axis=-1)  # (B, D_m + 1)
            product = product * ops.einsum("bi,rid->brd", with_one, factors)  # (B, R, D)
        return ops.sum(product, axis=1) + self.bias  # (B, D)


@keras.saving.register_keras_serializable(package="mmfusion")
class Bilinear(VectorOperator):
    """Each unit is the sum of 5 products of a poster's and an overview's linear map, made a vector of length 1.

    Multi-modal factorised bilinear pooling of Yu et al. 2017 (arXiv:1708.01471), with the biases of the
    authors' program: with them a modality that says nothing (zeros) does not silence the other.

    Args:
        units: D, of what it gives.
    """

    for_two = True

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
class FiLM(VectorOperator):
    """The overview scales and shifts what a linear map makes of the poster: relu((1 + delta(o)) W p + beta(o)).

    Feature-wise linear modulation of Perez et al. 2018 (arXiv:1709.07871), with their gamma = 1 + delta. It is
    not symmetric: the overview conditions the poster, as there a question conditions a picture.

    Args:
        units: D, of what it gives.
    """

    for_two = True

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


def make_operator(name: str, units: int, count: int) -> Operator:
    """Makes the operator of this name for M modalities; the arguments are those of `Operator.of`."""
    return class_of(OPERATORS[name]).of(units, count)


def operator_of(config: Config) -> layers.Layer:
    """Makes the operator that a configuration names, for its variant's modalities.

    Raises:
        UserError: there is none of this name, or it is not made for so many modalities or units.
    """
    joint, count = config.joint, len(config.reads)
    if joint.operator not in OPERATORS:
        raise UserError(f"unknown joint.operator {joint.operator!r}; there are: {', '.join(OPERATORS)}")
    operator = make_operator(joint.operator, joint.units, count)
    if operator.for_two and count != 2:
        raise UserError(f"joint.operator {joint.operator} is made for two modalities, not {count}")
    return operator
