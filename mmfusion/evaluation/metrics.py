"""Scores of multi-label predictions, by scikit-learn; what cannot be scored is undefined, never 0."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal

import numpy as np

from mmfusion.evaluation import calibration


def sklearn_metrics():
    """Gives `sklearn.metrics`, which is not needed to name the scores and takes a second to import."""
    from sklearn import metrics

    return metrics


_CLIP = 1e-7  # a probability of exactly 0 or 1 would cost infinitely much


def tune_thresholds(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """For each genre the threshold with the best F1; NaN where the genre has no positive film.

    Args:
        y_true: (N, G) multi-hot of validation films.
        y_prob: (N, G) probabilities of the same films.

    Returns:
        (G,) float64; a genre is predicted where its probability is at or above its threshold.
    """
    thresholds = np.full(y_true.shape[1], np.nan)
    for genre in np.flatnonzero(y_true.any(axis=0)):
        precision, recall, candidates = sklearn_metrics().precision_recall_curve(y_true[:, genre], y_prob[:, genre])
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        thresholds[genre] = candidates[np.argmax(f1[:-1])]
    return thresholds


class Scorable:
    """Predictions of one model, with what several scores need of them.

    Args:
        y_true: (N, G) multi-hot.
        y_prob: (N, G) probabilities.
        thresholds: (G,) those tuned on validation films; 0.5 is used where there is none (NaN).
    """

    def __init__(self, y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray):
        self.y_true = np.asarray(y_true).astype(int)
        self.y_prob = np.asarray(y_prob, np.float64)
        self.thresholds = thresholds
        self.defined = np.flatnonzero(self.y_true.any(axis=0))  # genres with a positive film

    @functools.cached_property
    def averages(self) -> dict[str, dict[str, float | None]]:
        """Precision, recall and F1, each averaged in four ways, by "at_0.5" and "tuned"."""
        return {
            "at_0.5": _averages(self.y_true, (self.y_prob > 0.5).astype(int)),
            "tuned": _averages(self.y_true, predicted(self.y_prob, self.thresholds)),
        }


@dataclass(frozen=True)
class Metric:
    """One score over all genres; None where there is nothing to score.

    A genre without a positive film counts in no macro average.
    """

    name: str  # dotted, of its place under `metrics` in `report.json`
    heading: str
    score: Callable[[Scorable], float | None]
    table: Literal["overall", "f1", "at_0.5", "calibration", ""] = ""  # of RESULTS.md, that it is a column of
    in_readme: bool = False
    objective: Literal["min", "max", ""] = ""  # whether a search may look for it, and for how much of it
    # Under bootstrap draws: (y_true, y_prob, weights (D, N)) -> (D,). Those below that have intervals are made
    # together, in `resampling.weighted_scores`.
    resampled: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray] | None = None


def _ap_macro(of: Scorable) -> float | None:
    return _mean(average_precision(of.y_true[:, g], of.y_prob[:, g]) for g in of.defined)


def _lrap(of: Scorable) -> float:
    return float(sklearn_metrics().label_ranking_average_precision_score(of.y_true, of.y_prob))


def _roc_auc_macro(of: Scorable) -> float | None:
    two_sided = [genre for genre in of.defined if not of.y_true[:, genre].all()]
    return _mean(sklearn_metrics().roc_auc_score(of.y_true[:, g], of.y_prob[:, g]) for g in two_sided)


def _of_averages(at: str, score: str) -> Callable[[Scorable], float | None]:
    return lambda of: of.averages[at][score]


def imported(named: str) -> Callable[[Scorable], float | None]:
    """Gives the function of "file.function", a file of this package that is imported when something is scored."""
    file, function = named.split(".")
    return lambda of: getattr(import_module(f"mmfusion.evaluation.{file}"), function)(of)


AVERAGES = ("micro", "macro", "weighted", "samples")

# Every score, in the order in which tables have them: reports, CSV files, the README's table and the objectives of
# searches are made from this list. A line here adds one; a function of your own can be `imported("file.function")`.
METRICS = (
    Metric("bce", "BCE", lambda of: float(np.mean(film_losses(of.y_true, of.y_prob))), "overall", True, "min"),
    Metric(
        "ap_micro",
        "micro-AP",
        lambda of: average_precision(of.y_true, of.y_prob) if of.defined.size else None,
        "overall",
        True,
        "max",
    ),
    Metric("ap_macro", "macro-AP", _ap_macro, "overall", True, "max"),
    Metric("lrap", "LRAP", _lrap, "overall", True, "max"),
    Metric("roc_auc_macro", "ROC-AUC", _roc_auc_macro, "overall", True),
    *(
        Metric(
            f"{at}.{score}_{average}",
            f"{heading} {average}",
            _of_averages(at, f"{score}_{average}"),
            "" if score != "f1" else "f1" if at == "tuned" else "at_0.5",
            in_readme=(at, score) == ("tuned", "f1") and average in ("micro", "macro"),
        )
        for at in ("at_0.5", "tuned")
        for score, heading in (("precision", "P"), ("recall", "R"), ("f1", "F1"))
        for average in AVERAGES
    ),
    Metric("ece", "ECE", lambda of: calibration.expected_calibration_error(of.y_true, of.y_prob), "calibration"),
    Metric("brier", "Brier", lambda of: calibration.brier_score(of.y_true, of.y_prob), "calibration"),
)


def columns(*tables: str) -> dict[str, str]:
    """Gives the scores of some of RESULTS.md's tables: heading -> name."""
    return {metric.heading: metric.name for table in tables for metric in METRICS if metric.table == table}


