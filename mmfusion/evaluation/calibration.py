"""Calibration: reliability bins, expected calibration error, Brier score."""

from dataclasses import dataclass

import numpy as np

BINS = 15  # of equal width, as in Guo et al. 2017


@dataclass(frozen=True)
class Reliability:
    """The bins that hold predictions, each of one film and one genre."""

    predicted: np.ndarray  # mean probability
    observed: np.ndarray  # share that is true
    count: np.ndarray


def reliability(y_true: np.ndarray, y_prob: np.ndarray) -> Reliability:
    """All predictions (N, G), sorted into bins by their probability."""
    from sklearn.calibration import calibration_curve

    truth, probability = np.asarray(y_true).ravel() > 0, np.clip(np.asarray(y_prob, np.float64).ravel(), 0, 1)
    observed, predicted = calibration_curve(truth, probability, n_bins=BINS)
    edges = np.linspace(0, 1, BINS + 1)
    count = np.bincount(np.searchsorted(edges[1:-1], probability), minlength=BINS)  # as calibration_curve has them
    return Reliability(predicted, observed, count[count > 0])


def expected_calibration_error(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    """Computes how far probabilities (N, G) are from shares, on average over predictions (Guo et al. 2017)."""
    found = reliability(y_true, y_prob)
    return float(np.average(np.abs(found.observed - found.predicted), weights=found.count))


def brier_score(y_true: np.ndarray, y_prob: np.ndarray) -> float:
    """Mean squared error of the probabilities (N, G)."""
    from sklearn.metrics import brier_score_loss

    return float(brier_score_loss(np.asarray(y_true).ravel() > 0, np.clip(np.asarray(y_prob).ravel(), 0, 1)))
