"""The one source of batches, for every variant and every split."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from mmfusion.config.sections import AugmentConfig
from mmfusion.data.augmentation import augment_posters
from mmfusion.data.encoded import Encoded
from mmfusion.data.on_disk import Array

# Overviews are padded to the smallest of these that holds the batch's longest, then to `max_tokens`.
# Half of the films have up to 25 words and a recurrent step costs the same for a word as for padding.
BUCKETS = (16, 24, 32, 40, 64)

_CHUNK = 2**15  # films whose tokens are counted at a time


class Source:
    """Films of some modalities, in memory or on disk, given out in batches.

    A batch is a tuple with an entry for each modality, and the labels; see `mmfusion.schema`. The order of training
    films and their augmentation are functions of (seed, epoch) alone, so an interrupted training can go on as if
    nothing had happened.
    """

    def __init__(self, films: Mapping[str, Encoded], labels: np.ndarray, batch_size: int):
        """
        Args:
            films: N of them by modality; they are not copied.
            labels: (N, G) multi-hot.
            batch_size: films a batch.
        """
        self.modalities = tuple(films)
        self._films, self._labels = list(films.values()), labels
        self._batch_size = batch_size
        # Films of one batch are as long as its longest overview, to the next of some lengths.
        self._lengths = np.zeros(len(labels), int)
        for encoded in self._films:
            if encoded.kind == "tokens":
                self._lengths = _buckets_of(encoded.values, encoded.padding)

    def as_model_inputs(self, *batch):
        """Turns a batch into what `fit` reads: ({modality: values}, labels).

        Keras would take a bare triple for (inputs, targets, sample weights).
        """
        *values, labels = batch
        return dict(zip(self.modalities, values, strict=True)), labels

    def training(
        self, films: ArrayLike, *, seed: int, epochs: Sequence[int], augmentation: AugmentConfig | None
    ) -> tf.data.Dataset:
        """The batches of the given epochs, one epoch after the other.

        Films are shuffled one by one, then gathered into batches of similar length, and the batches
        are shuffled.

        Args:
            films: row numbers of the training films.
            seed: with the epoch's number it decides order and augmentation.
            epochs: numbers of the epochs to give out, such as `range(first, last)`.
            augmentation: how pictures are changed; None: not at all.
        """
        films, steps = np.asarray(films), self.steps(films)

        @functools.lru_cache(2)  # batches are made ahead, also across the end of an epoch
        def shuffled(epoch: int) -> list[np.ndarray]:
            return self._shuffled(films, seed, epoch)

        def gather(number):
            epoch, step = epochs[number // steps], number % steps
            return *self._gather(shuffled(epoch)[step]), np.array([seed, epoch * 1_000_003 + step], np.int64)

        def finish(*batch):
            *films, labels, key = batch
            return *self._as_read(films, augmentation and (key, augmentation)), labels

        key = tf.TensorSpec((2,), tf.int64)
        return _made_ahead(gather, (*self._signature(), key), finish, steps * len(epochs))

    def values(self, modality: str) -> Array:
        """What films have of a modality, (N, ...), as `Encoded` holds it."""
        return self._films[self.modalities.index(modality)].values

    def release(self) -> None:
        """Lets go of the films; there are no more batches.

        TensorFlow keeps what has fed a model for as long as the process lives, and with it this source. A process
        that trains one model after the other would keep the films of all of them.
        """
        del self._films, self._labels

    def frequencies(self, films: ArrayLike) -> np.ndarray:
        """Shares (G,) of these films with each genre."""
        return self._labels[np.asarray(films)].mean(axis=0, dtype=np.float32)

    def steps(self, films: ArrayLike) -> int:
        """Batches an epoch of these films."""
        return len(self._in_batches(np.asarray(films)))

    def ordered(self, films: ArrayLike) -> tuple[tf.data.Dataset, np.ndarray]:
        """These films once, without augmentation, in batches of similar length.

        Returns:
            The data set, and (N,) the row number of each film in the order in which they come.
        """
        batches = self._in_batches(np.asarray(films))
        order = np.concatenate(batches)

        def gather(number):
            return self._gather(batches[number])

        def finish(*batch):
            *films, labels = batch
            return *self._as_read(films), labels

        return _made_ahead(gather, self._signature(), finish, len(batches)), order

    def _shuffled(self, films: np.ndarray, seed: int, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, epoch])
        batches = self._in_batches(rng.permutation(films))
        return [batches[i] for i in rng.permutation(len(batches))]

    def _in_batches(self, films: np.ndarray) -> list[np.ndarray]:
        """Batches of films of like length: sorted by bucket, in the order given within a bucket."""
        films = films[np.argsort(self._lengths[films], kind="stable")]
        return [films[i : i + self._batch_size] for i in range(0, len(films), self._batch_size)]

    def _gather(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        length = self._lengths[rows].max()
        values = (f.values[rows][:, :length] if f.kind == "tokens" else f.values[rows] for f in self._films)
        return *values, self._labels[rows].astype(np.float32)

    def _as_read(
        self, films: Sequence[tf.Tensor], augmented: tuple[tf.Tensor, AugmentConfig] | None = None
    ) -> list[tf.Tensor]:
        """Turns what `_gather` gives into what models read; pictures are `augmented` by a key, and so much."""
        read = []
        for encoded, values in zip(self._films, films, strict=True):
            if encoded.kind != "tokens":
                values = tf.cast(values, tf.float32)
            if encoded.kind == "pixels":
                values = values / 255.0
                values = values if augmented is None else augment_posters(values, *augmented)
            read.append(values)
        return read

    def _signature(self):
        """Of what `_gather` gives: a batch with its pictures still in uint8."""
        shapes = [(None,) if f.kind == "tokens" else f.values.shape[1:] for f in self._films]
        films = [tf.TensorSpec((None, *shape), f.values.dtype) for f, shape in zip(self._films, shapes)]
        return (*films, tf.TensorSpec((None, self._labels.shape[1]), tf.float32))


def _buckets_of(tokens: Array, padding: int) -> np.ndarray:
    """The length (N,) that each row of tokens (N, T) is padded to."""
    longest = tokens.shape[1]
    buckets = np.array([b for b in BUCKETS if b < longest] + [longest])
    chunks = (tokens[start : start + _CHUNK] for start in range(0, len(tokens), _CHUNK))
    counts = [np.count_nonzero(chunk != padding, axis=1) for chunk in chunks]
    return buckets[np.searchsorted(buckets, np.concatenate(counts))]


def padded_length(tokens: Array, padding: int) -> int:
    """Tells how many columns of tokens (N, T) any batch of these films has; there is nothing in the others."""
    return int(_buckets_of(tokens, padding).max())


def _made_ahead(gather: Callable, signature: tuple, finish: Callable, batches: int) -> tf.data.Dataset:
    """Gives so many batches, some of them made ahead.

    All of it is one function, because TensorFlow traces each anew for each model; `from_generator` alone has four.

    Args:
        gather: a batch's number -> its arrays.
        signature: of these.
        finish: these as tensors -> the batch.
        batches: how many.
    """

    @tf.autograph.experimental.do_not_convert
    def made(number):
        batch = tf.numpy_function(gather, [number], [one.dtype for one in signature], stateful=False)
        return finish(*(tf.ensure_shape(values, one.shape) for values, one in zip(batch, signature, strict=True)))

    options = tf.data.Options()
    # Nothing here is left to the tuner, and an iterator waits at its end for the tuner's next turn: after
    # 10 ms, 30 ms, 70 ms and so on, and from 82 s on after up to a minute.
    options.autotune.enabled = False
    return tf.data.Dataset.range(batches).map(made, num_parallel_calls=2).prefetch(4).with_options(options)