def scores(y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> dict[str, float | None]:
    """Gives every score of `METRICS` by its name; the arguments are those of `Scorable`."""
    of = Scorable(y_true, y_prob, thresholds)
    return {metric.name: metric.score(of) for metric in METRICS}


def overall(y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> dict:
    """Gives the same as `report.json` has it: those at a threshold under `at_0.5` and `tuned`."""
    found: dict = {}
    for name, score in scores(y_true, y_prob, thresholds).items():
        group, _, last = name.rpartition(".")
        (found.setdefault(group, {}) if group else found)[last] = score
    return found


def by_genre(genres: Sequence[str], y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> list[dict]:
    """One row a genre: support, precision, recall and F1 at its tuned threshold and at 0.5, and AP.

    A genre without a positive film has a support of 0 and None for every score; one without a positive
    validation film has None for its threshold and is scored at 0.5.
    """
    y_true, y_prob = np.asarray(y_true).astype(int), np.asarray(y_prob, np.float64)
    tuned, at_half = predicted(y_prob, thresholds), (y_prob > 0.5).astype(int)
    rows = []
    for g, genre in enumerate(genres):
        support = int(y_true[:, g].sum())
        scores = {
            **_binary(y_true[:, g], tuned[:, g]),
            "ap": average_precision(y_true[:, g], y_prob[:, g]) if support else None,
            "at_0.5": _binary(y_true[:, g], at_half[:, g]),
        }
        if not support:
            scores |= dict.fromkeys(("precision", "recall", "f1"))
            scores["at_0.5"] = dict.fromkeys(scores["at_0.5"])
        threshold = None if np.isnan(thresholds[g]) else float(thresholds[g])
        rows.append({"genre": genre, "support": support, **scores, "threshold": threshold})
    return rows


def average_precision(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    """Of all these predictions in one order, whatever their film and genre; NaN where nothing is true.

    Of all genres' columns it is the micro average; of one genre's, that genre's.
    """
    truth = np.asarray(y_true).ravel() > 0
    if not truth.any():
        return float("nan")
    return float(sklearn_metrics().average_precision_score(truth, np.asarray(y_prob, np.float64).ravel()))


def film_losses(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of each film, in nats, averaged over genres: (N, G) -> (N,)."""
    p = np.clip(np.asarray(y_prob, np.float64), _CLIP, 1 - _CLIP)
    return -np.mean(np.where(np.asarray(y_true) > 0, np.log(p), np.log1p(-p)), axis=1)


def predicted(y_prob: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """1 where a genre's probability is at or above its threshold, or 0.5 where it has none (NaN); (N, G) int."""
    return (y_prob >= np.where(np.isnan(thresholds), 0.5, thresholds)).astype(int)


def _binary(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    scores = sklearn_metrics().precision_recall_fscore_support(
        truth,
        predicted,
        average="binary",
        zero_division=0,  # pyright: ignore[reportArgumentType]  the default is a word
    )
    return dict(zip(("precision", "recall", "f1"), map(float, scores[:3])))


def _averages(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float | None]:
    """Averages of the binary scores themselves: scikit-learn's own averages differ for a single genre."""
    support = y_true.sum(axis=0)
    genres = [_binary(y_true[:, g], y_pred[:, g]) for g in np.flatnonzero(support)]
    films = _by_film(y_true, y_pred)
    averages = {}
    for name, micro in _binary(y_true.ravel(), y_pred.ravel()).items():
        of_genres = [scores[name] for scores in genres]
        averages[f"{name}_micro"] = micro
        averages[f"{name}_macro"] = _mean(of_genres)
        averages[f"{name}_weighted"] = _mean(of_genres, support[support > 0])
        averages[f"{name}_samples"] = float(np.mean(films[name]))
    return averages


def _by_film(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each film, (N,); 0 where one would divide by nothing."""
    right, said, there = (y_true & y_pred).sum(axis=1), y_pred.sum(axis=1), y_true.sum(axis=1)
    ratios = {"precision": (right, said), "recall": (right, there), "f1": (2 * right, said + there)}
    return {name: a / np.maximum(b, 1) for name, (a, b) in ratios.items()}


def _mean(values, weights=None) -> float | None:
    values = list(values)
    return float(np.average(values, weights=weights)) if values else None
