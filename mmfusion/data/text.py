"""Tokenizes overviews: a vocabulary from training films, then int32 ids."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from mmfusion.data.preprocessing import USUAL_RULES, TextRules
from mmfusion.data.scripts import folding, patterns

_UNCHANGED = "\0"  # stands in no text, see below


class Spaced(tf.Module):
    """Texts -> texts whose words stand between white space, string (B,), in TensorFlow's operations alone.

    Args:
        rules: by which they become words. With "words" and "off" a text stays what it is.
    """

    def __init__(self, rules: TextRules):
        super().__init__()
        self._folding, self._patterns = None, None
        if rules.fold == "on":
            pairs = tf.lookup.KeyValueTensorInitializer(list(folding()), list(folding().values()))
            self._folding = tf.lookup.StaticHashTable(pairs, _UNCHANGED)
        if rules.split == "characters":
            self._patterns = patterns()

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Folds and spaces texts without NUL."""
        if self._folding is not None:
            characters = tf.strings.unicode_split(texts, "UTF-8")
            found = self._folding.lookup(characters.values)
            found = tf.where(found == _UNCHANGED, characters.values, found)
            texts = tf.strings.reduce_join(characters.with_values(found), axis=1)
        if self._patterns is not None:
            character, between = self._patterns
            texts = tf.strings.regex_replace(texts, between, " ")
            texts = tf.strings.regex_replace(texts, character, r" \1 ")
        return texts


def fit_vocabulary(overviews: Sequence[str], size: int, rules: TextRules = USUAL_RULES) -> list[str]:
    """The most frequent words of these overviews, most frequent first.

    A word is what stands between white space, without ASCII punctuation and with ASCII letters lower-cased: by the
    usual rules a Chinese sentence is one word, and so is an emoji. Entry 0 is padding (""), entry 1 stands for
    words that are not in the list ("[UNK]").

    Args:
        overviews: those of the training films only.
        size: the greatest length of the list, the two special entries included.
        rules: by which they become words.
    """
    layer = keras.layers.TextVectorization(max_tokens=size)
    texts = tf.data.Dataset.from_tensor_slices(_without_nul(overviews)).batch(1024)
    layer.adapt(texts.map(Spaced(rules)))
    return layer.get_vocabulary()


def encode_overviews(
    overviews: Sequence[str], vocabulary: Sequence[str], max_tokens: int, rules: TextRules = USUAL_RULES
) -> np.ndarray:
    """Overviews as int32 (N, max_tokens): 0 padding, 1 out of vocabulary; longer ones are cut."""
    if not len(overviews) or len(vocabulary) <= 2:  # nothing to look up, or nothing to look it up in
        return np.zeros((len(overviews), max_tokens), np.int32)
    layer = keras.layers.TextVectorization(vocabulary=list(vocabulary[2:]), output_sequence_length=max_tokens)
    return np.asarray(layer(Spaced(rules)(tf.constant(_without_nul(overviews)))), np.int32)


def _without_nul(overviews: Sequence[str]) -> list[str]:
    """With a space for a NUL: NumPy cuts it from a word's end, and the word is in the vocabulary twice."""
    return [overview.replace("\0", " ") for overview in overviews]
