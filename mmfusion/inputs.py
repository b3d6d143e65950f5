"""What reaches a model's door: posters and tokens, or the features that a frozen preset made of them.

A frozen preset reads all films of a data set once. Its features are kept in the cache, under a name made of
the films' content and of its own weights, and shared by all variants, seeds and searches.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmfusion.config import Config
from mmfusion.data.films import Films
from mmfusion.data.in_graph import decode
from mmfusion.data.posters import decode_poster, open_poster
from mmfusion.data.source import Source
from mmfusion.data.text import encode_overviews
from mmfusion.errors import UserError, first_line
from mmfusion.files import HALF_WRITTEN, make_folder, move_into_place, one_at_a_time
from mmfusion.models import model_class, presets
from mmfusion.models.operators import OPERATORS
from mmfusion.schema import CHANNELS, OVERVIEW, PADDING, POSTER

_BATCH = 32  # films that a preset reads at a time
_IN_MEMORY = 2**29  # bytes; a larger file of features stays on disk and is read as films are needed


@dataclass(frozen=True)
class Inputs:
    """N films as a model reads them."""

    posters: np.ndarray  # uint8 (N, H, W, 3); of a frozen preset float (N, C), or (N, S, C) for attention
    tokens: np.ndarray  # int32 (N, T), padded with `padding`; of a frozen preset as above
    padding: int = PADDING
    presets: dict[str, str] = field(
        default_factory=dict
    )  # by modality, the fingerprint of the preset that it needs

    @property
    def features(self) -> dict[str, list[int]]:
        """The shape of a film's features, by the modality that a frozen preset has read."""
        arrays = {POSTER: self.posters, OVERVIEW: self.tokens}
        return {name: list(a.shape[1:]) for name, a in arrays.items() if a.dtype.kind == "f"}

    def present(self, modality: str, rows: np.ndarray) -> np.ndarray:
        """Which of the films in these rows have this modality: bool (R,)."""
        values = (self.posters if modality == POSTER else self.tokens)[rows]
        blank = self.padding if modality == OVERVIEW and values.dtype.kind != "f" else 0
        return (values != blank).reshape(len(rows), -1).any(axis=1)

    def with_both(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows whose films have a poster and an overview."""
        return rows[self.present(POSTER, rows) & self.present(OVERVIEW, rows)]

    def source(self, labels: np.ndarray, batch_size: int) -> Source:
        """The one source of (poster, tokens, labels) for these films."""
        return Source(self.posters, self.tokens, labels, batch_size, padding=self.padding)


def of_films(config: Config, films: Films, vocabulary: Sequence[str]) -> Inputs:
    """All films of a data set, in their order.

    Args:
        config: of the model that will read them.
        films: of the data set.
        vocabulary: of the training films.

    Raises:
        UserError: a preset cannot be had, or the films cannot be read any more.
    """
    found = presets_of(config)
    posters = _kept(found[POSTER], films, lambda: films.poster_files()) if POSTER in found else films.posters
    if OVERVIEW in found:
        tokens = _kept(found[OVERVIEW], films, lambda: films.overviews)
    else:
        tokens = encode_overviews(films.overviews, vocabulary, config.data.max_tokens)
    return _inputs(posters, tokens, found)


def of_raw(config: Config, vocabulary: Sequence[str], posters: Sequence[bytes], overviews: Sequence[str]) -> Inputs:
    """Any films, from their posters' files and their overviews.

    Args:
        config: of the model that will read them.
        vocabulary: of its training films.
        posters: N encoded pictures; b"" where there is none.
        overviews: N texts; "" where there is none.

    Raises:
        BadPoster: a picture cannot be read.
        UserError: a preset cannot be had.
    """
    found = presets_of(config)
    return _raw(
        config, vocabulary, posters, overviews, found, {name: preset.read for name, preset in found.items()}
    )


def encoded(
    config: Config, vocabulary: Sequence[str], posters: Sequence[bytes], overviews: Sequence[str]
) -> Inputs:
    """As `of_raw`, but of a frozen preset too what it reads, and not what it makes of that."""
    found = presets_of(config)
    read = {name: preset.encoded for name, preset in found.items()}
    return _raw(config, vocabulary, posters, overviews, found, read)


def _raw(config, vocabulary, posters, overviews, found, read) -> Inputs:
    if POSTER in found:
        pictures = _in_one(read[POSTER](posters), len(posters))
    else:
        size = config.data.poster_size
        none = np.zeros((size, size, CHANNELS), np.uint8)
        pictures = np.stack([decode_poster(one, size) if one else none for one in posters])
    if OVERVIEW in found:
        tokens = _in_one(read[OVERVIEW](overviews), len(overviews))
    else:
        tokens = encode_overviews(overviews, vocabulary, config.data.max_tokens)
    return _inputs(pictures, tokens, found)


def _inputs(posters: np.ndarray, tokens: np.ndarray, found: dict[str, "Preset"]) -> Inputs:
    padding = found[OVERVIEW].padding if OVERVIEW in found else PADDING
    return Inputs(posters, tokens, padding, {name: preset.fingerprint for name, preset in found.items()})


def presets_of(config: Config) -> dict[str, "Preset"]:
    """The presets that a configuration's variant reads with, by modality.

    Raises:
        UserError: one cannot be had.
    """
    model_class(config.variant).check(config)
    kinds = {POSTER: PosterPreset, OVERVIEW: OverviewPreset}
    return {name: kinds[name](config) for name in config.encoders if name in config.presets}


class Preset:
    """A preset and what it makes of films; the backbone is loaded when it is needed."""

    def __init__(self, config: Config, named: str, form: str, reading: dict):
        self.named = named
        self.config = config
        self.frozen = not config.fine_tuning.fine_tune
        joint = config.joint
        self.as_sequence = config.variant == "joint" and OPERATORS[joint.operator](joint.units).reads_sequences
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
        """What the backbone makes of a batch: float32 (B, C), or of a sequence float16 (B, S, C)."""
        sequence, mask = self.backbone(read)
        if not self.as_sequence:
            return presets.pooled(sequence, mask)
        return tf.cast(tf.where(tf.expand_dims(mask, 2), sequence, 0.0), tf.float16)

    def read(self, films: Iterable) -> Iterator[np.ndarray]:
        """Batches of what the model reads: features of a frozen backbone, else as `encoded`."""
        raise NotImplementedError

    def _compiled(self):
        """`features`, its backbone loaded before: inside a graph weights get no values."""
        assert self.backbone is not None
        return tf.function(self.features, input_signature=[self.spec])


class PosterPreset(Preset):
    """On posters; `encoded` are pictures uint8 (B, H, W, 3), in the graph float32 in [0, 1]."""

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

    def read(self, films):
        if not self.frozen:
            yield from self.encoded(films)
            return
        features = self._compiled()
        for pictures in self.encoded(films):
            yield features(pictures.astype(np.float32) / 255).numpy()


class OverviewPreset(Preset):
    """On overviews; `encoded` are tokens int32 (B, T), padded with `padding`."""

    def __init__(self, config: Config):
        length, layers = config.data.max_tokens, config.overview_encoder.preset.layers
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

    def read(self, films):
        if not self.frozen:
            yield from self.encoded(films)
            return
        features = self._compiled()
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


def _in_one(batches: Iterator[np.ndarray], count: int) -> np.ndarray:
    found = np.concatenate(list(batches))
    assert len(found) == count
    return found


def _kept(preset: Preset, films: Films, read_films) -> np.ndarray:
    """What a preset makes of all films, from the cache or, the first time, from the films."""
    folder = films.cache / "features" / films.dataset
    file = folder / f"{films.fingerprint}{'-skip' if films.skipped else ''}-{preset.file}"
    make_folder(folder)
    if not file.is_file():
        with one_at_a_time(
            file.with_name(f".{file.name}.lock"), "Another process is reading these films; waiting for it ..."
        ):
            if not file.is_file():
                what = Path(preset.named).name
                print(f"Reading {len(films):,} films with {what}, once for all runs ...", file=sys.stderr)
                _write(file, preset.read(read_films()), len(films))
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        if len(found) != len(films):
            raise ValueError("it is not of these films")
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {first_line(error)}; delete it") from error
    return np.array(found) if found.nbytes <= _IN_MEMORY else found


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
