"""Resampling of films: scores under bootstrap draws, intervals, paired permutation tests.

A draw is a row of weights, how often each film is in it. All scores are computed for many draws at
once, and all models on the same draws, so that differences between models are paired.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata
from statsmodels.stats.multitest import multipletests

from mmfusion.evaluation.metrics import METRICS, film_losses, predicted

FEWEST = 20  # positive films of a genre; with fewer, 95% intervals of its average precision hold less often
_CELLS = 500_000  # numbers of one intermediate array; more films mean fewer draws at a time
_BLOCK = 20_000_000  # films times draws whose weights are numbers of eight bytes at a time


@dataclass(frozen=True)
class Predicted:
    """Predictions of one model for one test split."""

    films: np.ndarray  # (N,) numbers of the films; a film has the same number in every seed
    y_true: np.ndarray  # (N, G) multi-hot
    y_prob: np.ndarray  # (N, G) probabilities
    thresholds: np.ndarray  # (G,) tuned on validation films; NaN where undefined


def draw_films(films: int, draws: int, seed: int) -> np.ndarray:
    """Bootstrap draws with replacement (Efron 1979): how often each film was drawn, uint8 (draws, films).

    That one of many films is drawn more than 255 times has a probability of less than 1 in 10**500.
    """
    rng, shares = np.random.default_rng(seed), np.full(films, 1 / films)
    return np.concatenate(
        [
            rng.multinomial(films, shares, len(some)).astype(np.uint8)
            for some in _chunks(np.arange(draws), films, _CELLS)
        ]
    )


def weighted_scores(found: Predicted, draws: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """All scores of `METRICS` that have an interval, under each draw.

    Args:
        found: a model's predictions.
        draws: (D, F) weights of all films; those of `found.films` are used.

    Returns:
        By name the scores (D,), and the genres' average precision (D, G); NaN where
        a draw leaves nothing to score.
    """
    blocks = [_weighted_scores(found, some) for some in _chunks(draws, len(found.films), _BLOCK)]
    scores, ap = zip(*blocks)
    return {name: np.concatenate([of[name] for of in scores]) for name in scores[0]}, np.concatenate(ap)


def _weighted_scores(found: Predicted, draws: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    y_true, y_prob = np.asarray(found.y_true) > 0, np.asarray(found.y_prob, np.float64)
    counts = draws[:, found.films].astype(np.int32)
    weights = counts.astype(np.float64)
    each = np.arange(len(y_true))
    by_genre = [_ranked_scores(y_true[:, g], y_prob[:, g], each, counts) for g in range(y_true.shape[1])]
    ap, auc = (np.stack(columns, axis=1) for columns in zip(*by_genre))  # each (D, G)
    total = weights.sum(axis=1)
    scores = {
        "bce": _ratio(weights @ film_losses(y_true, y_prob), total),
        "ap_micro": weighted_average_precision(y_true, y_prob, counts),
        "ap_macro": _mean(ap),
        "lrap": _ratio(weights @ _film_lrap(y_true, y_prob), total),
        "roc_auc_macro": _mean(auc),
    }
    for at, said in (("at_0.5", y_prob > 0.5), ("tuned", predicted(y_prob, found.thresholds) > 0)):
        scores |= {f"{at}.{name}": values for name, values in _f1_scores(y_true, said, weights).items()}
    scores |= {one.name: one.resampled(y_true, y_prob, counts) for one in METRICS if one.resampled}
    return scores, ap


def mean_over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """Of arrays of one shape, one a seed, the mean of those that are defined; NaN where none is."""
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    total = np.where(defined, stacked, 0).sum(axis=0)
    return np.divide(total, defined.sum(axis=0), out=np.full_like(total, np.nan), where=defined.any(axis=0))


def interval(draws: np.ndarray, score: float, level: float = 0.95) -> tuple[float, float]:
    """The interval of a score's mean over test sets of this size, from its bootstrap draws.

    It is the draws' percentile interval, moved so that their mean is the score: a draw repeats films, which
    flatters average precision where positive films are few, and the more so the fewer there are.

    Args:
        draws: (D,); those without a score (NaN) are left out.
        score: of the films themselves.
        level: share of test sets for which it should hold.

    Returns:
        Both ends; NaN where nothing was drawn.
    """
    drawn = draws[np.isfinite(draws)]
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean() + score
    return float(low), float(high)


def weighted_average_precision(y_true: np.ndarray, y_prob: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """`metrics.average_precision` of predictions (N, G) under each draw of the films (D, N): (D,)."""
    truth, films = np.asarray(y_true) > 0, np.repeat(np.arange(len(y_true)), y_true.shape[1])
    score = np.asarray(y_prob, np.float64).ravel()
    return _ranked_scores(truth.ravel(), score, films, draws)[0]


def paired_p_values(
    first: Sequence[Predicted], second: Sequence[Predicted], permutations: int, seed: int, *, by_genre: bool = True
) -> tuple[float, np.ndarray]:
    """Paired permutation tests of two models' average precision, two-sided.

    Under the null hypothesis it does not matter which model ranked a film's predictions where; so the two
    models' ranks are swapped film by film, in all seeds together.

    Args:
        first: a model's predictions, one for each seed.
        second: another one's, of the same films.
        permutations: how many random swaps are compared with what was found.
        seed: of the swaps.
        by_genre: also test each genre, which takes about as long again.

    Returns:
        The p-value for micro-AP, and those of the genres (G,): NaN where a genre has fewer than `FEWEST`
        positive films a seed.
    """
    count = 1 + max(int(one.films.max()) for one in first)
    films = np.arange(count)
    pooled = [_Pooled(one, other) for one, other in zip(first, second, strict=True)]

    def p_value(genre: int | None) -> float:
        rankings = [ranking for pair in pooled if (ranking := pair.ranking(genre)) is not None]
        if not rankings:
            return float("nan")
        if count == 1:  # to swap it changes the sign of the gain and no more
            return 1.0

        def gain(kept, _, axis):  # a film's own number where its two predictions are not swapped
            kept = np.atleast_2d(kept) < count
            chunks = _chunks(kept, max(ranking.truth.size for ranking in rankings), _CELLS)
            gains = [np.mean([ranking.gain(chunk) for ranking in rankings], axis=0) for chunk in chunks]
            return np.concatenate(gains)

        found = permutation_test(
            (films, films + count),
            gain,
            permutation_type="samples",
            vectorized=True,
            n_resamples=permutations,
            batch=max(1, _BLOCK // 4 // count),  # SciPy has eight arrays of them at a time
            rng=np.random.default_rng(seed),
        )
        return float(found.pvalue)

    positives = np.mean([np.sum(one.y_true, axis=0) for one in first], axis=0)  # (G,)
    genres = enumerate(positives if by_genre else ())
    return p_value(None), np.array([p_value(g) if found >= FEWEST else np.nan for g, found in genres])


def holm(p_values: np.ndarray) -> np.ndarray:
    """P-values (G,) corrected for their number (Holm 1979); undefined ones (NaN) stay and do not count."""
    corrected, defined = np.full_like(p_values, np.nan), ~np.isnan(p_values)
    if defined.any():
        corrected[defined] = multipletests(p_values[defined], method="holm")[1]
    return corrected


def _chunks(draws: np.ndarray, width: int, cells: int) -> Iterator[np.ndarray]:
    step = max(1, cells // width)
    for start in range(0, len(draws), step):
        yield draws[start : start + step]


class _Ranking:
    """Predictions in the order of their score: where the true ones are, and how far equal scores reach."""

    def __init__(self, truth: np.ndarray, score: np.ndarray):
        self.order = np.argsort(-score, kind="stable")
        self.positives = np.flatnonzero(truth[self.order])  # (P,)
        ends = np.append(np.flatnonzero(np.diff(score[self.order])), len(score) - 1)  # of groups of equal scores
        group = np.searchsorted(ends, self.positives)
        self._end, self._before = ends[group], np.append(-1, ends)[group]  # of the group, and of the one before

    def counts(self, weight: np.ndarray) -> tuple[np.ndarray, ...]:
        """For each true prediction: its weight, and those of hits and of all, down to its group and before it.

        Args:
            weight: int (D, M), in the order of the ranking.

        Returns:
            (D, P) each: weight, hits and all predictions down to the end of the group, and both before it.
        """
        said = np.cumsum(weight, axis=1, dtype=np.int32)
        own = weight[:, self.positives]
        hits = np.cumsum(own, axis=1, dtype=np.int32)
        below, above = (np.searchsorted(self.positives, place, "right") - 1 for place in (self._end, self._before))
        return own, hits[:, below], said[:, self._end], _or_zero(hits, above), _or_zero(said, self._before)


def _or_zero(cumulated: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`cumulated[:, places]`, and 0 where a place is -1: before the first."""
    return np.where(places >= 0, cumulated[:, places], 0)


