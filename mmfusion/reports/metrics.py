"""Scores of multi-label predictions, by scikit-learn; what cannot be scored is undefined, never 0."""

from collections.abc import Sequence

import numpy as np
from sklearn import metrics as sk

_CLIP = 1e-7  # a probability of exactly 0 or 1 would cost infinitely much


def tune_thresholds(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """For each genre the threshold with the best F1; 0.5 where the genre has no positive film.

    Args:
        y_true: (N, G) multi-hot of validation films.
        y_prob: (N, G) probabilities of the same films.

    Returns:
        (G,) float64; a genre is predicted where its probability is at or above its threshold.
    """
    thresholds = np.full(y_true.shape[1], 0.5)
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
        thresholds: (G,) those tuned on validation films.

    Returns:
        `bce`, `ap_micro`, `ap_macro`, `lrap`, `roc_auc_macro`, and under `at_0.5` and `tuned` the
        precision, recall and F1 averages.
    """
    y_true = np.asarray(y_true).astype(int)
    y_prob = np.asarray(y_prob, np.float64)
    defined = y_true.any(axis=0)
    two_sided = defined & ~y_true.all(axis=0)
    return {
        "bce": float(np.mean(film_losses(y_true, y_prob))),
        "ap_micro": float(sk.average_precision_score(y_true, y_prob, average="micro")) if defined.any() else None,
        "ap_macro": _mean(_average_precision(y_true, y_prob, genre) for genre in np.flatnonzero(defined)),
        "lrap": float(sk.label_ranking_average_precision_score(y_true, y_prob)),
        "roc_auc_macro": _mean(
            sk.roc_auc_score(y_true[:, genre], y_prob[:, genre]) for genre in np.flatnonzero(two_sided)
        ),
        "at_0.5": _at(y_true, y_prob > 0.5, defined),
        "tuned": _at(y_true, y_prob >= thresholds, defined),
    }


def by_genre(genres: Sequence[str], y_true: np.ndarray, y_prob: np.ndarray, thresholds: np.ndarray) -> list[dict]:
    """One row a genre; precision, recall and F1 are those at its tuned threshold.

    A genre without a positive film has a support of 0 and None for every score.
    """
    y_true = np.asarray(y_true).astype(int)
    predicted = (np.asarray(y_prob) >= thresholds).astype(int)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        y_true, predicted, average=None, labels=range(y_true.shape[1]), zero_division=0
    )
    rows = []
    for g, genre in enumerate(genres):
        scores = {
            "precision": float(precision[g]),
            "recall": float(recall[g]),
            "f1": float(f1[g]),
            "ap": _average_precision(y_true, y_prob, g) if support[g] else None,
            "threshold": float(thresholds[g]),
        }
        if not support[g]:
            scores = dict.fromkeys(scores)
        rows.append({"genre": genre, "support": int(support[g]), **scores})
    return rows


def film_losses(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Binary cross-entropy of each film, in nats, averaged over genres: (N, G) -> (N,)."""
    p = np.clip(np.asarray(y_prob, np.float64), _CLIP, 1 - _CLIP)
    return -np.mean(np.where(np.asarray(y_true) > 0, np.log(p), np.log1p(-p)), axis=1)


def _at(y_true, predicted, defined) -> dict:
    y_pred = predicted.astype(int)

    def scores(average, columns=slice(None)):
        precision, recall, f1, _ = sk.precision_recall_fscore_support(
            y_true[:, columns], y_pred[:, columns], average=average, zero_division=0
        )
        return float(precision), float(recall), float(f1)

    precision, recall, f1 = scores("micro")
    return {
        "precision_micro": precision,
        "recall_micro": recall,
        "f1_micro": f1,
        "f1_macro": scores("macro", defined)[2] if defined.any() else None,
        "f1_weighted": scores("weighted", defined)[2] if defined.any() else None,
        "f1_samples": scores("samples")[2],
    }


def _average_precision(y_true, y_prob, genre: int) -> float:
    return float(sk.average_precision_score(y_true[:, genre], y_prob[:, genre]))


def _mean(values) -> float | None:
    values = list(values)
    return float(np.mean(values)) if values else None
