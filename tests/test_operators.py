"""Each operator of joint fusion against NumPy, written from its paper's equations, and what all have in common."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erf

from mmfusion.config import OPERATORS
from mmfusion.errors import UserError
from mmfusion.models.operators import make_operator

UNITS, FILMS, PATCHES, WORDS, POSTER_WIDTH, OVERVIEW_WIDTH = 8, 4, 5, 6, 3, 5
VECTOR = [name for name in OPERATORS if name != "cross_attention"]


def inputs_of(name):
    """Random features; of the sequences one film has no poster, one no words, and padding is anywhere."""
    rng = np.random.default_rng(0)
    if name != "cross_attention":
        return [rng.normal(size=(FILMS, width)).astype(np.float32) for width in (POSTER_WIDTH, OVERVIEW_WIDTH)]
    sides = []
    for film, (length, width) in enumerate([(PATCHES, POSTER_WIDTH), (WORDS, OVERVIEW_WIDTH)]):
        mask = rng.random((FILMS, length)) < 0.6
        mask[:, 0] = True
        mask[film] = False
        sides.append((rng.normal(size=(FILMS, length, width)).astype(np.float32), mask))
    return sides


def free(x):
    """The shape that is known before there are films: no number of them, and no length of a sequence."""
    return (None,) * x.ndim if x.dtype == bool else (*(None,) * (x.ndim - 1), x.shape[-1])


def make(name, inputs, **kwargs):
    """An operator with random weights, biases and scales of normalisations too."""
    operator = make_operator(name, UNITS, len(inputs))
    operator = type(operator).from_config({**operator.get_config(), **kwargs})
    operator.build(tf.nest.map_structure(free, inputs))
    rng = np.random.default_rng(2)
    operator.set_weights([rng.normal(scale=0.5, size=w.shape) for w in operator.get_weights()])
    return operator


def in_a_graph(operator, inputs):
    """What it gives as `fit` runs it: films and lengths are not known beforehand."""
    signature = tf.nest.map_structure(lambda x: tf.TensorSpec(free(x), x.dtype), inputs)
    run = tf.function(lambda x: operator(x, training=False), input_signature=[signature])
    return run(tf.nest.map_structure(tf.constant, inputs)).numpy()


def gradients(operator, inputs):
    """Of a random projection of the result: (path, gradient) by the poster, the overview and each weight."""
    inputs = tf.nest.map_structure(tf.constant, inputs)
    features = [x for x in tf.nest.flatten(inputs) if x.dtype != tf.bool]
    weights = operator.trainable_weights
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = operator(inputs, training=False)
        loss = tf.reduce_sum(found * np.random.default_rng(3).normal(size=found.shape).astype(np.float32))
    by = tape.gradient(loss, [*features, *[w.value for w in weights]])
    return list(zip(["poster", "overview", *[w.path for w in weights]], [g.numpy() for g in by], strict=True))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(layer, x):
    return x @ np.array(layer.kernel) + (np.array(layer.bias) if layer.use_bias else 0)


def concat(operator, poster, overview):
    return np.hstack([poster, overview])


def sum_of_maps(operator, poster, overview):
    return linear(operator.maps[0], poster) + linear(operator.maps[1], overview)


def gated(operator, poster, overview):
    """h = z tanh(W_p p) + (1 - z) tanh(W_o o), z = sigmoid(W_z [p; o]): equations 1 to 4 of the paper."""
    w_poster, w_overview, w_gate = (np.array(w) for w in operator.get_weights())
    gate = sigmoid(np.hstack([poster, overview]) @ w_gate)
    np.testing.assert_allclose(operator.gates([poster, overview]), [gate, 1 - gate], atol=1e-5)
    return gate * np.tanh(poster @ w_poster) + (1 - gate) * np.tanh(overview @ w_overview)


def low_rank(operator, poster, overview):
    """h_d = <W_d, [p; 1] (x) [o; 1]> + b_d with the whole tensor W_d = sum_r a_r w_p^r,d (x) w_o^r,d."""
    w_poster, w_overview = map(np.array, operator.factors)
    ranks, bias = np.array(operator.rank_weights)[:, 0], np.array(operator.bias)
    assert w_poster.shape == (4, POSTER_WIDTH + 1, UNITS)
    found = np.zeros((len(poster), UNITS))
    for d in range(UNITS):
        tensor = sum(ranks[r] * np.outer(w_poster[r, :, d], w_overview[r, :, d]) for r in range(4))
        for film in range(len(poster)):
            products = np.outer(np.append(poster[film], 1), np.append(overview[film], 1))
            found[film, d] = (tensor * products).sum() + bias[d]
    return found


def bilinear(operator, poster, overview):
    """z_d = 1^T (U_d^T p * V_d^T o), U_d and V_d with k = 5 columns; then the root with its sign, and length 1."""
    products = linear(operator.poster, poster) * linear(operator.overview, overview)
    z = np.stack([products[:, 5 * d : 5 * d + 5].sum(axis=1) for d in range(UNITS)], axis=1)
    z = np.sign(z) * np.abs(z) ** 0.5
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def film(operator, poster, overview):
    """relu(gamma(o) * W p + beta(o)), gamma = 1 + delta."""
    gamma, beta = 1 + linear(operator.delta, overview), linear(operator.beta, overview)
    return np.maximum(gamma * linear(operator.poster, poster) + beta, 0)


def layer_norm(layer, x):
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
    return x * np.array(layer.gamma) + np.array(layer.beta)


def co_attention(block, own, other):
    """One stream for one film, without padding: softmax(Q K^T / sqrt(d)) V in each of 4 heads, and so on."""
    if len(other):
        q, k, v, out = (
            (np.array(layer.kernel), np.array(layer.bias))
            for layer in (getattr(block.attention, f"{part}_dense") for part in ("query", "key", "value", "output"))
        )
        read = np.tile(out[1], (len(own), 1))
        for head in range(4):
            queries, keys, values = (
                x @ w[:, head] + b[head] for x, (w, b) in zip((own, other, other), (q, k, v), strict=True)
            )
            scores = np.exp(queries @ keys.T / np.sqrt(UNITS / 4))
            read = read + scores / scores.sum(axis=1, keepdims=True) @ values @ out[0][head]
        own = own + read
    own = layer_norm(block.attention_norm, own)
    hidden = linear(block.hidden, own)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    return layer_norm(block.output_norm, own + linear(block.output_map, hidden))


def cross_attention(operator, poster, overview):
    """Film by film on what is no padding: a sequence that is not there is not read, and its mean is 0."""
    rows = []
    for patches, there, words, there_too in zip(*poster, *overview, strict=True):
        patches, words = linear(operator.poster, patches[there]), linear(operator.overview, words[there_too])
        sides = [
            co_attention(operator.poster_reads, patches, words),
            co_attention(operator.overview_reads, words, patches),
        ]
        rows.append(np.hstack([side.mean(axis=0) if len(side) else np.zeros(UNITS) for side in sides]))
    return np.array(rows)


REFERENCES = {
    "concat": concat,
    "sum": sum_of_maps,
    "gated": gated,
    "low_rank": low_rank,
    "bilinear": bilinear,
    "film": film,
    "cross_attention": cross_attention,
}


@pytest.mark.parametrize("name", OPERATORS)
class TestEveryOperator:
    def test_is_the_papers(self, name):
        inputs = inputs_of(name)
        operator = make(name, inputs)
        found = in_a_graph(operator, inputs)
        expected = REFERENCES[name](operator, *inputs)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert operator.compute_output_shape(tf.nest.map_structure(free, inputs)) == (None, found.shape[1])

    def test_has_gradients_by_both_modalities_and_every_weight(self, name):
        inputs = inputs_of(name)
        for path, gradient in gradients(make(name, inputs), inputs):
            assert np.isfinite(gradient).all(), path
            # A softmax is the same whatever is added to all its arguments.
            assert np.abs(gradient).max() > 1e-4 or path.endswith("key/bias"), path

    def test_comes_back_from_a_file_of_a_model(self, name, tmp_path):
        inputs = inputs_of(name)
        operator = make(name, inputs)
        symbols = tf.nest.map_structure(lambda x: keras.Input(batch_shape=free(x), dtype=x.dtype), inputs)
        model = keras.Model(symbols, operator(symbols))
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
        assert type(again) is type(operator)
        assert again.reads_sequences == (name == "cross_attention")
        np.testing.assert_array_equal(again(inputs), operator(inputs))

    def test_bfloat16_arithmetic_gives_nearly_the_same(self, name):
        """By the operator's own policy, whatever the global one is."""
        inputs = inputs_of(name)
        found = in_a_graph(make(name, inputs, dtype="mixed_bfloat16"), inputs)
        assert found.dtype.name == "bfloat16"
        expected = in_a_graph(make(name, inputs), inputs)
        np.testing.assert_allclose(found.astype(np.float32), expected, atol=0.02 * np.abs(expected).max())


