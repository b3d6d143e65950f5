"""What words share: embeddings of their letters' n-grams."""

import zlib
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops


class OfNgrams(keras.Layer):
    """Adds to a word's vector the mean of those of its n-grams (Bojanowski et al. 2017, arXiv:1607.04606).

    "detectives" has then much of "detective". N-grams share their embeddings by a hash. Which a word has is known
    after `adapt`. A class that has words' vectors inherits this, so that its weights are where they were.
    """

    N = 4  # letters, the marks of a word's beginning and end among them
    MOST = 16  # n-grams of one word; those of a longer one's end are not read

    def _make_ngrams(self, ngrams: int, width: int) -> None:
        self.ngrams = ngrams
        self.ngram_embedding = layers.Embedding(ngrams, width) if ngrams else None

    def _build_ngrams(self, vocabulary_size: int) -> None:
        if self.ngram_embedding is None:
            return
        self.ngram_embedding.build((None, None, self.MOST))
        # A word's n-grams, counted from 1; 0 is none.
        self.ngrams_of = self.add_weight(
            shape=(vocabulary_size, self.MOST), initializer="zeros", dtype="int32", trainable=False,
            autocast=False, name="ngrams_of",
        )  # fmt: skip

    def adapt(self, vocabulary: Sequence[str]) -> None:
        """Says which word each token is, before training.

        Args:
            vocabulary: of the training films, the two special entries first.
        """
        if not self.ngrams:
            return
        table = np.zeros(self.ngrams_of.shape, np.int32)
        for token, word in enumerate(vocabulary[2:], 2):
            marked = f"<{word}>"
            parts = [marked[start : start + self.N] for start in range(len(marked) - self.N + 1)][: self.MOST]
            table[token, : len(parts)] = [zlib.crc32(part.encode()) % self.ngrams + 1 for part in parts]
        self.ngrams_of.assign(table)

    def _with_ngrams(self, vectors, tokens):
        """Vectors of words (B, T, E), those of their n-grams added."""
        if self.ngram_embedding is None:
            return vectors
        # What adapt wrote lies in these bounds; a file of weights may hold any number.
        of_word = ops.take(self.ngrams_of, ops.cast(tokens, "int32"), axis=0)  # (B, T, MOST)
        of_word = ops.clip(of_word, 0, self.ngrams)
        parts = self.ngram_embedding(ops.maximum(of_word - 1, 0))  # (B, T, MOST, E)
        there = ops.expand_dims(ops.cast(of_word > 0, parts.dtype), 3)
        return vectors + ops.sum(parts * there, axis=2) / ops.maximum(ops.sum(there, axis=2), 1)
