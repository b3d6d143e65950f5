"""From the runs' predictions to every number of the report: scores, gains, modalities' shares, cost."""

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from benchmarks.collect import Result, Results
from benchmarks.findings import Analysis, Brought, Model, Score
from benchmarks.robustness import without_modalities
from mmfusion.evaluation import calibration, metrics, resampling
from mmfusion.evaluation.comparison import DRAWS, MICRO, SEED, Comparison, compare
from mmfusion.evaluation.contributions import Contribution, contribution
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, SPLITS


def analyse(results: Results, left_out: Sequence[str] = ()) -> Analysis:
    """Scores everything.

    Args:
        results: as `collect` gives them.
        left_out: what it left out.
    """
    first = _first(next(iter(results.values())))
    by_seed = {result.seed: result for of_seed in results.values() for result in of_seed.values()}
    support = np.array([result.test.y_true.sum(axis=0) for result in by_seed.values()])  # (seeds, G)
    order = sorted(range(len(first.genres)), key=lambda g: -support[:, g].mean())
    predicted = _predicted(results)
    weights = resampling.draw_films(_films(predicted), DRAWS, SEED)
    draws = _draw(predicted, weights)
    fusions = _pairs(results, lambda one: one.modalities > 1, better_unimodal)
    further = _pairs(results, lambda one: one.modalities > 1, _with_fewer_modalities)
    networks = _pairs(results, lambda one: not one.is_baseline, _best_baseline)
    tasks = []
    for pair in (*fusions, *further, *networks):
        both = [(results[name], predicted[name], draws[name]) for name in pair]
        tasks.append(delayed(_compare)(pair, *both, by_genre=pair in fusions))
    tasks += [delayed(_model)(name, of_seed, draws[name]) for name, of_seed in results.items()]
    tasks += [delayed(_brought)(of_seed, predicted[name]) for name, of_seed in results.items()]
    found: list[Any] = list(Parallel(n_jobs=os.cpu_count())(tasks))
    count = len(fusions) + len(further) + len(networks)
    compared, models, brought = found[:count], found[count : -len(results)], found[-len(results) :]
    sizes = {split: [r.facts["films"][split] for r in by_seed.values()] for split in SPLITS}
    return Analysis(
        dataset=first.run.config.data.dataset,
        films=sizes,
        lacking=_lacking([result.run for result in by_seed.values()]),
        splits=len({result.facts["split"] for result in by_seed.values()}),
        split_seeds=tuple(sorted({result.split_seed for result in by_seed.values()})),
        genres=tuple(first.genres[g] for g in order),
        support={first.genres[g]: float(support[:, g].mean()) for g in order},
        sometimes=[first.genres[g] for g in order if support[:, g].any() and not support[:, g].all()],
        models=dict(zip(results, models, strict=True)),
        fusion=compared[: len(fusions)],
        further=compared[len(fusions) : len(fusions) + len(further)],
        baseline=compared[len(fusions) + len(further) :],
        brought=[one for one in brought if one],
        missing=without_modalities(results, predicted, weights),
        left_out=list(left_out),
    )


def _lacking(runs: Sequence[Run]) -> dict[str, list[int]]:
    found = []
    for run in runs:
        if run.hashes is None:  # of a version that kept none
            return {}
        splits = np.repeat(list(run.split), [len(ids) for ids in run.split.values()])
        found.append((run.hashes[splits == "test"] == 0).sum(axis=0))
    counts = zip((POSTER, OVERVIEW), np.transpose(found).tolist(), strict=True)
    return {modality: films for modality, films in counts if any(films)}


def better_unimodal(results: Results, name: str) -> str | None:
    """The model of one modality that a fusion has to beat.

    Networks for a network, and what is fitted on the features of the same presets; baselines for a baseline.
    """
    own, rivals = _first(results[name]), _fair_rivals(results, name)
    kind = [n for n, one in rivals.items() if one.is_baseline == own.is_baseline or one.presets]
    return _best(results, name, [n for n in kind if rivals[n].modalities == 1])


def _best_baseline(results: Results, name: str) -> str | None:
    return _best(results, name, [n for n, one in _fair_rivals(results, name).items() if one.is_baseline])


