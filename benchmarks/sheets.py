"""The report's numbers as CSV files."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.findings import MICRO, Analysis, Model
from mmfusion.files import write_atomically

# Heading of a column -> name of its score, in `results.csv` and `summary.csv`.
OVERALL = {
    "BCE": "bce",
    "micro-AP": MICRO,
    "macro-AP": "ap_macro",
    "LRAP": "lrap",
    "ROC-AUC": "roc_auc_macro",
}
_F1 = {f"F1 {average}": f"f1_{average}" for average in ("micro", "macro", "weighted", "samples")}
TUNED = {heading: f"tuned.{name}" for heading, name in _F1.items()}
AT_HALF = {heading: f"at_0.5.{name}" for heading, name in _F1.items()}
CALIBRATION = {"ECE": "ece", "Brier": "brier"}
COST = {"parameters": "parameters", "training s": "train_seconds", "ms a film": "ms_per_film"}


def write_csv(analysis: Analysis, folder: Path) -> None:
    """Writes `results.csv`, `summary.csv`, `gains.csv` and `modalities.csv`."""
    for name, header, rows in (
        ("results", ["variant", "seed", "metric", "value"], _results(analysis)),
        ("summary", ["variant", "metric", "mean", "deviation", "low", "high", "seeds"], _summary(analysis)),
        (
            "gains",
            ["variant", "over", "seeds", "genre", "films", "gain", "low", "high", "p", "p_holm", "verdict"],
            _gains(analysis),
        ),
        (
            "modalities",
            ["variant", "genre", *_contributions(analysis)],
            _modalities(analysis),
        ),
    ):
        write_atomically(folder / f"{name}.csv", as_csv(header, rows))


def as_csv(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Numbers keep all their digits; what is undefined is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if is_undefined(cell) else cell for cell in row] for row in rows])
    return text.getvalue()


def is_undefined(value) -> bool:
    """None, or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _all_scores(model: Model):
    yield from model.scores.items()
    yield from ((f"ap.{genre}", score) for genre, score in model.genres.items())
    yield from ((f"f1.{genre}", score) for genre, score in model.f1.items())


def _results(analysis: Analysis):
    for model in analysis.models.values():
        for metric, score in _all_scores(model):
            for seed, value in score.by_seed.items():
                yield model.name, seed, metric, value


def _summary(analysis: Analysis):
    for model in analysis.models.values():
        for metric, score in _all_scores(model):
            yield model.name, metric, score.mean, score.deviation, score.low, score.high, len(score.defined)


def _gains(analysis: Analysis):
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


def _modalities(analysis: Analysis):
    names = _contributions(analysis)
    for brought in analysis.brought:
        for genre in ("", *(genre for genre in analysis.genres if genre in brought.genres)):
            found = (brought.genres[genre] if genre else brought.micro).flat()
            yield brought.name, genre, *(found.get(name) for name in names)