class TestThreeModalities:
    """In the general form of the paper, where it has one."""

    def made(self, name):
        rng = np.random.default_rng(4)
        inputs = [rng.normal(size=(FILMS, width)).astype(np.float32) for width in (POSTER_WIDTH, OVERVIEW_WIDTH, 2)]
        return make(name, inputs), inputs

    def test_each_has_a_gate_of_its_own(self):
        """h = sum_i z_i tanh(W_i x_i), z_i = sigmoid(W_z_i [x_1; x_2; x_3]): the GMU for more than two."""
        operator, inputs = self.made("gated")
        weights, joined = [np.array(w) for w in operator.get_weights()], np.hstack(inputs)
        gates = [sigmoid(joined @ w) for w in weights[3:]]
        np.testing.assert_allclose(operator.gates(inputs), gates, atol=1e-5)
        expected = sum(z * np.tanh(x @ w) for z, x, w in zip(gates, inputs, weights[:3], strict=True))
        np.testing.assert_allclose(operator(inputs), expected, atol=1e-5)

    def test_all_products_of_three_are_weighed_by_a_tensor_of_low_rank(self):
        operator, inputs = self.made("low_rank")
        ones = [np.hstack([x, np.ones((FILMS, 1))]) for x in inputs]
        factors, ranks = map(np.array, operator.factors), np.array(operator.rank_weights)[:, 0]
        tensor = np.einsum("r,rid,rjd,rkd->ijkd", ranks, *factors)
        expected = np.einsum("ijkd,bi,bj,bk->bd", tensor, *ones) + np.array(operator.bias)
        np.testing.assert_allclose(operator(inputs), expected, atol=1e-4)

    @pytest.mark.parametrize("name", ["concat", "sum"])
    def test_a_sum_and_a_row_take_any_number(self, name):
        operator, inputs = self.made(name)
        maps = inputs if name == "concat" else [linear(w, x) for w, x in zip(operator.maps, inputs, strict=True)]
        np.testing.assert_allclose(operator(inputs), np.hstack(maps) if name == "concat" else sum(maps), atol=1e-5)

    def test_others_say_that_they_are_for_two(self):
        for_two = {name for name in OPERATORS if make_operator(name, UNITS, 3).for_two}
        assert for_two == {"bilinear", "film", "cross_attention"}


