"""Makes tensors of posters and texts in an exported model: in a TensorFlow graph, just as outside of one."""

import keras
import PIL
import tensorflow as tf

from mmfusion.data.posters import MAX_PIXELS
from mmfusion.data.preprocessing import Preprocessing
from mmfusion.data.table import EncodeTable
from mmfusion.data.text import Spaced
from mmfusion.schema import CHANNELS

_PRECISION = 22  # bits of a weight's fraction, in Pillow's resizing of 8-bit pictures
# Pillow 13 begins with the height where that shrinks more than twice as much as the width; before, never.
_HEIGHT_MAY_BE_FIRST = int(PIL.__version__.split(".")[0]) >= 13

# EXIF's entry for a picture that is not upright, in either order of bytes; \C is any byte.
_NOT_UPRIGHT = r"\C*(\x01\x12\x00\x03\C{4}\x00[\x02-\x08]|\x12\x01\x03\x00\C{4}[\x02-\x08]\x00)\C*"
# GIF's block that makes a colour transparent: "!", its label, four bytes long, an odd number, three bytes, the end.
_TRANSPARENT_GIF = r"\C*!\C\x04[\x01\x05\x09\x0d\x11\x15\x19\x1d]\C{3}\x00\C*"


class RawInputs(tf.Module):
    """Encoded posters, overviews and rows -> the batch contract's values, in TensorFlow's operations alone.

    The pixels are `decode_poster`'s with the Pillow that is installed here, the tokens `encode_overviews`'.
    Refused with `tf.errors.InvalidArgumentError`, which gives the reason, is a poster that is not a JPEG, PNG, GIF
    or BMP (WebP is not), that is cut short, that is not upright by its EXIF, or has more than `MAX_PIXELS` pixels;
    a JPEG in CMYK, a PNG or GIF that is transparent anywhere, a PNG of one bit a pixel, and a BMP of other than 24.

    Args:
        poster_size: pixels a side.
        fitted: a run's.
        max_tokens: the most of an overview that is kept.
    """

    def __init__(self, poster_size: int, fitted: Preprocessing, max_tokens: int):
        super().__init__()
        self._size = poster_size
        self._words = None
        self._spaced = Spaced(fitted.rules)
        self.table = EncodeTable(fitted.columns)
        vocabulary = fitted.vocabulary
        if len(vocabulary) > 2:  # else there is nothing to look up, and Keras refuses to
            self._words = keras.layers.TextVectorization(
                vocabulary=list(vocabulary[2:]), output_sequence_length=max_tokens
            )

    def poster(self, encoded: tf.Tensor) -> tf.Tensor:
        """Posters as files hold them, string (B,), "" for none -> float32 (B, H, W, 3) in [0, 1]."""
        shape = (self._size, self._size, CHANNELS)

        def pixels_of(one):
            there = tf.strings.length(one) > 0
            pixels = tf.cond(there, lambda: decode(one, self._size), lambda: tf.zeros(shape, tf.uint8))
            return tf.ensure_shape(pixels, shape)

        pixels = tf.map_fn(pixels_of, encoded, fn_output_signature=tf.TensorSpec(shape, tf.uint8))
        return tf.cast(pixels, tf.float32) / 255.0

    def tokens(self, overviews: tf.Tensor) -> tf.Tensor:
        """UTF-8 texts, string (B,), "" for none -> int32 (B, T), no longer than the longest needs, 1 at least."""
        if self._words is None:
            return tf.zeros((tf.shape(overviews)[0], 1), tf.int32)
        tokens = self._words(self._spaced(tf.strings.regex_replace(overviews, r"\x00", " ")))  # (B, max_tokens)
        longest = tf.maximum(tf.reduce_max(tf.math.count_nonzero(tokens, axis=1)), 1)
        return tf.cast(tokens[:, :longest], tf.int32)


