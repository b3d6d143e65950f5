"""Keras' bidirectional LSTM, computed in less time."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable(package="mmfusion")
class BidirectionalLSTM(layers.Bidirectional):
    """`keras.layers.Bidirectional(keras.layers.LSTM(...))`: same weights, masks, outputs and gradients.

    LSTM of Hochreiter & Schmidhuber 1997 with forget gates (Gers et al. 2000); dropout masks are drawn
    once a sequence (Gal & Ghahramani 2016). What differs is how it is computed: the inputs meet their
    weights in one matrix product for all time steps, both directions go through one loop, and the
    gradient is written out by hand, so that the recurrent weights' is one product too instead of a sum
    over time steps. On a processor this takes half the time (see benchmarks/README.md). Where TensorFlow sees a
    GPU, Keras' own is used, which has cuDNN's kernels.

    Args:
        layer: a `keras.layers.LSTM` with Keras' standard activations, biases, and no initial state.
    """

    _portable = False  # see `portable`

    def __init__(self, layer, **kwargs):
        super().__init__(layer, **kwargs)
        if self.merge_mode != "concat" or self.return_state or self.stateful:
            raise ValueError("BidirectionalLSTM concatenates its directions and keeps no state between batches")

    def call(self, sequences, initial_state=None, mask=None, training=False):
        """
        Args:
            sequences: (B, T, E) floating.
            initial_state: must be None; Keras asks for the argument.
            mask: bool (B, T), false where a step is to be passed over; the state is kept there.
            training: whether dropout is applied.

        Returns:
            (B, T, 2 U) states with `return_sequences`, else (B, 2 U): the last of each direction.
        """
        if has_gpu() and not self._portable:
            return self._by_keras(sequences, mask, training)
        x = tf.transpose(sequences, (1, 0, 2))  # (T, B, E)
        mask = tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else tf.transpose(mask)  # (T, B)
        cells = (self.forward_layer.cell, self.backward_layer.cell)
        z, kept = [], []
        for cell in cells:
            inputs_kept = _kept(x[0], cell.dropout, cell, training)
            z.append(_product(x, inputs_kept, tf.cast(cell.kernel, x.dtype)) + tf.cast(cell.bias, x.dtype))
            kept.append(_kept(tf.ones((tf.shape(x)[1], cell.units)), cell.recurrent_dropout, cell, training))
        kernels = [tf.cast(cell.recurrent_kernel, x.dtype) for cell in cells]
        compute = _both_directions_portable if self._portable else _both_directions
        f, b = compute(mask, *z, *kernels, *kept)  # (T, B, U) each
        if self.return_sequences:
            states = tf.where(tf.expand_dims(mask, 2), tf.concat([f, b], axis=2), 0.0)  # as Keras fills padding
            states = tf.transpose(states, (1, 0, 2))  # (B, T, 2 U)
        else:
            states = tf.concat([f[-1], b[0]], axis=1)  # (B, 2 U)
        return tf.cast(states, self.compute_dtype)

    def _by_keras(self, sequences, mask, training):
        """Computes it as Keras does; cuDNN takes no sequence without a step, whose states are 0."""
        if mask is None:
            return super().call(sequences, training=training)
        has_steps = tf.reduce_any(mask, axis=1, keepdims=True)  # (B, 1)
        mask = tf.concat([mask[:, :1] | ~has_steps, mask[:, 1:]], axis=1)
        states = super().call(sequences, mask=mask, training=training)
        has_steps = tf.expand_dims(has_steps, 2) if self.return_sequences else has_steps
        return keras.ops.where(has_steps, states, 0.0)


def has_gpu() -> bool:
    """Tells if TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Has traced in this block only operations that the converters to ONNX and LiteRT carry over rightly.

    Those of training are not among them: tf2onnx gives the states that an array got from its end in the order in
    which it got them, and LiteRT has no arrays whose elements have an open number of films.
    """
    BidirectionalLSTM._portable = True
    try:
        yield
    finally:
        BidirectionalLSTM._portable = False


def _kept(inputs, dropout, cell, training):
    """Dropout's masks for a whole sequence, of the inputs' shape, type and number as Keras draws them.

    Returns:
        (1, B, E), or (4, B, E) with a mask for each gate when there is dropout on the states: 0, or
        1 / (1 - dropout).
    """
    ones = tf.ones_like(inputs)
    if not training or not dropout:
        return ones[None]
    masks = 4 if cell.recurrent_dropout else 1
    return tf.stack([keras.random.dropout(ones, dropout, seed=cell.seed_generator) for _ in range(masks)])


def _product(x, kept, kernel):
    """Computes what x adds to the four gates, (..., B, E) -> (..., B, 4 U), in the type of the kernel (E, 4 U)."""
    parts = zip(tf.unstack(kept), tf.split(kernel, kept.shape[0], axis=1))
    return tf.concat([tf.matmul(tf.cast(x * of, kernel.dtype), part) for of, part in parts], axis=-1)


@tf.custom_gradient
def _both_directions(mask, forward_z, backward_z, forward_kernel, backward_kernel, forward_kept, backward_kept):
    """Runs the forward LSTM from the first step to the last and the backward one the other way.

    States are float32 whatever the matrix products' type is.

    Args:
        mask: bool (T, B).
        forward_z, backward_z: (T, B, 4 U), what the inputs add to the gates i, f, c, o.
        forward_kernel, backward_kernel: (U, 4 U), of the recurrence.
        forward_kept, backward_kept: float32 (1 or 4, B, U), dropout's masks for the states.

    Returns:
        float32 (T, B, U) twice: the state after each step, forward and backward.
    """
    z, kernel, kept = (forward_z, backward_z), (forward_kernel, backward_kernel), (forward_kept, backward_kept)
    steps, batch = tf.shape(mask)[0], tf.shape(mask)[1]
    units, dtype = forward_kernel.shape[0], forward_z.dtype
    zero = tf.zeros((batch, units))

    def array(width, dtype=tf.float32):
        return tf.TensorArray(dtype, steps, element_shape=(None, width))

    def step(k, states, arrays):
        new_states, new_arrays = [], []
        for j, t in enumerate((k, steps - 1 - k)):
            (h, c), (gates_at, c_at, h_at) = states[j], arrays[j]
            there = mask[t][:, None]
            at_gates = tf.cast(z[j][t] + _product(h, kept[j], kernel[j]), tf.float32)
            i, f, g, o = tf.split(at_gates, 4, axis=1)  # (B, U) each
            i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
            new_c = f * c + i * g
            c, h = tf.where(there, new_c, c), tf.where(there, o * tf.tanh(new_c), h)
            new_states.append((h, c))
            gates = tf.concat([i, f, g, o], axis=1)
            new_arrays.append((gates_at.write(t, gates), c_at.write(t, c), h_at.write(t, h)))
        return k + 1, new_states, new_arrays

    start = (0, [(zero, zero) for _ in z], [(array(4 * units), array(units), array(units)) for _ in z])
    *_, arrays = tf.while_loop(lambda k, *_: k < steps, step, start, parallel_iterations=1)
    gates, c, h = zip(*[[one.stack() for one in of] for of in arrays])
    # The states before each step; the backward direction comes from the end.
    before = [
        [tf.concat([zero[None], of[0][:-1]], axis=0), tf.concat([of[1][1:], zero[None]], axis=0)] for of in (c, h)
    ]

    def gradient(*d_h):  # (T, B, U) twice
        transposed = [tf.transpose(of) for of in kernel]  # (4 U, U)

        def step_back(k, states, arrays):
            new_states, new_arrays = [], []
            for j, t in enumerate((steps - 1 - k, k)):
                d_state, d_c = states[j]
                d_state = d_state + d_h[j][t]
                there = mask[t][:, None]
                i, f, g, o = tf.split(gates[j][t], 4, axis=1)
                tanh_c = tf.tanh(f * before[0][j][t] + i * g)
                d_new_c = d_c + d_state * o * (1 - tanh_c * tanh_c)
                d_gates = tf.concat(
                    [
                        d_new_c * g * i * (1 - i),
                        d_new_c * before[0][j][t] * f * (1 - f),
                        d_new_c * i * (1 - g * g),
                        d_state * tanh_c * o * (1 - o),
                    ],
                    axis=1,
                )
                d_gates = tf.cast(tf.where(there, d_gates, 0.0), dtype)  # (B, 4 U)
                masks = kept[j].shape[0]
                d_masked = [
                    tf.matmul(part, of)
                    for part, of in zip(tf.split(d_gates, masks, axis=1), tf.split(transposed[j], masks, axis=0))
                ]
                d_before = tf.add_n(
                    [tf.cast(part, tf.float32) * of for part, of in zip(d_masked, tf.unstack(kept[j]))]
                )
                new_states.append((tf.where(there, d_before, d_state), tf.where(there, d_new_c * f, d_c)))
                new_arrays.append(arrays[j].write(t, d_gates))
            return k + 1, new_states, new_arrays

        start = (0, [(zero, zero) for _ in z], [array(4 * units, dtype) for _ in z])
        *_, arrays = tf.while_loop(lambda k, *_: k < steps, step_back, start, parallel_iterations=1)
        d_z = [one.stack() for one in arrays]  # (T, B, 4 U)
        d_kernel = []
        for j in range(2):
            parts = zip(tf.unstack(kept[j]), tf.split(d_z[j], kept[j].shape[0], axis=2))
            products = [
                tf.matmul(_rows(tf.cast(before[1][j] * of, dtype)), _rows(part), transpose_a=True)
                for of, part in parts
            ]
            d_kernel.append(tf.concat(products, axis=1))  # (U, 4 U)
        return None, *d_z, *d_kernel, None, None

    return (h[0], h[1]), gradient


def _both_directions_portable(
    mask, forward_z, backward_z, forward_kernel, backward_kernel, forward_kept, backward_kept
):
    """Computes the same as `_both_directions`, without its arrays and its gradient; in more time."""
    z, kernel, kept = (forward_z, backward_z), (forward_kernel, backward_kernel), (forward_kept, backward_kept)
    steps, batch, units = tf.shape(mask)[0], tf.shape(mask)[1], forward_kernel.shape[0]
    there = tf.expand_dims(tf.cast(mask, tf.float32), 2)  # (T, B, 1)
    places = tf.range(steps)[:, None, None]  # (T, 1, 1)
    zero = tf.zeros((batch, units))

    def step(k, *states):
        new = []
        for j, t in enumerate((k, steps - 1 - k)):
            h, c, all_h = states[3 * j : 3 * j + 3]
            at_gates = tf.cast(z[j][t] + _product(h, kept[j], kernel[j]), tf.float32)
            i, f, g, o = tf.split(at_gates, 4, axis=1)  # (B, U) each
            new_c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            new_h = tf.sigmoid(o) * tf.tanh(new_c)
            c, h = there[t] * new_c + (1 - there[t]) * c, there[t] * new_h + (1 - there[t]) * h
            new += [h, c, tf.where(places == t, h[None], all_h)]
        return k + 1, *new

    none = tf.zeros((steps, batch, units))
    _, *states = tf.while_loop(lambda k, *_: k < steps, step, (0, *[zero, zero, none] * 2))
    return states[2], states[5]


def _rows(x):
    """(T, B, N) -> (T B, N)."""
    return tf.reshape(x, (-1, x.shape[-1]))