@pytest.mark.parametrize("scale", [0, 1e-12])
@pytest.mark.parametrize("name", VECTOR)
def test_a_modality_that_says_nothing_or_nearly_gives_small_gradients(name, scale):
    """Of some film an encoder with ReLU says nothing at all."""
    for silent in ([0], [1], [0, 1]):
        inputs = inputs_of(name)
        for side in silent:
            inputs[side] *= scale
        operator = make(name, inputs)
        operator.set_weights([w * (w.ndim > 1) for w in operator.get_weights()])  # biases begin at 0
        assert np.isfinite(operator(inputs)).all()
        for path, gradient in gradients(operator, inputs):
            assert (np.abs(gradient) < 1e3).all(), path


def test_low_rank_factors_begin_as_xaviers_matrices_and_differ():
    operator = make_operator("low_rank", 60, 2)
    operator.build([(None, 40), (None, 40)])
    factors = [np.array(one) for one in operator.factors]
    for one in factors:
        assert one.std() == pytest.approx(np.sqrt(2 / (41 + 60)), rel=0.05)
    assert not np.allclose(*factors)
    np.testing.assert_array_equal(operator.bias, 0)


def test_bilinear_drops_products_while_training_only():
    inputs = inputs_of("bilinear")
    operator = make("bilinear", inputs)
    still = np.array(operator(inputs, training=False))
    assert not np.allclose(operator(inputs, training=True), still)


class TestCrossAttention:
    def test_no_padding_is_read_and_none_has_a_gradient(self):
        inputs = inputs_of("cross_attention")
        operator = make("cross_attention", inputs)
        padded = [
            (
                np.pad(np.where(mask[:, :, None], x, 99), ((0, 0), (0, 7), (0, 0)), constant_values=-99),
                np.pad(mask, ((0, 0), (0, 7))),
            )
            for x, mask in inputs
        ]
        np.testing.assert_allclose(operator(padded), operator(inputs), atol=1e-5)
        for (path, found), (_, found_padded) in zip(gradients(operator, inputs), gradients(operator, padded)):
            if path in ("poster", "overview"):
                mask = inputs[path == "overview"][1]
                np.testing.assert_array_equal(found_padded[:, mask.shape[1] :], 0)
                found_padded = found_padded[:, : mask.shape[1]]
                np.testing.assert_array_equal(found_padded[~mask], 0)
            np.testing.assert_allclose(found_padded, found, atol=1e-4, err_msg=path)

    @pytest.mark.parametrize("side", [0, 1], ids=["poster", "overview"])
    def test_each_modality_reaches_the_others_half(self, side):
        inputs = inputs_of("cross_attention")
        operator = make("cross_attention", inputs)
        before = np.array(operator(inputs))
        inputs[side][0][3, 0] += 1  # a film with both, an element that is there
        half = slice(UNITS, None) if side == 0 else slice(0, UNITS)
        changed = np.abs(np.array(operator(inputs)) - before)[:, half].max(axis=1)
        assert changed[3] > 1e-3
        np.testing.assert_array_equal(changed[:3], 0)

    def test_a_modality_that_no_film_has_gives_finite_numbers_and_gradients(self):
        for length in (WORDS, 0):
            poster, (words, mask) = inputs_of("cross_attention")
            operator = make("cross_attention", [poster, (words, mask)])
            inputs = [poster, (words[:, :length], np.zeros_like(mask[:, :length]))]
            found = in_a_graph(operator, inputs)
            np.testing.assert_allclose(found, cross_attention(operator, *inputs), atol=1e-5)
            assert all(np.isfinite(gradient).all() for _, gradient in gradients(operator, inputs))

    def test_units_that_heads_do_not_divide_are_refused(self):
        with pytest.raises(UserError, match="4 heads, which do not divide 6 units"):
            make_operator("cross_attention", 6, 2)