def _with_fewer_modalities(results: Results, name: str) -> str | None:
    own = _first(results[name])
    same = {n: one for n, one in _fair_rivals(results, name).items() if one.variant == own.variant}
    return _best(results, name, [n for n, one in same.items() if 1 < one.modalities < own.modalities])


def _fair_rivals(results: Results, name: str) -> dict[str, Result]:
    """Models that read no other modality, and have the same presets' features of it at hand.

    Over any others a gain would be that of another modality, or of pretraining.
    """
    own = _first(results[name])
    return {
        n: rival
        for n, rival in ((n, _first(of)) for n, of in results.items() if n != name)
        if set(rival.facts["reads"]) <= set(own.facts["reads"])
        and all(rival.presets.get(one) == own.presets.get(one) for one in rival.facts["reads"])
    }


def _best(results: Results, name: str, rivals: list[str]) -> str | None:
    """The rival with the best micro-AP on validation films, of the seeds that it shares with all the others."""
    rivals = [rival for rival in rivals if set(results[rival]) & set(results[name])]
    seeds = set(results[name]).intersection(*(results[rival] for rival in rivals))
    # Where runs are missing there may be no seed that all have.
    return max(rivals, key=lambda rival: _validation(results[rival], seeds or set(results[rival])), default=None)


def _validation(of_seed: dict[int, Result], seeds: set[int]) -> float:
    chosen = [of_seed[seed].validation for seed in sorted(seeds)]
    return statistics.fmean(metrics.average_precision(one.y_true, one.y_prob) for one in chosen)


def _first(of_seed: dict[int, Result]) -> Result:
    return next(iter(of_seed.values()))


def _pairs(results: Results, which: Callable, rival: Callable) -> list[tuple[str, str]]:
    """Models and what they should beat."""
    pairs = [(name, rival(results, name)) for name, of_seed in results.items() if which(_first(of_seed))]
    return [(name, over) for name, over in pairs if over]


def _predicted(results: Results) -> dict[str, dict[int, resampling.Predicted]]:
    """All test predictions; a film has one number in all seeds."""
    ids = sorted({film for of_seed in results.values() for r in of_seed.values() for film in r.test.ids})
    number = {film: i for i, film in enumerate(ids)}
    return {
        name: {
            seed: resampling.Predicted(
                np.array([number[film] for film in r.test.ids]), r.test.y_true, r.test.y_prob, r.thresholds
            )
            for seed, r in of_seed.items()
        }
        for name, of_seed in results.items()
    }


class _Draws:
    """Every score of one model's runs under draws of the films that are the same for all models."""

    def __init__(self, scored: dict[int, tuple]):
        self._scored = scored  # by seed, as `resampling.weighted_scores` gives them

    def score(self, seeds: Iterable[int], name: str) -> np.ndarray:
        """(D,) means over seeds."""
        return resampling.mean_over_seeds([self._scored[seed][0][name] for seed in seeds])

    def genres(self, seeds: Iterable[int]) -> np.ndarray:
        """(D, G) average precision, means over seeds."""
        return resampling.mean_over_seeds([self._scored[seed][1] for seed in seeds])

    def names(self) -> Sequence[str]:
        return list(next(iter(self._scored.values()))[0])


def _films(predicted: dict[str, dict[int, resampling.Predicted]]) -> int:
    """Counts them in all seeds together."""
    return 1 + max(int(p.films.max()) for of_seed in predicted.values() for p in of_seed.values())


def _draw(predicted: dict[str, dict[int, resampling.Predicted]], weights: np.ndarray) -> dict[str, _Draws]:
    keys = [(name, seed) for name, of_seed in predicted.items() for seed in of_seed]
    # Threads: almost all of this is NumPy on large arrays.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda key: resampling.weighted_scores(predicted[key[0]][key[1]], weights), keys)
    scored = dict(zip(keys, found, strict=True))
    return {name: _Draws({seed: scored[name, seed] for seed in of_seed}) for name, of_seed in predicted.items()}