def _ranked_scores(truth, score, film, weights) -> tuple[np.ndarray, np.ndarray]:
    """Average precision and area under the ROC curve of one ranking, under each draw.

    Args:
        truth: bool (M,).
        score: (M,).
        film: int (M,), whose weight a prediction has.
        weights: whole numbers (D, N).

    Returns:
        (D,) each; NaN where there is nothing to find, or nothing to tell it from.
    """
    ranking = _Ranking(truth, score)
    place = film[ranking.order]
    found = [
        _scores_of(ranking, chunk.astype(np.int32)[:, place]) for chunk in _chunks(weights, len(truth), _CELLS)
    ]
    precision, auc = (np.concatenate(parts) for parts in zip(*found))
    return precision, auc


def _scores_of(ranking: _Ranking, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    own, hits, said, hits_before, said_before = ranking.counts(weight)
    positive = own.sum(axis=1, dtype=np.float64)
    negative = weight.sum(axis=1) - positive
    precision = np.divide(hits, said, out=np.zeros(hits.shape), where=said > 0)
    # Of the negatives the share that is ranked lower; those of the same score count one half.
    lower = negative[:, None] - ((said - hits) + (said_before - hits_before)) / 2
    return (
        _ratio((own * precision).sum(axis=1), positive),
        _ratio((own * lower).sum(axis=1), positive * negative),
    )


def _film_lrap(y_true: np.ndarray, y_prob: np.ndarray) -> np.ndarray:
    """Label ranking average precision of each film, (N,); 1 where no genre or every one is true."""
    above = y_prob[:, None, :] >= y_prob[:, :, None]  # (N, G, G): the second genre is ranked no lower
    ratio = (above & y_true[:, None, :]).sum(axis=2) / above.sum(axis=2)  # (N, G)
    positives = y_true.sum(axis=1)
    lrap = np.sum(ratio * y_true, axis=1) / np.maximum(positives, 1)
    return np.where((positives == 0) | (positives == y_true.shape[1]), 1.0, lrap)


def _f1_scores(y_true: np.ndarray, said: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The averages of F1, (D,) each; not the macro average, whose 95% intervals held in 92% of simulations."""
    total = weights.sum(axis=1)
    support, claimed, right = (
        weights @ part.astype(np.float64) for part in (y_true, said, y_true & said)
    )  # (D, G)
    f1 = np.where(support > 0, 2 * right / np.maximum(support + claimed, 1e-300), np.nan)
    by_film = 2 * (y_true & said).sum(axis=1) / np.maximum(y_true.sum(axis=1) + said.sum(axis=1), 1)
    return {
        # As in scikit-learn 0 where nothing is true and nothing said, but undefined where no film is drawn.
        "f1_micro": np.where(
            total > 0, _ratio(2 * right.sum(axis=1), (support + claimed).sum(axis=1), empty=0.0), np.nan
        ),
        "f1_weighted": _ratio(np.nansum(f1 * support, axis=1), support.sum(axis=1)),
        "f1_samples": _ratio(weights @ by_film, total),
    }


def _mean(values: np.ndarray) -> np.ndarray:
    """Over the genres that are defined in a draw: (D, G) -> (D,)."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1))


def _ratio(above: np.ndarray, below: np.ndarray, empty: float = np.nan) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), empty), where=below > 0)


