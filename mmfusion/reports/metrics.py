"""Scores of multi-label predictions, by scikit-learn; what cannot be scored is undefined, never 0."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sk

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
        precision, recall, candidates = sk.precision_recall_curve(y_true[:, genre], y_prob[:, genre])
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        thresholds[genre] = candidates[np.argmax(f1[:-1])]
    return thresholds


def overall(y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> dict:
    """All scores over all genres.

    A genre without a positive film counts in no macro average; a score that needs one and finds none
    is None.

    Args:
        y_true: (N, G) multi-hot.
        y_prob: (N, G) probabilities.
        thresholds: (G,) those tuned on validation films; 0.5 is used where there is none (NaN).

    Returns:
        `bce`, `ap_micro`, `ap_macro`, `lrap`, `roc_auc_macro`, and under `at_0.5` and `tuned` precision,
        recall and F1, each averaged micro, macro, weighted (by the genres' films) and over samples.
    """
    y_true = np.asarray(y_true).astype(int)
    y_prob = np.asarray(y_prob, np.float64)
    defined = np.flatnonzero(y_true.any(axis=0))
    two_sided = [genre for genre in defined if not y_true[:, genre].all()]
    return {
        "bce": float(np.mean(film_losses(y_true, y_prob))),
        "ap_micro": average_precision(y_true, y_prob) if defined.size else None,
        "ap_macro": _mean(average_precision(y_true[:, genre], y_prob[:, genre]) for genre in defined),
        "lrap": float(sk.label_ranking_average_precision_score(y_true, y_prob)),
        "roc_auc_macro": _mean(sk.roc_auc_score(y_true[:, g], y_prob[:, g]) for g in two_sided),
        "at_0.5": _averages(y_true, (y_prob > 0.5).astype(int)),
        "tuned": _averages(y_true, predicted(y_prob, thresholds)),
    }


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
    return float(sk.average_precision_score(truth, np.asarray(y_prob, np.float64).ravel()))


def film_losses(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of each film, in nats, averaged over genres: (N, G) -> (N,)."""
    p = np.clip(np.asarray(y_prob, np.float64), _CLIP, 1 - _CLIP)
    return -np.mean(np.where(np.asarray(y_true) > 0, np.log(p), np.log1p(-p)), axis=1)


def predicted(y_prob: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """1 where a genre's probability is at or above its threshold, or 0.5 where it has none (NaN); (N, G) int."""
    return (y_prob >= np.where(np.isnan(thresholds), 0.5, thresholds)).astype(int)


def _binary(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    scores = sk.precision_recall_fscore_support(truth, predicted, average="binary", zero_division=0)
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