def _model(name: str, of_seed: dict[int, Result], draws: _Draws) -> Model:
    overall, genres = {}, {}
    for seed, r in of_seed.items():
        scored = (r.test.y_true, r.test.y_prob)
        overall[seed] = metrics.scores(*scored, r.thresholds)
        genres[seed] = {row["genre"]: row for row in metrics.by_genre(r.genres, *scored, r.thresholds)}
    scores = {}
    for metric in next(iter(overall.values())):
        score = Score({seed: found[metric] for seed, found in overall.items()})
        if metric in draws.names():
            score = _interval(draws.score(of_seed, metric), score)
        scores[metric] = score
    scores |= {
        "parameters": Score({s: r.facts["parameters"] for s, r in of_seed.items()}),
        "train_seconds": Score({s: r.train_seconds for s, r in of_seed.items()}),
        **{name: Score({s: r.answers.get(name) for s, r in of_seed.items()}) for name in _first(of_seed).answers},
    }
    first, drawn = _first(of_seed), draws.genres(of_seed)
    films = np.mean([r.test.y_true.sum(axis=0) for r in of_seed.values()], axis=0)  # (G,)
    return Model(
        name=name,
        encoders=first.encoders,
        is_baseline=first.is_baseline,
        modalities=first.modalities,
        split_seeds={seed: result.split_seed for seed, result in of_seed.items()},
        scores=scores,
        genres={
            genre: _interval(drawn[:, g], Score({s: found[genre]["ap"] for s, found in genres.items()}), films[g])
            for g, genre in enumerate(first.genres)
        },
        f1={genre: Score({s: found[genre]["f1"] for s, found in genres.items()}) for genre in first.genres},
        reliability=calibration.reliability(
            np.concatenate([r.test.y_true for r in of_seed.values()]),
            np.concatenate([r.test.y_prob for r in of_seed.values()]),
        ),
    )


def _interval(draws: np.ndarray, score: Score, films: float = math.inf) -> Score:
    """The score with its interval; without one where it has too few positive films for it."""
    if score.mean is None or films < resampling.FEWEST:
        return score
    low, high = resampling.interval(draws, score.mean)
    return dataclasses.replace(score, low=low, high=high)


def _compare(names: tuple[str, str], first: tuple, second: tuple, *, by_genre: bool) -> Comparison:
    """The first against the second; of each its results, predictions and draws."""
    (ours, our_predictions, our_draws), (theirs, their_predictions, their_draws) = first, second
    seeds = tuple(seed for seed in ours if seed in theirs)
    return compare(
        *names,
        {seed: our_predictions[seed] for seed in seeds},
        {seed: their_predictions[seed] for seed in seeds},
        our_draws.score(seeds, MICRO) - their_draws.score(seeds, MICRO),
        genres=_first(ours).genres if by_genre else (),
        drawn_by_genre=our_draws.genres(seeds) - their_draws.genres(seeds) if by_genre else None,
    )


def _brought(of_seed: dict[int, Result], predicted: dict[int, resampling.Predicted]) -> Brought | None:
    """None for a model of one modality."""
    asked = {seed: (r.test, r.permuted) for seed, r in of_seed.items() if r.permuted}
    if not asked:
        return None

    def mean(columns: slice) -> Contribution:
        found = [
            contribution(test.y_true[:, columns], test.y_prob[:, columns], answers.of_genres(columns))
            for test, answers in asked.values()
        ]
        values = resampling.mean_over_seeds([np.array(list(one.flat().values())) for one in found])
        return found[0].with_values(values.tolist())

    films = np.mean([test.y_true.sum(axis=0) for test, _ in asked.values()], axis=0)  # (G,)
    genres = {
        genre: mean(slice(g, g + 1))
        for g, genre in enumerate(_first(of_seed).genres)
        if films[g] >= resampling.FEWEST
    }
    micro = mean(slice(None))
    weights = resampling.draw_films(1 + max(int(one.films.max()) for one in predicted.values()), DRAWS, SEED)
    drawn = []
    for seed, (test, answers) in asked.items():
        of_films = weights[:, predicted[seed].films[answers.paired]]
        whole, additive = (
            resampling.weighted_average_precision(test.y_true[answers.paired], said, of_films)
            for said in (answers.whole, answers.additive)
        )
        drawn.append(whole - additive)
    interval = resampling.interval(resampling.mean_over_seeds(drawn), micro.whole - micro.additive)
    return Brought(_first(of_seed).name, micro, genres, len(next(iter(asked.values()))[1].paired), interval)
