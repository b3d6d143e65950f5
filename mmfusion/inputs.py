"""What reaches a model's door: posters and tokens, or the features that a frozen preset made of them.

A frozen preset reads all films of a data set once. Its features are kept in the cache, under a name made of
the films' content and of its own weights, and shared by all variants, seeds and searches.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmfusion.config import Config, is_preset
from mmfusion.data.films import Films
from mmfusion.data.posters import decode_poster, open_poster
from mmfusion.data.source import Source
from mmfusion.data.text import encode_overviews
from mmfusion.errors import UserError
from mmfusion.files import HALF_WRITTEN, make_folder, move_into_place, one_at_a_time
from mmfusion.models import model_class, presets
from mmfusion.schema import CHANNELS, PADDING, POSTER, TOKENS

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
        arrays = {POSTER: self.posters, TOKENS: self.tokens}
        return {name: list(a.shape[1:]) for name, a in arrays.items() if a.dtype.kind == "f"}

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
    reads, found, padding = model_class(config.variant).reads, {}, PADDING
    posters, tokens = films.posters, None
    if POSTER in reads and is_preset(config.poster_encoder.name):
        preset = _PosterPreset(config)
        found[POSTER] = preset.fingerprint
        posters = _kept(preset, films, lambda: films.poster_files())
    if TOKENS in reads and is_preset(config.overview_encoder.name):
        preset = _OverviewPreset(config)
        found[TOKENS], padding = preset.fingerprint, preset.padding
        tokens = _kept(preset, films, lambda: films.overviews)
    else:
        tokens = encode_overviews(films.overviews, vocabulary, config.data.max_tokens)
    return Inputs(posters, tokens, padding, found)


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
    reads, found, padding = model_class(config.variant).reads, {}, PADDING
    if POSTER in reads and is_preset(config.poster_encoder.name):
        preset = _PosterPreset(config)
        found[POSTER], pictures = preset.fingerprint, _in_one(preset.read(posters), len(posters))
    else:
        size = config.data.poster_size
        none = np.zeros((size, size, CHANNELS), np.uint8)
        pictures = np.stack([decode_poster(one, size) if one else none for one in posters])
    if TOKENS in reads and is_preset(config.overview_encoder.name):
        preset = _OverviewPreset(config)
        found[TOKENS], padding = preset.fingerprint, preset.padding
        tokens = _in_one(preset.read(overviews), len(overviews))
    else:
        tokens = encode_overviews(overviews, vocabulary, config.data.max_tokens)
    return Inputs(pictures, tokens, padding, found)


class _Preset:
    """A preset and what it makes of films; the backbone is loaded when it is needed."""

    def __init__(self, config: Config, name: str, form: str):
        self.name = name
        self._config = config
        self.frozen = not config.fine_tuning.fine_tune
        self.as_sequence = config.variant == "joint" and config.joint.operator == "cross_attention"
        if name not in _fingerprints:
            _fingerprints[name] = presets.fingerprint(self._load())
        self.fingerprint = _fingerprints[name]
        what = ("sequence" if self.as_sequence else "pooled") if self.frozen else "input"
        key = hashlib.sha256(f"{self.fingerprint} {form}".encode()).hexdigest()[:16]
        self.file = f"{what}-{key}.npy"

    def _load(self):
        """The backbone, on its own."""
        raise NotImplementedError

    def _reader(self, spec: tf.TensorSpec):
        """A compiled function from the backbone's input to features as they are kept."""
        backbone = self._load()

        @tf.function(input_signature=[spec])
        def read(batch):
            sequence, mask = backbone(batch)
            if not self.as_sequence:
                return presets.pooled(sequence, mask)
            return tf.cast(tf.where(mask[:, :, None], sequence, 0.0), tf.float16)

        return read


