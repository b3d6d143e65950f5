"""Presets' readings of films, and the features that a frozen one makes of them.

A frozen preset reads all films of a data set once. Its features are kept in the cache, under a name made of
the films' content and of its own weights, and shared by all variants, seeds and searches.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmfusion.config import Config
from mmfusion.data.encoded import Encoded, Kind
from mmfusion.data.films import Films
from mmfusion.data.in_graph import decode
from mmfusion.data.on_disk import Array, OnDisk
from mmfusion.data.posters import open_poster
from mmfusion.errors import UserError, first_line
from mmfusion.files import HALF_WRITTEN, make_folder, move_into_place, one_at_a_time
from mmfusion.models import model_class, presets
from mmfusion.models.operators import operator_of
from mmfusion.schema import CHANNELS, OVERVIEW, PADDING, POSTER

_BATCH = 32  # films that a preset reads at a time
_IN_MEMORY = 2**29  # bytes; a larger file of features stays on disk and is read as films are needed


def presets_of(config: Config) -> dict[str, "Preset"]:
    """The presets that a configuration's variant reads with, by modality.

    Raises:
        UserError: one cannot be had.
    """
    model_class(config.variant).check(config)
    kinds: dict[str, Callable[[Config], Preset]] = {POSTER: PosterPreset, OVERVIEW: OverviewPreset}
    return {name: kinds[name](config) for name in config.encoders if name in config.presets}


class Preset:
    """A preset and what it makes of films; the backbone is loaded when it is needed."""

    kind: Kind  # of what it reads itself
    spec: tf.TensorSpec  # of what its backbone reads
    padding = PADDING

    @staticmethod
    def raw(films: Films) -> Iterable:
        """Gives a data set's films as the preset takes them."""
        raise NotImplementedError

    def __init__(self, config: Config, named: str, form: str, reading: dict):
        self.named = named
        self.config = config
        self.frozen = not config.fine_tuning.fine_tune
        # Asked of the operator: one that reads sequences is handed what a preset makes of each place or word.
        self.as_sequence = "joint" in config.sections and operator_of(config).reads_sequences
        if named not in _fingerprints:
            _fingerprints[named] = presets.fingerprint(self.backbone, reading)
        self.fingerprint = _fingerprints[named]
        what = ("sequence" if self.as_sequence else "pooled") if self.frozen else "input"
        key = hashlib.sha256(f"{self.fingerprint} {form}".encode()).hexdigest()[:16]
        self.file = f"{what}-{key}.npy"

    @functools.cached_property
    def backbone(self):
        """The pretrained network: a `PosterBackbone` or an `OverviewBackbone`."""
        raise NotImplementedError

    def encoded(self, films: Iterable) -> Iterator[np.ndarray]:
        """Batches of what the backbone reads, from posters' files or texts; empty where there is none."""
        raise NotImplementedError

    def encoded_in_graph(self, films: tf.Tensor) -> tf.Tensor:
        """The same inside a TensorFlow graph, from string (B,), as the batch contract has it."""
        raise NotImplementedError

    def features(self, read: tf.Tensor) -> tf.Tensor:
        """Computes the features of a batch: float32 (B, C), or as a sequence float16 (B, S, C)."""
        sequence, mask = self.backbone(read)
        if not self.as_sequence:
            return presets.pooled(sequence, mask)
        return tf.cast(tf.where(tf.expand_dims(mask, 2), sequence, 0.0), tf.float16)

    def read(self, films: Iterable) -> Iterator[np.ndarray]:
        """Batches of what the model reads: features of a frozen backbone, else as `encoded`."""
        return self._features_of(films) if self.frozen else self.encoded(films)

    def _features_of(self, films: Iterable) -> Iterator[np.ndarray]:
        """Batches of features, as large as `features` says and as long as `encoded` gives them."""
        raise NotImplementedError

    def encode(self, read: Array) -> Encoded:
        """Says what `read` or `encoded` gives."""
        return Encoded(read, "features" if read.dtype.kind == "f" else self.kind, self.padding)

    @functools.cached_property
    def _compiled(self):
        """`features`, its backbone loaded before: inside a graph weights get no values."""
        assert self.backbone is not None
        return tf.function(self.features, input_signature=[self.spec])


class PosterPreset(Preset):
    """On posters; `encoded` are pictures uint8 (B, H, W, 3), in the graph float32 in [0, 1]."""

    kind = "pixels"

    @staticmethod
    def raw(films):
        return films.poster_files()

    def __init__(self, config: Config):
        self.size = config.poster_encoder.preset.image_size
        reading = presets.reading_of(presets.image_converter(config))
        reading.pop("image_size")  # which is the run's own choice
        super().__init__(config, config.poster_encoder.name, f"{self.size}", reading)
        self.spec = tf.TensorSpec((None, *self.size, CHANNELS), tf.float32)

    @functools.cached_property
    def backbone(self):
        return presets.load_poster_backbone(self.config)

    @functools.cached_property
    def _converter(self):
        converter = presets.image_converter(self.config)
        converter.scale = converter.offset = None  # only its size and way of resizing: the rest is the backbone's
        return converter

    def encoded(self, films):
        for batch in _in_batches(films):
            pictures = np.zeros((len(batch), *self.size, CHANNELS), np.uint8)
            for picture, file in zip(pictures, batch):
                if file:
                    picture[:] = self._resized(np.asarray(open_poster(file), np.float32))
            yield pictures

    def encoded_in_graph(self, films):
        shape = (*self.size, CHANNELS)

        def picture(file):
            there = tf.strings.length(file) > 0
            return tf.cond(
                there, lambda: self._resized(tf.cast(decode(file), tf.float32)), lambda: tf.zeros(shape, tf.float32)
            )

        return tf.map_fn(picture, films, fn_output_signature=tf.TensorSpec(shape, tf.float32)) / 255.0

    def _resized(self, picture):
        """Whole numbers from 0 to 255, which is what a picture is kept in."""
        return tf.clip_by_value(tf.round(self._converter(picture)), 0.0, 255.0)

    def _features_of(self, films):
        features = self._compiled
        for pictures in self.encoded(films):
            yield features(pictures.astype(np.float32) / 255).numpy()


