"""Predicts any number of films of a table, a few hundred at a time."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mmfusion.data.film_table.unlabelled import FilmReader, Unlabelled
from mmfusion.data.posters import BadPoster, NoPoster, decode_poster, open_poster
from mmfusion.data.splits import content_hash
from mmfusion.data.table import texts_of
from mmfusion.data.texts import Texts
from mmfusion.errors import UserError
from mmfusion.inference import Predicted, load_model, predict_encoded
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, TABLE
from mmfusion.training import inputs
from mmfusion.training.features import presets_of

_AT_ONCE = 512  # films; more make nothing faster


class ManyFilms:
    """Predicts the films of a table; `counts` says afterwards what was read of how many."""

    def __init__(self, run: Run, films: FilmReader):
        """
        Args:
            run: a finished run.
            films: of the table.

        Raises:
            UserError: the run's model or its preset cannot be had.
        """
        self._run, self.films = run, films
        self._model, self._presets = load_model(run), presets_of(run.config)  # once for all films
        known = {} if films.keeps_placeholders else run.facts.get("placeholders", {})
        self._placeholders = {modality: frozenset(hashes) for modality, hashes in known.items()}
        self.counts: Counter[str] = Counter()
        self.unreadable: dict[str, str] = {}  # films whose poster is there and no picture, and why

    def __iter__(self) -> Iterator[Predicted]:
        """Predictions of all films.

        While the model reads some films, the next ones are read and decoded.

        Raises:
            UserError: the table or a preset cannot be read, or no film has anything that the run reads.
        """
        films = iter(self.films)
        with ThreadPoolExecutor(1, "next-films") as ahead, ThreadPoolExecutor(os.cpu_count()) as self._pool:
            coming = ahead.submit(self._prepare, list(itertools.islice(films, _AT_ONCE)))
            while (prepared := coming.result()) is not None:
                coming = ahead.submit(self._next, films)
                yield self._predict(*prepared)
        if not any(self.counts):
            raise UserError(f"{self.films.table.name}: {self._why_none()}")

    def _why_none(self) -> str:
        if not self.counts:
            column = self.films.table.columns[self.films.roles.id]
            return f"the column {column!r} is empty; name another with --columns id=COLUMN"
        reads = " or ".join(self._run.config.reads)
        return (
            f"no film has what {self._run.folder} reads ({reads}); name the columns with --columns, and the "
            "posters' folder with --data-dir"
        )

    def _next(self, films: Iterator[Unlabelled]):
        return self._prepare(list(itertools.islice(films, _AT_ONCE)))

    def _prepare(self, films: Sequence[Unlabelled]):
        """Reads and encodes films; None of no film."""
        if not films:
            return None
        config, fitted = self._run.config, self._run.fitted
        columns = [column.name for column in fitted.columns]
        table = {name: Texts.of(film.cells[name] for film in films) for name in films[0].cells}
        posters = self._pool.map(self._poster, films) if POSTER in config.reads else [b""] * len(films)
        overviews = ("" if self._is_placeholder(OVERVIEW, film.overview) else film.overview for film in films)
        raw: dict[str, Sequence] = {
            POSTER: list(posters),
            OVERVIEW: texts_of(config.overview.columns, table, Texts.of(overviews)),
            TABLE: [{name: film.cells.get(name, "") for name in columns} for film in films],
        }
        return films, inputs.of_raw(config, fitted, raw, self._presets)

    def _poster(self, film: Unlabelled) -> bytes | np.ndarray:
        """A film's poster, decoded unless a preset does that; b"" of one that is missing or cannot be read."""
        try:
            encoded = self.films.pictures.read(film.poster)
            if self._is_placeholder(POSTER, encoded):
                return b""
            if POSTER not in self._run.config.presets:
                return decode_poster(encoded, self._run.config.poster_size)
            open_poster(encoded)
            return encoded
        except NoPoster:
            return b""
        except BadPoster as error:
            self.unreadable[film.id] = str(error)
            return b""

    def _is_placeholder(self, modality: str, content: bytes | str) -> bool:
        """Tells if so many of the training films shared this that it counted as missing."""
        known = self._placeholders.get(modality)
        return bool(known) and content_hash(content) in known

    def _predict(self, films: Sequence[Unlabelled], read: inputs.Inputs) -> Predicted:
        ids = [film.id for film in films]
        found = predict_encoded(self._run, self._model, ids, read, np.arange(len(films)))
        self.counts.update(found.read)
        return found
