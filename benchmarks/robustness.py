"""Micro-AP of every network where test films lack their poster, or overview, beside what does without fusion."""

import os
import statistics
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.collect import Result, Results
from benchmarks.findings import Margin, Missing, Score
from benchmarks.missing import SHARES, is_missing
from mmfusion.evaluation import metrics, resampling
from mmfusion.schema import MODALITIES, POSTER

# By seed, what a system says of the test films (N, G) where a share of them misses the modality.
_System = dict[int, Callable[[float], np.ndarray]]
_Key = tuple[str, int, float]  # system, seed, share


def without_modalities(
    results: Results, predicted: Mapping[str, Mapping[int, resampling.Predicted]], weights: np.ndarray
) -> list[Missing]:
    """Scores every network that was asked, and compares fusions with what is left.

    Args:
        results: of all models; baselines and those that were not asked are left out.
        predicted: their test predictions, by name and seed.
        weights: bootstrap draws (D, F) of all films.

    Returns:
        One for each modality that some network reads; none where no network was asked.
    """
    asked = {name: {s: r for s, r in of.items() if r.without is not None} for name, of in results.items()}
    asked = {name: of_seed for name, of_seed in asked.items() if of_seed}
    films = {
        seed: one for of_seed in predicted.values() for seed, one in of_seed.items()
    }  # all models have the same
    read = {modality for of_seed in asked.values() for modality in _first(of_seed).facts["reads"]}
    return [_missing(asked, modality, films, weights) for modality in MODALITIES if modality in read]


def _missing(
    asked: Results, modality: str, films: Mapping[int, resampling.Predicted], weights: np.ndarray
) -> Missing:
    networks = {name: _network(of_seed, modality) for name, of_seed in asked.items()}
    switches = _switches(asked, modality)
    systems = networks | switches
    single = [name for name, of_seed in asked.items() if len(_first(of_seed).facts["reads"]) == 1]
    # Without their posters, those that read posters are no rivals.
    floor = [name for name in single if not (modality == POSTER and POSTER in _first(asked[name]).facts["reads"])]
    rivals = [*floor, *switches]

    def said(key: _Key) -> np.ndarray:
        name, seed, share = key
        return systems[name][seed](share)

    def drawn(key: _Key) -> np.ndarray:
        truth = films[key[1]]
        return resampling.weighted_average_precision(truth.y_true, said(key), weights[:, truth.films])

    keys = [(name, seed, share) for name, system in systems.items() for seed in system for share in SHARES]
    points = {key: metrics.average_precision(films[key[1]].y_true, said(key)) for key in keys}
    # Threads: almost all of this is NumPy on large arrays.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        draws = dict(zip(keys, pool.map(drawn, keys), strict=True))
    scores = {
        name: [Score({seed: points[name, seed, share] for seed in system}) for share in SHARES]
        for name, system in systems.items()
    }

    def margin(name: str, share: float) -> Margin:
        shared = {over: [seed for seed in systems[name] if seed in systems[over]] for over in rivals}

        def difference(over: str) -> float:
            return statistics.fmean(points[name, s, share] - points[over, s, share] for s in shared[over])

        over = min((over for over in rivals if shared[over]), key=difference)
        found = [draws[name, seed, share] - draws[over, seed, share] for seed in shared[over]]
        low, high = resampling.interval(resampling.mean_over_seeds(found), difference(over))
        return Margin(over, difference(over), low, high)

    fusions = [name for name, of_seed in asked.items() if _first(of_seed).modalities > 1]
    fusions = [name for name in fusions if any(set(systems[name]) & set(systems[over]) for over in rivals)]
    margins = {name: [margin(name, share) for share in SHARES] for name in fusions}
    means = [[scores[name][place].mean for name in rivals] for place in range(len(SHARES))]
    best = [max((mean for mean in of if mean is not None), default=None) for of in means]
    return Missing(modality, scores, best, margins)


def _first(of_seed: Mapping[int, Result]) -> Result:
    return next(iter(of_seed.values()))


def _network(of_seed: Mapping[int, Result], modality: str) -> _System:
    def says(result: Result) -> Callable[[float], np.ndarray]:
        otherwise = (result.without or {}).get(modality, result.test.y_prob)
        return lambda share: _switched(result, otherwise, share)

    return {seed: says(result) for seed, result in of_seed.items()}


def _switches(asked: Results, modality: str) -> dict[str, _System]:
    """The model of one modality where a film has it, else that of the other one: no fusion, and no training."""

    def says(result: Result, other: Result) -> Callable[[float], np.ndarray]:
        return lambda share: _switched(result, other.test.y_prob, share)

    of = {name: _first(of_seed).facts["reads"] for name, of_seed in asked.items()}
    return {
        f"{name}, else {other}": {
            seed: says(result, asked[other][seed]) for seed, result in asked[name].items() if seed in asked[other]
        }
        for name, reads in of.items()
        for other, others in of.items()
        if reads == [modality] and len(others) == 1 and others != reads and set(asked[name]) & set(asked[other])
    }


def _switched(result: Result, otherwise: np.ndarray, share: float) -> np.ndarray:
    """Probabilities (N, G) of a model, and `otherwise` for films that miss the modality."""
    return np.where(is_missing(result.test.ids, share)[:, None], otherwise, result.test.y_prob)