class OverviewPreset(Preset):
    """On overviews; `encoded` are tokens int32 (B, T), padded with `padding`."""

    kind = "tokens"

    @staticmethod
    def raw(films):
        return films.texts

    def __init__(self, config: Config):
        length, layers = config.max_tokens, config.overview_encoder.preset.layers
        self.preprocessor = presets.text_preprocessor(config)
        reading = presets.reading_of(self.preprocessor.tokenizer)
        super().__init__(config, config.overview_encoder.name, f"{length} {layers}", reading)
        self.padding = int(self.preprocessor.tokenizer.pad_token_id)
        self.spec = tf.TensorSpec((None, None), tf.int32)

    @functools.cached_property
    def backbone(self):
        return presets.load_overview_backbone(self.config, as_sequence=self.as_sequence)

    def encoded(self, films):
        for batch in _in_batches(films):
            tokens = np.array(self.preprocessor(list(batch))["token_ids"], np.int32)
            tokens[[not overview.strip() for overview in batch]] = self.padding
            yield tokens

    def encoded_in_graph(self, films):
        # In a graph the tokenizer would take a NUL for the end of a text; outside of one it is white space.
        tokens = self.preprocessor(tf.strings.regex_replace(films, r"\x00", " "))["token_ids"]
        tokens = tf.cast(tokens, tf.int32)  # (B, T)
        blank = tf.strings.regex_full_match(films, _BLANK)
        tokens = tf.where(tf.expand_dims(blank, 1), self.padding, tokens)
        longest = tf.reduce_max(tf.math.count_nonzero(tokens != self.padding, axis=1))
        return tokens[:, : tf.maximum(longest, 1)]

    def _features_of(self, films):
        features = self._compiled
        for tokens in self.encoded(films):
            longest = max(1, int((tokens != self.padding).sum(axis=1).max()))
            found = features(tokens[:, :longest]).numpy()
            if self.as_sequence:
                found = np.pad(found, ((0, 0), (0, tokens.shape[1] - longest), (0, 0)))
            yield found


_BLANK = r"[\t-\r\x1c-\x1f\x{85}\pZ]*"  # what Python's `strip` takes away
_fingerprints: dict[str, str] = {}  # by name; to load a backbone and hash its weights takes seconds


def _in_batches(films: Iterable) -> Iterator[tuple]:
    films = iter(films)
    while batch := tuple(islice(films, _BATCH)):
        yield batch


def features_of(preset: Preset, films: Films) -> Array:
    """Gives a preset's features of all films, from the cache or, the first time, from the films."""
    folder = films.cache / "features" / films.dataset
    digest = hashlib.sha256(films.hashes.tobytes())  # which films stay, and what of them was left out
    if preset.kind == "tokens" and films.texts != films.overviews:  # made of other columns too
        for text in films.texts:
            digest.update(repr(text).encode())
    file = folder / f"{films.fingerprint}-{digest.hexdigest()[:16]}-{preset.file}"
    make_folder(folder)
    if not file.is_file():
        with one_at_a_time(
            file.with_name(f".{file.name}.lock"), "Another process is reading these films; waiting for it ..."
        ):
            if not file.is_file():
                what = Path(preset.named).name
                print(f"Reading {len(films):,} films with {what}, once for all runs ...", file=sys.stderr)
                _write(file, preset.read(preset.raw(films)), len(films))
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        if found.nbytes > _IN_MEMORY:
            found = OnDisk(file, found.dtype, found.shape, found.offset)
        if len(found) != len(films):
            raise ValueError("it is not of these films")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}; delete it") from error
    return found if isinstance(found, OnDisk) else np.array(found)


def _write(file: Path, batches: Iterator[np.ndarray], count: int) -> None:
    """Writes batches into one array, of which not more than a batch is in memory.

    Not through a memory map: on a full disk the system would end the process.
    """
    beside = file.with_name(f".{file.stem}{HALF_WRITTEN}.npy")
    try:
        rows = 0
        with beside.open("wb") as out:
            for batch in batches:
                if not rows:
                    descr = np.lib.format.dtype_to_descr(batch.dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": (count, *batch.shape[1:])}
                    np.lib.format.write_array_header_1_0(out, header)
                out.write(batch.tobytes())
                rows += len(batch)
            out.flush()
            os.fsync(out.fileno())
        if rows != count:
            raise UserError(f"the posters of {count - rows:,} films cannot be read any more")
        move_into_place(beside, file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
