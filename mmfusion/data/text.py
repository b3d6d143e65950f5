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
            characters, found = map(chr, folding()), folding().values()
            pairs = tf.lookup.KeyValueTensorInitializer(list(characters), list(found))
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
            texts = tf.strings.regex_replace(texts, self._patterns.between, " ")
            texts = tf.strings.regex_replace(texts, self._patterns.character, r" \1 ")
            texts = _in_threes(texts, self._patterns.letter)
        return texts


def _in_threes(texts: tf.Tensor, letter: str) -> tf.Tensor:
    """Joins each word that is a letter with the one or two that follow: alone it would say little."""
    words = tf.strings.split(tf.strings.join([texts, " ."]))  # the full stop is no word, and ends each text
    first = words.values
    second, third = tf.roll(first, -1, 0), tf.roll(first, -2, 0)
    are_two = tf.strings.regex_full_match(first, letter) & tf.strings.regex_full_match(second, letter)
    are_three = are_two & tf.strings.regex_full_match(third, letter)
    joined = tf.strings.join([first, tf.where(are_two, second, ""), tf.where(are_three, third, "")])
    return tf.strings.reduce_join(words.with_values(joined), axis=1, separator=" ")


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
