"""Two models on the same films, of one seed or of several: gain, interval over films, paired test."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.evaluation import resampling
from mmfusion.evaluation.metrics import average_precision
from mmfusion.evaluation.resampling import Predicted

DRAWS = 1000  # bootstrap draws of the films
PERMUTATIONS = 1999
SEED = 0  # of draws and permutations
LEAST_P = 2 / (PERMUTATIONS + 1)  # of a two-sided test
MICRO = "ap_micro"


@dataclass(frozen=True)
class Gain:
    """Average precision of one model less another's, on the same films."""

    gain: float
    low: float
    high: float
    p: float
    p_holm: float | None = None  # corrected for the number of genres

    @property
    def verdict(self) -> str:
        """Verdict of these films: "better", "worse" or "" (nothing)."""
        p = self.p if self.p_holm is None else self.p_holm
        if p < 0.05 and self.gain > 0 and self.low > 0:  # an undefined interval is never beyond 0
            return "better"
        return "worse" if p < 0.05 and self.gain < 0 and self.high < 0 else ""


@dataclass(frozen=True)
class Comparison:
    """A model against the one that it should beat."""

    name: str
    over: str
    seeds: tuple[int, ...]  # that both have
    micro: Gain
    genres: dict[str, Gain]  # empty where only the whole is compared


def compare(
    name: str,
    over: str,
    ours: Mapping[int, Predicted],
    theirs: Mapping[int, Predicted],
    drawn: np.ndarray,
    *,
    genres: Sequence[str] = (),
    drawn_by_genre: np.ndarray | None = None,
) -> Comparison:
    """Compares average precision of two models.

    Args:
        name: of the first.
        over: of the second, which the first should beat.
        ours: the first's predictions, by seed.
        theirs: the second's, of the same films and seeds.
        drawn: (D,) differences of micro-AP under draws of the films.
        genres: G, to compare each of them too.
        drawn_by_genre: (D, G) differences of their average precision.
    """
    p_micro, p_genres = resampling.paired_p_values(
        list(ours.values()), list(theirs.values()), PERMUTATIONS, SEED, by_genre=bool(genres)
    )
    corrected = resampling.holm(p_genres)

    def gain(columns: slice, drawn: np.ndarray, p: float, p_holm: float | None = None) -> Gain:
        """In these genres; NaN where they have no positive film."""
        truths = [one.y_true[:, columns] for one in ours.values()]
        found = [
            average_precision(truth, ours[seed].y_prob[:, columns])
            - average_precision(truth, theirs[seed].y_prob[:, columns])
            for truth, seed in zip(truths, ours, strict=True)
            if truth.any()
        ]
        mean, films = statistics.fmean(found or [math.nan]), np.mean([truth.sum() for truth in truths])
        enough = films >= resampling.FEWEST
        low, high = resampling.interval(drawn, mean) if enough else (math.nan, math.nan)
        return Gain(mean, low, high, float(p), None if p_holm is None else float(p_holm))

    by_genre = {}
    for g, genre in enumerate(genres):
        assert drawn_by_genre is not None  # genres come with theirs
        found = gain(slice(g, g + 1), drawn_by_genre[:, g], p_genres[g], corrected[g])
        if not math.isnan(found.gain):
            by_genre[genre] = found
    return Comparison(name, over, tuple(ours), gain(slice(None), drawn, p_micro), by_genre)
