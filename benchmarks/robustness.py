"""Micro-AP of every network where some test films have no poster, or no overview, beside the models of one."""

import os
import statistics
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.collect import Result, Results
from benchmarks.findings import Margin, Missing, Score
from benchmarks.missing import SHARES, is_missing
from mmfusion.reports import metrics, resampling
from mmfusion.schema import MODALITIES, POSTER

_Key = tuple[str, int, str, float]  # name, seed, which modality is missing, the share of films that miss it


def without_modalities(
    results: Results, predicted: Mapping[str, Mapping[int, resampling.Predicted]], weights: np.ndarray
) -> list[Missing]:
    """Scores every network that was asked, and compares fusions with what is left.

    Args:
        results: of all models; baselines and those that were not asked are left out.
        predicted: their test predictions, by name and seed.
        weights: bootstrap draws (D, F) of all films.

    Returns:
        One for posters and one for overviews; none where no network was asked.
    """
    asked = {name: {s: r for s, r in of.items() if r.without is not None} for name, of in results.items()}
    asked = {name: of_seed for name, of_seed in asked.items() if of_seed}
    keys = [
        (name, seed, modality, share)
        for name, of_seed in asked.items()
        for seed, result in of_seed.items()
        for modality in MODALITIES
        for share in (SHARES if modality in result.without else (0.0,))
    ]

    def drawn(key: _Key) -> np.ndarray:
        name, seed, modality, share = key
        films = predicted[name][seed].films
        said = _probabilities(asked[name][seed], modality, share)
        return resampling.weighted_average_precision(asked[name][seed].test.y_true, said, weights[:, films])

    # Threads: almost all of this is NumPy on large arrays.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        draws = dict(zip(keys, pool.map(drawn, keys), strict=True))
    return [_missing(asked, modality, draws) for modality in MODALITIES] if asked else []


def _missing(asked: Results, modality: str, draws: dict[_Key, np.ndarray]) -> Missing:
    def score(name: str, share: float) -> Score:
        truths = {seed: (r.test.y_true, _probabilities(r, modality, share)) for seed, r in asked[name].items()}
        return Score({seed: metrics.average_precision(*one) for seed, one in truths.items()})

    scores = {name: [score(name, share) for share in SHARES] for name in asked}

    def margin(name: str, place: int) -> Margin | None:
        rivals = [one for one in _floor(asked, modality) if set(asked[one]) & set(asked[name])]
        if not rivals:
            return None

        def difference(over: str) -> float:
            ours, theirs = scores[name][place].by_seed, scores[over][place].by_seed
            return statistics.fmean(ours[seed] - theirs[seed] for seed in ours if seed in theirs)

        over = min(rivals, key=difference)
        found = [
            _of(draws, name, seed, modality, place) - _of(draws, over, seed, modality, place)
            for seed in asked[name]
            if seed in asked[over]
        ]
        low, high = resampling.interval(resampling.mean_over_seeds(found), difference(over))
        return Margin(over, difference(over), low, high)

    fusions = [name for name, of_seed in asked.items() if next(iter(of_seed.values())).modalities == 2]
    margins = {name: [margin(name, place) for place in range(len(SHARES))] for name in fusions}
    floor = [
        max((scores[name][place].mean for name in _floor(asked, modality)), default=None)
        for place in range(len(SHARES))
    ]
    return Missing(modality, scores, floor, {name: found for name, found in margins.items() if None not in found})


def _floor(asked: Results, modality: str) -> list[str]:
    """The models of one modality that a fusion is held against; where posters are missing, those of overviews."""
    reads = {name: next(iter(of_seed.values())).facts["reads"] for name, of_seed in asked.items()}
    return [name for name, read in reads.items() if len(read) == 1 and not (modality == POSTER and POSTER in read)]


def _of(draws: dict[_Key, np.ndarray], name: str, seed: int, modality: str, place: int) -> np.ndarray:
    """Its scores under the draws; those of a network that does not read the modality are always the same."""
    return draws.get((name, seed, modality, SHARES[place]), draws[name, seed, modality, 0.0])


def _probabilities(result: Result, modality: str, share: float) -> np.ndarray:
    """What it says of the test films where a share of them misses a modality, (N, G)."""
    if modality not in result.without:
        return result.test.y_prob
    gone = is_missing(result.test.ids, share)
    return np.where(gone[:, None], result.without[modality], result.test.y_prob)