class _PosterPreset(_Preset):
    def __init__(self, config: Config):
        size = config.poster_encoder.preset.image_size
        super().__init__(config, config.poster_encoder.name, f"{size}")
        self._size = size

    def _load(self):
        return presets.load_poster_backbone(self._config)

    def read(self, posters: Iterable[bytes]) -> Iterator[np.ndarray]:
        """Batches of what the model reads, from encoded pictures; b"" where there is none."""
        converter = presets.image_converter(self._config)
        converter.scale = converter.offset = None  # only its size and way of resizing: the rest is the backbone's
        spec = tf.TensorSpec((None, *self._size, CHANNELS), tf.float32)
        read = self._reader(spec) if self.frozen else None
        for batch in _in_batches(posters):
            pictures = np.zeros((len(batch), *self._size, CHANNELS), np.uint8)
            for picture, encoded in zip(pictures, batch):
                if encoded:
                    resized = converter(np.asarray(open_poster(encoded), np.float32))
                    picture[:] = np.clip(np.rint(resized), 0, 255)
            yield np.asarray(read(pictures.astype(np.float32) / 255)) if read else pictures


class _OverviewPreset(_Preset):
    def __init__(self, config: Config):
        length = config.data.max_tokens
        layers = config.overview_encoder.preset.layers
        super().__init__(config, config.overview_encoder.name, f"{length} {layers}")
        self._preprocessor = presets.text_preprocessor(config)
        self.padding = int(self._preprocessor.tokenizer.pad_token_id)

    def _load(self):
        return presets.load_overview_backbone(self._config, as_sequence=self.as_sequence)

    def read(self, overviews: Iterable[str]) -> Iterator[np.ndarray]:
        """Batches of what the model reads, from texts; "" where there is none."""
        read = self._reader(tf.TensorSpec((None, None), tf.int32)) if self.frozen else None
        for batch in _in_batches(overviews):
            tokens = np.array(self._preprocessor(list(batch))["token_ids"], np.int32)
            tokens[[not overview.strip() for overview in batch]] = self.padding
            if read is None:
                yield tokens
                continue
            longest = max(1, int((tokens != self.padding).sum(axis=1).max()))
            features = np.asarray(read(tokens[:, :longest]))
            if self.as_sequence:
                features = np.pad(features, ((0, 0), (0, tokens.shape[1] - longest), (0, 0)))
            yield features


_fingerprints: dict[str, str] = {}  # by name; to load a backbone and hash its weights takes seconds


def _in_batches(films: Iterable) -> Iterator[tuple]:
    films = iter(films)
    while batch := tuple(islice(films, _BATCH)):
        yield batch


def _in_one(batches: Iterator[np.ndarray], count: int) -> np.ndarray:
    found = np.concatenate(list(batches))
    assert len(found) == count
    return found


def _kept(preset: _Preset, films: Films, read_films) -> np.ndarray:
    """What a preset makes of all films, from the cache or, the first time, from the films."""
    folder = films.cache / "features" / films.dataset
    file = folder / f"{films.fingerprint}{'-skip' if films.skipped else ''}-{preset.file}"
    make_folder(folder)
    if not file.is_file():
        with one_at_a_time(
            file.with_name(f".{file.name}.lock"), "Another process is reading these films; waiting for it ..."
        ):
            if not file.is_file():
                what = Path(preset.name).name
                print(f"Reading {len(films):,} films with {what}, once for all runs ...", file=sys.stderr)
                _write(file, preset.read(read_films()), len(films))
    found = np.load(file, mmap_mode="r", allow_pickle=False)
    if len(found) != len(films):
        raise UserError(f"{file} is not of these films; delete it")
    return np.array(found) if found.nbytes <= _IN_MEMORY else found


def _write(file: Path, batches: Iterator[np.ndarray], count: int) -> None:
    """Writes batches into one array, of which not more than a batch is in memory."""
    beside = file.with_name(f".{file.stem}{HALF_WRITTEN}.npy")
    try:
        array, row = None, 0
        for batch in batches:
            if array is None:
                array = np.lib.format.open_memmap(beside, "w+", batch.dtype, (count, *batch.shape[1:]))
            array[row : row + len(batch)] = batch
            row += len(batch)
        if row != count:
            raise UserError(f"the posters of {count - row:,} films cannot be read any more")
        array.flush()
        move_into_place(beside, file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
