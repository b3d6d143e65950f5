"""Contributions of modalities to a model that reads several, from its predictions where they are permuted."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.evaluation.metrics import average_precision


@dataclass(frozen=True)
class PermutedPredictions:
    """Probabilities of a run's N test films, in their order, with modalities of other films."""

    permuted: Mapping[tuple[str, ...], np.ndarray]  # by the modalities that are of others (K, N, G): K orders
    paired: np.ndarray  # (F,) which of the N films EMAP was computed for
    whole: np.ndarray  # (F, G) what the model says of them
    additive: np.ndarray  # (F, G) what its additive approximation says of them

    def of_genres(self, columns: slice) -> "PermutedPredictions":
        """The same with some genres only."""
        permuted = {names: values[..., columns] for names, values in self.permuted.items()}
        return PermutedPredictions(permuted, self.paired, self.whole[:, columns], self.additive[:, columns])


@dataclass(frozen=True)
class Contribution:
    """Contribution of each modality, in average precision; NaN where nothing can be scored."""

    perceptual: Mapping[str, float]  # lost when the modality is permuted, as a share of the average precision
    shapley: Mapping[str, float]  # they add up to the average precision less that of permuted films
    whole: float  # of the model on the films of EMAP
    additive: float  # of its additive approximation there: the same where it uses no interaction

    def flat(self) -> dict[str, float]:
        """All of it by name, as in `modalities.csv`."""
        perceptual = {f"{name}_perceptual": value for name, value in self.perceptual.items()}
        shapley = {f"{name}_shapley": value for name, value in self.shapley.items()}
        return {**perceptual, **shapley, "whole": self.whole, "additive": self.additive}

    def with_values(self, values: Sequence[float]) -> "Contribution":
        """The same with other numbers, in the order of `flat`."""
        count, names = len(self.shapley), list(self.shapley)
        perceptual, shapley = (dict(zip(names, values[at : at + count], strict=True)) for at in (0, count))
        return Contribution(perceptual, shapley, *values[2 * count :])


def coalitions(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Lists the sets of modalities that may be permuted: every one but the empty."""
    return [some for size in range(1, len(modalities) + 1) for some in itertools.combinations(modalities, size)]


def additive_approximation(
    effects: Sequence[np.ndarray], films: np.ndarray, *, of_probabilities: bool
) -> tuple[np.ndarray, np.ndarray]:
    """EMAP (Hessel and Lee 2020): a model's best approximation by a sum of functions of one modality each.

    Args:
        effects: for each of M modalities logits (F, J, G) of F films' own beside the others of J films.
        films: (F, G) logits of the F films themselves.
        of_probabilities: approximate the probabilities instead of the logits.

    Returns:
        Of the F films, the model's probabilities (F, G) and the approximation's; those of an approximation of
        probabilities may lie a little outside [0, 1].
    """
    values = [np.asarray(effect, np.float64) for effect in effects]
    values = [_sigmoid(one) for one in values] if of_probabilities else values
    mean = np.mean([one.mean(axis=(0, 1)) for one in values], axis=0)  # (G,)
    additive = sum(one.mean(axis=1) for one in values) - (len(values) - 1) * mean
    return _sigmoid(films), additive if of_probabilities else _sigmoid(additive)


def contribution(y_true: np.ndarray, y_prob: np.ndarray, found: PermutedPredictions) -> Contribution:
    """Perceptual scores (Gat et al. 2021), exact Shapley values (Shapley 1953), and EMAP.

    A modality that takes no part is one that is permuted among the films, averaged over the orders. Pass one
    genre's column for what they bring to that genre.

    Args:
        y_true: (N, G) multi-hot.
        y_prob: (N, G) what the model says of the films as they are.
        found: what it says otherwise.
    """
    modalities = max(found.permuted, key=len)
    # Average precision by the modalities that are the films' own.
    worth = {frozenset(modalities): average_precision(y_true, y_prob)}
    for names, orders in found.permuted.items():
        mean = float(np.mean([average_precision(y_true, one) for one in orders]))
        worth[frozenset(modalities) - frozenset(names)] = mean
    everything = frozenset(modalities)
    truth = np.asarray(y_true)[found.paired]
    return Contribution(
        perceptual={one: (worth[everything] - worth[everything - {one}]) / worth[everything] for one in modalities},
        shapley={one: _shapley(one, worth) for one in modalities},
        whole=average_precision(truth, found.whole),
        additive=average_precision(truth, found.additive),
    )


def _shapley(one: str, worth: Mapping[frozenset, float]) -> float:
    count = max(map(len, worth))
    value = 0.0
    for others in sorted((names for names in worth if one not in names), key=len):
        share = math.factorial(len(others)) * math.factorial(count - len(others) - 1) / math.factorial(count)
        value += share * (worth[others | {one}] - worth[others])
    return value


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
