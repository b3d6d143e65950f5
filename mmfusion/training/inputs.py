"""Films as a model reads them: posters, tokens and columns, or the features that a frozen preset made of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.config import Config
from mmfusion.data.encoded import Encoded
from mmfusion.data.films import Films
from mmfusion.data.posters import decode_poster
from mmfusion.data.preprocessing import Preprocessing
from mmfusion.data.source import Source, padded_length
from mmfusion.data.table import encode_table
from mmfusion.data.text import encode_overviews
from mmfusion.schema import CHANNELS, OVERVIEW, PADDING, POSTER, TABLE
from mmfusion.training.features import Preset, features_of, presets_of

_CHUNK = 2**15  # films whose overviews are Python's at a time


@dataclass(frozen=True)
class Inputs:
    """N films as a model reads them."""

    films: dict[str, Encoded]  # by modality
    presets: dict[str, str]  # by modality, the fingerprint of the preset that it needs

    def __len__(self) -> int:
        return len(next(iter(self.films.values())).values)

    @property
    def features(self) -> dict[str, list[int]]:
        """The shape of a film's features, by the modality that a frozen preset has read."""
        return {name: list(of.values.shape[1:]) for name, of in self.films.items() if of.kind == "features"}

    def with_all(self, rows: np.ndarray) -> np.ndarray:
        """Gives those of these rows whose films have every modality."""
        return rows[np.all([of.present(rows) for of in self.films.values()], axis=0)]

    def exchanged(self, rows: Mapping[str, np.ndarray]) -> "Inputs":
        """Gives films put together of others' modalities: by modality, the row that each is taken from."""
        return Inputs({name: of.at(rows[name]) for name, of in self.films.items()}, self.presets)

    def without(self, modality: str, rows: np.ndarray) -> "Inputs":
        """Gives the films of these rows, all without one modality."""
        some = {name: of.at(rows) for name, of in self.films.items()}
        return Inputs({**some, modality: some[modality].absent()}, self.presets)

    def blanked(self, rows: np.ndarray, lacking: Mapping[str, np.ndarray]) -> "Inputs":
        """Gives the films of these rows; by modality bool (R,), which of them are without it."""
        some = {name: of.at(rows) for name, of in self.films.items()}
        return Inputs(some | {name: some[name].where_not(of) for name, of in lacking.items()}, self.presets)

    def source(self, labels: np.ndarray, batch_size: int) -> Source:
        """Makes the one source of batches of these films."""
        return Source(self.films, labels, batch_size)


def of_films(config: Config, films: Films, fitted: Preprocessing) -> Inputs:
    """All films of a data set, in their order.

    Args:
        config: of the model that will read them.
        films: of the data set.
        fitted: on the training films.

    Raises:
        UserError: a preset cannot be had, or the films cannot be read any more.
    """
    presets = presets_of(config)
    read = {}
    for name in config.in_batches:
        if name in presets:
            read[name] = presets[name].encode(features_of(presets[name], films))
        else:
            read[name] = READINGS[name].of_films(config, films, fitted)
    return _inputs(read, presets)


def of_raw(
    config: Config, fitted: Preprocessing, raw: Mapping[str, Sequence], presets: Mapping[str, Preset] | None = None
) -> Inputs:
    """Any films, as files and texts.

    Args:
        config: of the model that will read them.
        fitted: on its training films.
        raw: by modality N films; see `inference.predict`. Those of a modality that is not named lack it.
        presets: the configuration's, as `presets_of` gives them, for whoever asks more than once.

    Raises:
        BadPoster: a picture cannot be read.
        UserError: a preset cannot be had.
    """
    return _raw(config, fitted, raw, lambda preset: preset.read, presets)


def encoded(config: Config, fitted: Preprocessing, raw: Mapping[str, Sequence]) -> Inputs:
    """As `of_raw`, but of a frozen preset too what it reads, and not what it makes of that."""
    return _raw(config, fitted, raw, lambda preset: preset.encoded)


def _raw(
    config: Config,
    fitted: Preprocessing,
    raw: Mapping[str, Sequence],
    reader: Callable,
    presets: Mapping[str, Preset] | None = None,
) -> Inputs:
    count = len(next(iter(raw.values())))
    presets, read = presets_of(config) if presets is None else presets, {}
    for name in config.in_batches:
        films = raw.get(name, [READINGS[name].nothing] * count)
        if name in presets:
            read[name] = presets[name].encode(_in_one(reader(presets[name])(films), count))
        else:
            read[name] = READINGS[name].of_raw(config, films, fitted)
    return _inputs(read, presets)


@dataclass(frozen=True)
class Reading:
    """Reads films of one modality, where no preset does."""

    nothing: object  # stands for a film that lacks it
    of_films: Callable[[Config, Films, Preprocessing], Encoded]  # all of a data set
    of_raw: Callable[[Config, Sequence, Preprocessing], Encoded]  # any, as files and texts


def _pixels(config: Config, posters: Sequence[bytes | np.ndarray], fitted: Preprocessing) -> Encoded:
    """Posters as files, b"" for none, or decoded already."""
    size = config.poster_size
    none = np.zeros((size, size, CHANNELS), np.uint8)
    decoded = (decode_poster(one, size) if isinstance(one, bytes) and one else one for one in posters)
    return Encoded(np.stack([one if isinstance(one, np.ndarray) else none for one in decoded]), "pixels")


def _tokens(config: Config, overviews: Sequence[str], fitted: Preprocessing) -> Encoded:
    return Encoded(encode_overviews(overviews, fitted.vocabulary, config.max_tokens, fitted.rules), "tokens")


def _all_tokens(config: Config, films: Films, fitted: Preprocessing) -> Encoded:
    """Those of many films, some at a time, and no longer than the longest overview needs."""
    parts = []
    for start in range(0, len(films), _CHUNK):
        tokens = _tokens(config, films.texts[start : start + _CHUNK], fitted).values
        parts.append(tokens[:, : padded_length(tokens, PADDING)].copy())
    found = np.full((len(films), max(part.shape[1] for part in parts)), PADDING, np.int32)
    for start, part in zip(range(0, len(films), _CHUNK), parts):
        found[start : start + _CHUNK, : part.shape[1]] = part
    return Encoded(found, "tokens")


def _rows(config: Config, rows: Sequence[Mapping[str, str]], fitted: Preprocessing) -> Encoded:
    cells = {column.name: tuple(row.get(column.name, "").strip() for row in rows) for column in fitted.columns}
    return Encoded(encode_table(cells, fitted.columns), "table")


# A line here, with a function in `data/`, makes films of another modality known.
READINGS = {
    POSTER: Reading(b"", lambda config, films, fitted: Encoded(films.posters, "pixels"), _pixels),
    OVERVIEW: Reading("", _all_tokens, _tokens),
    TABLE: Reading(
        {},
        lambda config, films, fitted: Encoded(encode_table(films.table, fitted.columns), "table"),
        _rows,
    ),
}


def _inputs(films: dict[str, Encoded], presets: Mapping[str, Preset]) -> Inputs:
    return Inputs(films, {name: preset.fingerprint for name, preset in presets.items()})


def _in_one(batches: Iterator[np.ndarray], count: int) -> np.ndarray:
    found = np.concatenate(list(batches))
    assert len(found) == count
    return found
