"""The wide path: a logistic regression on an overview's words beside what a network says of the film."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from scipy.sparse import csr_array, diags_array, eye_array, vstack
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from mmfusion.models.losses import log_odds
from mmfusion.schema import OUT_OF_VOCABULARY

MOST_FILMS = 20_000  # that it is fitted on; of more, so many are drawn
_LENGTHS = {"words": None, "ngrams": (3, 5)}  # of n-grams of letters, a word's beginning and end among them


@keras.saving.register_keras_serializable(package="mmfusion")
class WidePath(keras.layers.Layer):
    """Linear logits from an overview's words or their n-grams, mixed with a network's.

    The wide half of wide and deep models (Cheng et al. 2016, arXiv:1606.07792): what few films tell of a rare
    genre, by a word or a part of one, need not pass through a network's features. It is a logistic regression on
    how often there are words, or n-grams of 3 to 5 letters, weighed by their inverse document frequency. As it is a
    sum over an overview's words, a row for each word is kept; so what it is divided by is a sum over words too, the
    root of their squares: the norm, where no two words share an n-gram. It is fitted, on `MOST_FILMS` at most, and
    not trained: Adam's steps are as large for every row, and drown what a genre of thirty films has to say.

    Args:
        vocabulary_size: number of token ids, padding included, V.
        num_genres: G.
    """

    def __init__(self, vocabulary_size: int, num_genres: int, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs}, trainable=False)
        self.vocabulary_size = vocabulary_size
        self.num_genres = num_genres

    def build(self, logits_shape, tokens_shape=None):
        words, genres = self.vocabulary_size, self.num_genres
        self.word_logits = self.add_weight(shape=(words, genres), initializer="zeros", name="word_logits")
        self.word_squares = self.add_weight(shape=(words, 1), initializer="zeros", name="word_squares")
        self.bias = self.add_weight(shape=(genres,), initializer="zeros", name="bias")
        self.share = self.add_weight(shape=(), initializer="zeros", name="share")  # of it in the mixture
        super().build(logits_shape)

    def call(self, logits, tokens):
        """
        Args:
            logits: (B, G) of a network.
            tokens: (B, T).

        Returns:
            (B, G); of a film without a word that is known, the network's.
        """
        linear, there = self.linear(tokens)
        share = self.share * ops.cast(there, "float32")
        return (1 - share) * logits + share * linear

    def linear(self, tokens):
        """Computes its own logits (B, G), and whether a film has words of which they are, bool (B, 1)."""
        tokens = ops.cast(tokens, "int32")  # a saved model may hand on numbers of another type
        known = ops.expand_dims(ops.cast(tokens > OUT_OF_VOCABULARY, "float32"), 2)  # (B, T, 1)
        squares = ops.sum(known * ops.take(self.word_squares, tokens, axis=0), axis=1)  # (B, 1)
        sums = ops.sum(known * ops.take(self.word_logits, tokens, axis=0), axis=1)  # (B, G)
        there = squares > 0
        return sums / ops.sqrt(ops.where(there, squares, 1.0)) + self.bias, there

    def compute_output_shape(self, logits_shape, tokens_shape=None):
        return logits_shape

    def fit(self, tokens: np.ndarray, labels: np.ndarray, vocabulary: Sequence[str], units: str, c: float) -> None:
        """Fits it to training films, a genre at a time.

        Args:
            tokens: (N, T) int32.
            labels: (N, G) multi-hot.
            vocabulary: the two special entries first.
            units: "words" or "ngrams".
            c: how little large weights are punished, as scikit-learn's C.
        """
        counts = _counts(tokens, len(vocabulary))  # (N, V)
        parts = _parts(vocabulary, _LENGTHS[units])  # (V, F)
        films = csr_array(counts @ parts)
        width = parts.shape[1]  # pyright: ignore[reportOptionalSubscript]  it has two sides
        frequency = np.bincount(films.indices, minlength=width)  # films with each part
        kept = frequency > 1  # what one film has tells of no other
        weights = np.where(kept, np.log((1 + len(tokens)) / (1 + frequency)) + 1, 0)
        parts = csr_array(parts @ diags_array(weights))  # a part's weight in each word
        squares = np.asarray(parts.multiply(parts).sum(axis=1)).reshape(-1, 1)
        norms = np.sqrt(np.maximum(counts @ squares, 1e-12))  # (N, 1)
        films = csr_array(diags_array(1 / norms[:, 0]) @ films @ diags_array(weights))
        films.indices, films.indptr = (one.astype(np.int32) for one in (films.indices, films.indptr))  # liblinear's
        there = norms[:, 0] > 1e-6
        films, truths = films[there], labels[there]
        logits = np.zeros((len(vocabulary), labels.shape[1]))
        bias = log_odds(labels.mean(axis=0))
        for genre, truth in enumerate(truths.T):
            if len(set(truth)) == 2:
                found = LogisticRegression(C=c, solver="liblinear").fit(films, truth)
                logits[:, genre], bias[genre] = parts @ found.coef_[0], found.intercept_[0]
        self.word_logits.assign(logits)
        self.word_squares.assign(squares)
        self.bias.assign(bias)

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("trainable")
        return {**config, "vocabulary_size": self.vocabulary_size, "num_genres": self.num_genres}


def _counts(tokens: np.ndarray, words: int):
    """How often each film has each word, sparse (N, V); padding and unknown words are none."""
    films, places = np.nonzero(tokens > OUT_OF_VOCABULARY)
    found = csr_array((np.ones(len(films)), (films, tokens[films, places])), shape=(len(tokens), words))
    found.sum_duplicates()
    return found


def _parts(vocabulary: Sequence[str], lengths):
    """How often each word has each part, sparse (V, F): itself, or its n-grams."""
    count = len(vocabulary)
    if lengths is None or count < 3:
        return csr_array(eye_array(count))
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=lengths, lowercase=False)
    of_words = csr_array(vectorizer.fit_transform(vocabulary[2:]), dtype=float)
    return csr_array(vstack([csr_array((2, len(vectorizer.vocabulary_))), of_words]))
