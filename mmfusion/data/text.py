"""Tokenizes overviews: a vocabulary from training films, then int32 ids."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf


def fit_vocabulary(overviews: Sequence[str], size: int) -> list[str]:
    """The most frequent words of these overviews, most frequent first.

    A word is what stands between white space, without ASCII punctuation and with ASCII letters lower-cased:
    a Chinese sentence is one word, and so is an emoji. Entry 0 is padding (""), entry 1 stands for words
    that are not in the list ("[UNK]").

    Args:
        overviews: those of the training films only.
        size: the greatest length of the list, the two special entries included.
    """
    layer = keras.layers.TextVectorization(max_tokens=size)
    layer.adapt(tf.data.Dataset.from_tensor_slices(_without_nul(overviews)).batch(1024))
    return layer.get_vocabulary()


def encode_overviews(overviews: Sequence[str], vocabulary: Sequence[str], max_tokens: int) -> np.ndarray:
    """Overviews as int32 (N, max_tokens): 0 padding, 1 out of vocabulary; longer ones are cut."""
    if not len(overviews) or len(vocabulary) <= 2:  # nothing to look up, or nothing to look it up in
        return np.zeros((len(overviews), max_tokens), np.int32)
    layer = keras.layers.TextVectorization(vocabulary=list(vocabulary[2:]), output_sequence_length=max_tokens)
    return np.asarray(layer(tf.constant(_without_nul(overviews))), np.int32)


def _without_nul(overviews: Sequence[str]) -> list[str]:
    """With a space for a NUL: NumPy cuts it from a word's end, and the word is in the vocabulary twice."""
    return [overview.replace("\0", " ") for overview in overviews]
