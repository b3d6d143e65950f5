"""Every number of the benchmark's report, as plain data: `benchmarks.analysis` fills it."""

import statistics
from dataclasses import dataclass

from mmfusion.evaluation.calibration import Reliability
from mmfusion.evaluation.comparison import LEAST_P, Comparison
from mmfusion.evaluation.contributions import Contribution


@dataclass(frozen=True)
class Score:
    """One score of one model over its seeds; None where it is undefined."""

    by_seed: dict[int, float | None]
    low: float | None = None  # 95% bootstrap interval of the mean, over films
    high: float | None = None

    @property
    def defined(self) -> list[float]:
        """Its values in the seeds that have one."""
        return [value for value in self.by_seed.values() if value is not None]

    @property
    def mean(self) -> float | None:
        """Of the seeds in which it is defined."""
        return statistics.fmean(self.defined) if self.defined else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.defined) if len(self.defined) > 1 else None


@dataclass(frozen=True)
class Model:
    """One variant or baseline with all its scores."""

    name: str
    encoders: str  # that it reads with, "resnet + bag"; "" of one without
    is_baseline: bool
    modalities: int  # how many it reads
    split_seeds: dict[int, int]  # by seed
    scores: dict[str, Score]  # by dotted name, such as "tuned.f1_macro"
    genres: dict[str, Score]  # average precision
    f1: dict[str, Score]  # of each genre, at its tuned threshold
    reliability: Reliability  # of all seeds together

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.split_seeds)


@dataclass(frozen=True)
class Brought:
    """Contribution of each modality to a model that reads several, means over seeds."""

    name: str
    micro: Contribution
    genres: dict[str, Contribution]
    paired: int  # films of a seed that EMAP was computed for
    interaction: tuple[float, float]  # 95% interval, over these films, of micro-AP less the approximation's


@dataclass(frozen=True)
class Margin:
    """Micro-AP of a fusion less that of the best system without fusion, on what is left of the same films."""

    over: str
    difference: float
    low: float  # 95% interval of paired bootstrap draws
    high: float

    @property
    def is_shown(self) -> bool:
        """Tells if the interval is on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Missing:
    """Scores where test films lack a modality; each list has an entry a share of `missing.SHARES`."""

    modality: str  # that is missing
    scores: dict[str, list[Score]]  # micro-AP by network, and of switches between two of them
    floor: list[float | None]  # of the best system without fusion; None where there is none
    margins: dict[str, list[Margin]]  # by fusion


@dataclass(frozen=True)
class Analysis:
    """All numbers of one benchmark."""

    dataset: str
    films: dict[str, list[int]]  # by split, of each seed
    lacking: dict[str, list[int]]  # by modality that some test films lack, how many, of each seed
    splits: int  # how many different ones the seeds have
    split_seeds: tuple[int, ...]  # of which they were made
    genres: tuple[str, ...]  # most frequent first
    support: dict[str, float]  # test films of each genre, the mean over seeds
    sometimes: list[str]  # genres that some seeds have test films of, and others have not
    models: dict[str, Model]
    fusion: list[Comparison]  # each fusion over the better model of one modality
    further: list[Comparison]  # each fusion over the same variant with fewer modalities, where there is one
    baseline: list[Comparison]  # each network over the best baseline that reads no other modality
    brought: list[Brought]
    missing: list[Missing]  # empty where no network was asked
    left_out: list[str]  # runs that could not be compared, and why

    @property
    def compared(self) -> list[Comparison]:
        """All comparisons of two models."""
        return [*self.fusion, *self.further, *self.baseline]

    @property
    def too_few_permutations(self) -> int:
        """Counts the genres that are tested, where Holm's method cannot show anything of so many; else 0."""
        tested = max((sum(g.p_holm == g.p_holm for g in one.genres.values()) for one in self.fusion), default=0)
        return tested if tested * LEAST_P >= 0.05 else 0

    @property
    def undefined(self) -> list[str]:
        """Genres without a single test film."""
        return [genre for genre in self.genres if not self.support[genre]]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({seed for model in self.models.values() for seed in model.seeds}))

    @property
    def contributing(self) -> list[str]:
        """The modalities that some model reads beside others."""
        return list(dict.fromkeys(name for one in self.brought for name in one.micro.shapley))
