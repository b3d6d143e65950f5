"""The other side of the throughput benchmark: the same task as a plain Keras notebook has it.

Nothing of mmfusion is used here. Posters are decoded, resized and cached as float32, overviews are
padded to 100 tokens, the layers are those of the recipe `report`, and `fit` trains them.
"""

import csv
import functools
import random
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SIZE, TOKENS, WORDS, BATCH = 64, 100, 10_000, 64


class Notebook:
    """Films of one folder, and the two models that the report trains on them."""

    def __init__(self, folder: Path):
        with (folder / "IMDB_overview_genres.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        genres = [name for name in rows[0] if name not in ("Id", "Genre", "Overview")]
        random.Random(0).shuffle(rows)
        self.files = [str(folder / "Images" / f"{row['Id']}.jpg") for row in rows]
        self.overviews = [row["Overview"] for row in rows]
        self.labels = np.array([[float(row[genre]) for genre in genres] for row in rows], np.float32)
        self.training = int(0.8 * len(rows))  # films; the rest is tested on

    @functools.cached_property
    def vectorize(self) -> layers.TextVectorization:
        """Overviews -> tokens, with the vocabulary of the training films."""
        layer = layers.TextVectorization(max_tokens=WORDS, output_sequence_length=TOKENS)
        layer.adapt(self.overviews[: self.training])
        return layer

    def posters(self, first: int, last: int) -> tf.data.Dataset:
        """Batches of (posters, labels), cached after the first pass."""

        def decode(file, labels):
            picture = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
            return tf.image.resize(picture, (SIZE, SIZE)) / 255.0, labels

        films = tf.data.Dataset.from_tensor_slices((self.files[first:last], self.labels[first:last]))
        return films.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).cache()

    def tokens(self, first: int, last: int) -> tf.data.Dataset:
        """Batches of (tokens, labels), cached after the first pass."""
        vectorize = self.vectorize
        films = tf.data.Dataset.from_tensor_slices((self.overviews[first:last], self.labels[first:last]))
        return films.batch(BATCH).map(lambda overview, labels: (vectorize(overview), labels)).cache()


def shuffled(batches: tf.data.Dataset) -> tf.data.Dataset:
    """As `fit` gets them: in another order every epoch."""
    return batches.shuffle(100).prefetch(tf.data.AUTOTUNE)


def cnn(genres: int) -> keras.Model:
    """The report's CNN, compiled."""
    stack = [layers.Conv2D(16, 3, 2, "same", activation="relu"), layers.Dropout(0.2)]
    for filters in (32, 64, 128):
        stack += [layers.Conv2D(filters, 3, 1, "same", activation="relu") for _ in range(2)]
        stack += [layers.MaxPooling2D(), layers.Dropout(0.2)]
    stack.append(layers.Flatten())
    for _ in range(2):
        stack += [layers.Dense(1024, "relu"), layers.Dropout(0.5)]
    return _compiled([keras.Input((SIZE, SIZE, 3)), *stack, layers.Dense(genres, "sigmoid")])


def bilstm(genres: int, words: int = WORDS) -> keras.Model:
    """The report's BiLSTM, compiled."""
    return _compiled(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(words, 256, mask_zero=True),
            layers.Bidirectional(layers.LSTM(256, return_sequences=True, dropout=0.5, recurrent_dropout=0.2)),
            layers.Bidirectional(layers.LSTM(128, dropout=0.5, recurrent_dropout=0.2)),
            layers.Dense(128, "relu"),
            layers.Dropout(0.8),
            layers.Dense(genres, "sigmoid"),
        ]
    )


def _compiled(stack: list) -> keras.Model:
    model = keras.Sequential(stack)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss="binary_crossentropy",
        metrics=[keras.metrics.Precision(), keras.metrics.Recall()],
    )
    return model


MODELS = {"poster": cnn, "overview": bilstm}  # by what it reads