def decode(encoded: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """A poster's file, string () -> uint8 (size, size, 3), or as large as it is; see `RawInputs`."""
    _refuse(
        tf.strings.regex_full_match(encoded, _NOT_UPRIGHT), "a poster that is not upright; turn it and save it anew"
    )

    def begins(start):
        return tf.equal(tf.strings.substr(encoded, 0, len(start)), start)

    pixels = tf.cond(
        begins(b"\xff\xd8\xff"),
        lambda: _jpeg(encoded, size),
        lambda: tf.cond(
            begins(b"\x89PNG\r\n\x1a\n"),
            lambda: _png(encoded),
            lambda: tf.cond(begins(b"GIF8"), lambda: _gif(encoded), lambda: _bmp(encoded)),
        ),
    )  # (H, W, 3)
    _refuse(tf.size(pixels) > MAX_PIXELS * CHANNELS, f"a poster of more than {MAX_PIXELS:,} pixels")
    return pixels if size is None else _resize(pixels, size)


def _jpeg(encoded, size):
    """Whole, or at the smallest cheap scale that leaves no less than `size` on either side, as Pillow does."""
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    _refuse(channels == 4, "a JPEG in CMYK; save it as RGB")

    def at(ratio):
        # What libjpeg does when it is not told to hurry, as Pillow does not.
        return lambda: tf.io.decode_jpeg(
            encoded, CHANNELS, ratio, fancy_upscaling=True, dct_method="INTEGER_ACCURATE"
        )

    if size is None:
        return at(1)()
    scale = tf.minimum(width // size, height // size)
    which = sum(tf.cast(scale >= ratio, tf.int32) for ratio in (2, 4, 8))
    return tf.switch_case(which, [at(1), at(2), at(4), at(8)])


def _png(encoded):
    pixels = tf.io.decode_png(encoded, 4)
    # Of one bit a pixel TensorFlow makes an alpha channel that is not there.
    transparent = tf.reduce_any(pixels[:, :, CHANNELS:] < 255)
    _refuse(transparent, "a PNG that is transparent, or of one bit a pixel; save it as opaque RGB")
    return pixels[:, :, :CHANNELS]


def _gif(encoded):
    _refuse(
        tf.strings.regex_full_match(encoded, _TRANSPARENT_GIF), "a GIF that is transparent; save it as opaque RGB"
    )
    return tf.io.decode_gif(encoded)[0]  # the first frame


def _bmp(encoded):
    _refuse(tf.strings.substr(encoded, 0, 2) != b"BM", "a poster that is not a JPEG, PNG, GIF or BMP")
    # TensorFlow would take the numbers of a palette's colours for gray.
    true_colour = tf.strings.regex_full_match(encoded, r"\C{28}\x18\x00\C*")
    _refuse(tf.logical_not(true_colour), "a BMP of other than 24 bits a pixel; save it as RGB")
    return tf.io.decode_bmp(encoded, CHANNELS)


def _refuse(bad, message: str) -> None:
    tf.debugging.Assert(tf.logical_not(bad), [f"mmfusion: {message}"])


def _resize(pixels, size: int):
    """Pillow's bilinear resizing with antialiasing: uint8 (H, W, 3) -> uint8 (size, size, 3), to the last bit.

    It rounds to whole numbers after each side, so that it matters with which it begins.
    """
    height, width = tf.shape(pixels)[0], tf.shape(pixels)[1]
    pixels = tf.cast(pixels, tf.float64)  # holds every sum below exactly

    def across(pixels):
        return _rounded(tf.einsum("hwc,nw->hnc", pixels, _weights(width, size)))

    def down(pixels):
        return _rounded(tf.einsum("hwc,nh->nwc", pixels, _weights(height, size)))

    height_first = tf.logical_and(height > size, height - size > 2 * (width - size))
    pixels = tf.cond(
        tf.logical_and(height_first, _HEIGHT_MAY_BE_FIRST),
        lambda: across(down(pixels)),
        lambda: down(across(pixels)),
    )
    return tf.cast(pixels, tf.uint8)


def _weights(old, new: int):
    """Weighs each of `old` pixels of a row in each of `new`: float64 (new, old), whole numbers."""
    old = tf.cast(old, tf.float64)
    scale = old / new
    reach = tf.maximum(scale, 1.0)  # of the triangle, to either side of its centre
    centre = (tf.range(new, dtype=tf.float64)[:, None] + 0.5) * scale  # (new, 1)
    first = tf.floor(tf.maximum(centre - reach + 0.5, 0.0))
    last = tf.floor(tf.minimum(centre + reach + 0.5, old))
    place = tf.range(old, dtype=tf.float64)[None]  # (1, old)
    weights = tf.maximum(1.0 - tf.abs((place - centre + 0.5) * (1.0 / reach)), 0.0)
    weights = tf.where(tf.logical_and(place >= first, place < last), weights, 0.0)
    weights = weights / tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.floor(weights * 2.0**_PRECISION + 0.5)


def _rounded(sums):
    return tf.clip_by_value(tf.floor(sums / 2.0**_PRECISION + 0.5), 0.0, 255.0)
