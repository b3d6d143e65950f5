"""The runs of one benchmark, read from their folders; what cannot be compared with the rest is refused by name."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.baselines import BASELINES, SECTIONS_READ
from benchmarks.questions import read_answers
from mmfusion.config import VARIANTS, Config
from mmfusion.config.idle import acting
from mmfusion.errors import UserError
from mmfusion.evaluation.contributions import PermutedPredictions
from mmfusion.evaluation.metrics import tune_thresholds
from mmfusion.evaluation.scoring import encoders_of, label_of
from mmfusion.runs import Predictions, Run


@dataclass(frozen=True)
class Result:
    """One model of one seed."""

    run: Run
    name: str  # its row's: the variant and the encoders that it reads with
    variant: str  # or baseline
    encoders: str  # "resnet + bag"; "" of one without
    seed: int
    split_seed: int
    facts: dict
    genres: tuple[str, ...]
    validation: Predictions
    test: Predictions
    thresholds: np.ndarray  # (G,) tuned on validation films; NaN where undefined
    train_seconds: float | None
    answers: dict[str, float | None]  # to the questions that it was asked
    permuted: PermutedPredictions | None  # what it says of exchanged modalities, where it reads several
    without: dict[str, np.ndarray] | None  # by the modality that is missing, what it says then; None: not asked

    @property
    def is_baseline(self) -> bool:
        return self.variant in BASELINES

    @property
    def presets(self) -> dict[str, str]:
        """By modality, the fingerprint of the pretrained encoder that reads it."""
        return self.facts.get("presets", {})

    @property
    def modalities(self) -> int:
        """Counts those that the model reads."""
        return len(self.facts["reads"])


Results = dict[str, dict[int, Result]]  # by name, then by seed


def collect(folder: Path, *, keep_going: bool = False) -> tuple[Results, list[str]]:
    """All runs in `folder/seed-*/`.

    Args:
        folder: as `benchmarks.run` leaves it.
        keep_going: leave out what cannot be compared instead of stopping.

    Returns:
        The runs, baselines first, then the variants in their own order; and what was left out and why.

    Raises:
        UserError: no run is there, or it names one that is incomplete, or is of other films, another split,
            other genres or other settings than the rest.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; python -m benchmarks.run makes one")
    found, problems = [], {}
    for path in sorted(path for path in folder.glob("seed-*/[!.]*") if path.is_dir()):
        try:
            found.append(_read(path))
        except UserError as error:
            problems[path] = str(error)
    for what, value, scope in _MUST_AGREE:
        good = [result for result in found if result.run.folder not in problems]
        problems |= _odd_ones(good, what, value, scope)
    if problems and not keep_going:
        path, problem = next(iter(problems.items()))
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise UserError(
            f"{problem}{more}; finish it with the same benchmarks.run, remove {path}, or leave such runs out with "
            "--keep-going"
        )
    good = [result for result in found if result.run.folder not in problems]
    if not good:
        why = f"; of {len(problems)} runs the first: {next(iter(problems.values()))}" if problems else ""
        raise UserError(f"{folder} holds no run in seed-*/ to report on; benchmarks.run makes some{why}")
    order = [*BASELINES, *VARIANTS]
    variant_of = {result.name: result.variant for result in good}
    names = sorted(
        variant_of, key=lambda n: (order.index(variant_of[n]) if variant_of[n] in order else len(order), n)
    )
    results = {name: {r.seed: r for r in sorted(good, key=lambda r: r.seed) if r.name == name} for name in names}
    return results, [problem.replace(f"{folder}/", "") for problem in problems.values()]


def _read(path: Path) -> Result:
    run = Run(path)
    if not run.finished:
        raise UserError(f"the run {path} is not finished")
    run.check_folders()
    config, facts, genres = run.config, run.facts, run.genres
    if config.variant not in (*BASELINES, *VARIANTS):
        raise UserError(f"{path} holds a run of {config.variant}, which is no variant or baseline here")
    if "reads" not in facts:
        raise UserError(f"{run.config_file} does not say reads; train it again")
    if path.parts[-2:] != (f"seed-{config.seed}", config.folder_name):
        raise UserError(f"{path} holds a run of {config.folder_name} with seed {config.seed}")
    validation, test = run.predictions("validation"), run.predictions("test")
    asked, numbers = {}, {"ms_per_film": facts.get("ms_per_film")}
    if config.variant not in BASELINES:
        asked, numbers = read_answers(run)
    return Result(
        run=run,
        name=label_of(run),
        variant=config.variant,
        encoders=" + ".join(encoders_of(run).values()),
        seed=config.seed,
        split_seed=config.split_seed,
        facts=facts,
        genres=genres,
        validation=validation,
        test=test,
        thresholds=tune_thresholds(validation.y_true, validation.y_prob),
        train_seconds=_seconds(run),
        answers=numbers,
        permuted=asked["probe"][1] if asked else None,
        without=asked.get("missing"),
    )


def _seconds(run: Run) -> float | None:
    seconds = run.report.get("train_seconds")
    if seconds is not None and not (type(seconds) in (int, float) and 0 <= seconds < 1e9):
        raise UserError(f"{run.report_file}: train_seconds must be a number of seconds, not {seconds!r}")
    return seconds


def _settings(config: Config) -> str:
    """Settings that a model reads, without the seed."""
    return repr(acting(config.with_values(seed=0, split_seed=0), SECTIONS_READ))


# What runs have in common, how it is read off one, and which runs must agree.
_MUST_AGREE: tuple[tuple[str, Callable, Callable], ...] = (
    ("other films", lambda r: r.facts["fingerprint"], lambda r: None),
    ("another table", lambda r: r.facts.get("table"), lambda r: "table" in r.facts),
    ("other genres", lambda r: r.genres, lambda r: None),
    ("another split", lambda r: r.facts["split"], lambda r: r.seed),
    ("other test films", lambda r: (r.test.ids, r.test.y_true.tobytes()), lambda r: r.seed),
    ("other validation films", lambda r: (r.validation.ids, r.validation.y_true.tobytes()), lambda r: r.seed),
    ("other settings", lambda r: _settings(r.run.config), lambda r: r.name),
)


def _odd_ones(results: list[Result], what: str, value: Callable, scope: Callable) -> dict[Path, str]:
    """Those that disagree with most of their scope."""
    problems = {}
    for group in {scope(result) for result in results}:
        members = [result for result in results if scope(result) == group]
        values = [value(result) for result in members]
        usual = Counter(values).most_common(1)[0][0]
        for result, own in zip(members, values, strict=True):
            if own != usual:
                example = members[values.index(usual)].run.folder
                problems[result.run.folder] = f"{result.run.folder} has {what} than {example}"
    return problems