class _Pooled:
    """Two models' predictions of the same films, to be swapped film by film."""

    def __init__(self, first: Predicted, second: Predicted):
        if not np.array_equal(first.films, second.films):
            raise ValueError("the two models were not scored on the same films")
        self._first, self._second = first, second

    def ranking(self, genre: int | None) -> "_PooledRanking | None":
        """All predictions (or those of one genre) of both in one order; None where nothing is true."""
        one, other = self._first, self._second
        column = slice(None) if genre is None else slice(genre, genre + 1)
        truth = np.asarray(one.y_true[:, column]) > 0
        if not truth.any():
            return None
        films = np.repeat(one.films, truth.shape[1])
        # Ranks, since models say the same with probabilities of different scales, which must not be mixed.
        scores = [rankdata(side.y_prob[:, column]).ravel() for side in (one, other)]
        return _PooledRanking(films, truth.ravel(), *scores)


class _PooledRanking:
    """One order for all swaps: they only decide which of a film's two predictions belongs to which model."""

    def __init__(self, films: np.ndarray, truth: np.ndarray, first: np.ndarray, second: np.ndarray):
        self.truth = np.tile(truth, 2)
        self._ranking = _Ranking(self.truth, np.concatenate([first, second]))
        order = self._ranking.order
        self._film = np.tile(films, 2)[order]
        self._is_first = order < len(first)
        _, self._hits, self._said, _, _ = self._ranking.counts(np.ones((1, len(order)), bool))  # of both models

    def gain(self, kept: np.ndarray) -> np.ndarray:
        """Average precision of the first model less the second's, (D,), with kept (D, F) False where swapped."""
        first = kept[:, self._film] == self._is_first  # (D, 2 M)
        own, hits, said, _, _ = self._ranking.counts(first)
        precisions = np.divide(hits, said, out=np.zeros(hits.shape), where=own)
        others = np.divide(self._hits - hits, self._said - said, out=np.zeros(hits.shape), where=~own)
        return (precisions - others).sum(axis=1) / (len(self._hits[0]) / 2)  # each model has half of them
