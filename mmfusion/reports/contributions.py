"""What each modality contributes to a model that reads both, from what it says when they are exchanged."""

from dataclasses import dataclass

import numpy as np

from mmfusion.reports.metrics import average_precision


@dataclass(frozen=True)
class Exchanged:
    """Probabilities of a run's N test films, in their order, with modalities of other films."""

    poster_exchanged: np.ndarray  # (K, N, G): K orders of the posters
    overview_exchanged: np.ndarray  # (K, N, G)
    both_exchanged: np.ndarray  # (K, N, G), each modality in an order of its own
    paired: np.ndarray  # (M,) which of the N films EMAP was computed for
    whole: np.ndarray  # (M, G) what the model says of them
    additive: np.ndarray  # (M, G) what its additive approximation says of them

    def of_genres(self, columns: slice) -> "Exchanged":
        """The same with some genres only."""
        return Exchanged(**{name: v if name == "paired" else v[..., columns] for name, v in vars(self).items()})


@dataclass(frozen=True)
class Contribution:
    """What poster and overview bring, in average precision; NaN where nothing can be scored."""

    poster_perceptual: float  # lost when posters are exchanged, as a share of the model's average precision
    overview_perceptual: float
    poster_shapley: float  # the two add up to the model's average precision less that of exchanged films
    overview_shapley: float
    whole: float  # of the model on the films of EMAP
    additive: float  # of its additive approximation there: the same where it uses no interaction


def additive_approximation(square: np.ndarray, *, of_probabilities: bool) -> tuple[np.ndarray, np.ndarray]:
    """EMAP (Hessel and Lee 2020): the best approximation of a model by f(poster) + g(overview).

    Args:
        square: (M, M, G) logits of every overview (first axis) beside every poster (second).
        of_probabilities: approximate the probabilities instead of the logits.

    Returns:
        Of the M films themselves, the model's probabilities (M, G) and the approximation's; those of an
        approximation of probabilities may lie a little outside [0, 1].
    """
    logits = np.asarray(square, np.float64)
    values = _sigmoid(logits) if of_probabilities else logits
    additive = values.mean(axis=0) + values.mean(axis=1) - values.mean(axis=(0, 1))
    films = np.arange(len(values))
    return _sigmoid(logits[films, films]), additive if of_probabilities else _sigmoid(additive)


def contribution(y_true: np.ndarray, y_prob: np.ndarray, exchanged: Exchanged) -> Contribution:
    """Perceptual scores (Gat et al. 2021), the exact Shapley values of two players, and EMAP.

    A modality that takes no part is one whose films are exchanged, averaged over the orders. Pass one
    genre's column for what they bring to that genre.

    Args:
        y_true: (N, G) multi-hot.
        y_prob: (N, G) what the model says of the films as they are.
        exchanged: what it says otherwise.
    """
    both = average_precision(y_true, y_prob)
    overview, poster, neither = (
        float(np.mean([average_precision(y_true, one) for one in kept]))
        for kept in (exchanged.poster_exchanged, exchanged.overview_exchanged, exchanged.both_exchanged)
    )
    truth = np.asarray(y_true)[exchanged.paired]
    return Contribution(
        poster_perceptual=(both - overview) / both,
        overview_perceptual=(both - poster) / both,
        poster_shapley=((poster - neither) + (both - overview)) / 2,
        overview_shapley=((overview - neither) + (both - poster)) / 2,
        whole=average_precision(truth, exchanged.whole),
        additive=average_precision(truth, exchanged.additive),
    )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
