"""The report's numbers as pandas frames, which are its CSV files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.findings import Analysis, Model, Score
from mmfusion.evaluation.frame import COLUMNS
from mmfusion.files import inert, write_atomically

if TYPE_CHECKING:
    import pandas as pd

COST = {  # heading of a column -> name in `results.csv` and `summary.csv`
    "parameters": "parameters",
    "training s": "train_seconds",
    "ms a film": "ms_per_film",
}
COST_FORMS = {"parameters": ",.0f", "train_seconds": ",.0f", "ms_per_film": ".2f"}  # how each is printed


def write_csv(analysis: Analysis, folder: Path) -> None:
    """Writes `results.csv`, `summary.csv`, `gains.csv` and `modalities.csv`."""
    summary = ("model", "metric", "genre", "mean", "deviation", "low", "high", "seeds")
    gains = ("model", "over", "seeds", "genre", "films", "gain", "low", "high", "p", "p_holm", "verdict")
    for name, found in (
        ("results", frame(COLUMNS, _results(analysis))),
        ("summary", frame(summary, _summary(analysis))),
        ("gains", frame(gains, _gains(analysis))),
        ("modalities", frame(("model", "genre", *_contributions(analysis)), _modalities(analysis))),
    ):
        write_frame(found, folder / f"{name}.csv")


def frame(columns: Sequence[str], rows: Iterable[Sequence]) -> pd.DataFrame:
    """Makes a frame of rows, in which every value stays as it is."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def write_frame(found: pd.DataFrame, file: Path) -> None:
    """Writes a CSV: numbers keep all their digits, and what is undefined is empty."""
    write_atomically(file, found.map(inert).to_csv(index=False, lineterminator="\n"))


def _scores(model: Model) -> Iterator[tuple[str, str, Score]]:
    """Each score of a model: its name, its genre ("" of all), and it."""
    yield from ((name, "", score) for name, score in model.scores.items())
    yield from (("ap", genre, score) for genre, score in model.genres.items())
    yield from (("f1", genre, score) for genre, score in model.f1.items())


def _results(analysis: Analysis) -> Iterator[tuple]:
    for model in analysis.models.values():
        for metric, genre, score in _scores(model):
            for seed, value in score.by_seed.items():
                yield model.name, model.encoders, model.split_seeds[seed], seed, "test", metric, genre, value


def _summary(analysis: Analysis) -> Iterator[tuple]:
    for model in analysis.models.values():
        for metric, genre, s in _scores(model):
            yield model.name, metric, genre, s.mean, s.deviation, s.low, s.high, len(s.defined)


def _gains(analysis: Analysis) -> Iterator[tuple]:
    for comparison in analysis.compared:
        gains = {"": comparison.micro, **comparison.genres}
        for genre in ("", *analysis.genres):
            if genre in gains:
                gain, films = gains[genre], analysis.support[genre] if genre else None
                numbers = (gain.gain, gain.low, gain.high, gain.p, gain.p_holm, gain.verdict)
                yield comparison.name, comparison.over, len(comparison.seeds), genre, films, *numbers


def _contributions(analysis: Analysis) -> list[str]:
    """Names of all that any model's modalities bring; the last two are of the films of EMAP only."""
    names = list(dict.fromkeys(name for brought in analysis.brought for name in brought.micro.flat()))
    return sorted(names, key=("whole", "additive").__contains__)


def _modalities(analysis: Analysis) -> Iterator[tuple]:
    names = _contributions(analysis)
    for brought in analysis.brought:
        for genre in ("", *(genre for genre in analysis.genres if genre in brought.genres)):
            found = (brought.genres[genre] if genre else brought.micro).flat()
            yield brought.name, genre, *(found.get(name) for name in names)
