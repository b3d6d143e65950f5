"""Changes posters at random, each by its own amount: the same key gives the same pictures."""

import tensorflow as tf

from mmfusion.config.sections import AugmentConfig

_MORE = (2**32, 0)  # added to a key for draws of their own: a seed is smaller


def augment_posters(poster: tf.Tensor, key: tf.Tensor, most: AugmentConfig) -> tf.Tensor:
    """Flips, shifts, turns and enlarges posters, changes their colours and erases a part of each.

    A poster that is absent, black all over, stays so.

    Args:
        poster: float32 (B, H, W, 3) in [0, 1].
        key: int64 (2,).
        most: how far each change may go.

    Returns:
        float32 (B, H, W, 3) in [0, 1]; pixels from outside repeat the nearest edge.
    """
    count = tf.shape(poster)[0]
    draw = tf.random.stateless_uniform(tf.stack([4, count]), seed=key, minval=-1.0, maxval=1.0)
    more = tf.random.stateless_uniform(tf.stack([11, count]), seed=key + _MORE, minval=-1.0, maxval=1.0)
    poster = _moved(poster, draw, more[:3], most)
    if most.contrast or most.colour:
        poster = _coloured(poster, more[3:7], most)
    if most.erase:
        poster = _erased(poster, more[7:], most.erase)
    return poster


def _moved(poster, draw, more, most):
    """Flips, turns, crops and shifts, all by one map of pixels, so that they are sampled once."""
    height, width = poster.shape[1:3]
    flip = tf.where(draw[0] < 0, -1.0, 1.0)
    turn, shift_x, shift_y = draw[1] * most.turn, draw[2] * most.shift * width, draw[3] * most.shift * height
    scale = 1.0
    if most.crop:
        share = most.crop * (more[0] + 1) / 2
        scale = 1 - share
        shift_x, shift_y = shift_x + more[1] * share * width / 2, shift_y + more[2] * share * height / 2
    cos, sin = scale * tf.cos(turn), scale * tf.sin(turn)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    # Output pixel (x, y) is read at the input's (a x + b y + c, d x + e y + f): turn and flip about
    # the middle, then shift.
    a, b, d, e = flip * cos, -flip * sin, sin, cos
    c = middle_x - a * middle_x - b * middle_y + shift_x
    f = middle_y - d * middle_x - e * middle_y + shift_y
    zero = tf.zeros_like(a)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=poster,
        transforms=tf.stack([a, b, c, d, e, f, zero, zero], axis=1),  # (B, 8)
        output_shape=tf.constant([height, width]),
        interpolation="BILINEAR",
        fill_mode="NEAREST",
        fill_value=0.0,
    )


def _coloured(poster, draw, most):
    """Strengthens or weakens the contrast, and each colour."""
    mean = tf.reduce_mean(poster, axis=(1, 2, 3), keepdims=True)
    poster = mean + (poster - mean) * (1 + most.contrast * draw[0][:, None, None, None])
    poster *= 1 + most.colour * tf.transpose(draw[1:])[:, None, None, :]
    return tf.clip_by_value(poster, 0.0, 1.0)


def _erased(poster, draw, most):
    """Fills a rectangle with the poster's mean colour."""
    middle_y, middle_x, high, wide = tf.unstack(draw)
    rows = _within(poster.shape[1], middle_y, most * (high + 1) / 2)
    columns = _within(poster.shape[2], middle_x, most * (wide + 1) / 2)
    inside = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(inside, tf.reduce_mean(poster, axis=(1, 2), keepdims=True), poster)


def _within(size, middle, share):
    """Places (B, size) that lie within a share (B,) of them around a middle (B,) from -1 to 1."""
    places = (tf.range(size, dtype=tf.float32) + 0.5) / size * 2 - 1
    return tf.abs(places[None] - middle[:, None]) < share[:, None]
