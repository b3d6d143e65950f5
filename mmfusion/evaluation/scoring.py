"""Scores of finished runs, from their folders alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmfusion.errors import UserError
from mmfusion.evaluation import metrics, resampling
from mmfusion.evaluation.comparison import DRAWS, SEED, Comparison, compare
from mmfusion.runs import Predictions, Run


@dataclass(frozen=True)
class Scored:
    """One run's predictions on some films, with their scores."""

    run: Run
    predictions: Predictions
    report: dict  # as in report.json
    genres: tuple[str, ...]  # those that are scored: the run's, or of other films those that they have in common
    gates: np.ndarray | None = None  # (N, M) of gated fusion, how much it trusts each film's modalities


def score(
    run: Run, split: str, predictions: Predictions | None = None, genres: Sequence[str] | None = None
) -> Scored:
    """Scores a run.

    Args:
        run: a trained run.
        split: "validation" or "test", or a word for other films.
        predictions: those of other films; without it the run's own of that split.
        genres: those of the run that the predictions are of; without it all.

    Returns:
        The scores; `report` is what `report.json` holds.
    """
    validation = run.predictions("validation")
    found = predictions or run.predictions(split)
    genres = tuple(genres or run.genres)
    columns = [run.genres.index(genre) for genre in genres]
    truth, y_prob = validation.y_true[:, columns], validation.y_prob[:, columns]
    thresholds = metrics.tune_thresholds(truth, y_prob)
    config, facts = run.config, run.facts
    frequencies = np.array(facts["genre_counts"]["train"])[columns] / facts["films"]["train"]
    guess, guess_validation = (np.tile(frequencies, (len(y), 1)) for y in (found.y_true, truth))
    epochs = [epoch for one in (run, *run.parts) for epoch in one.history]
    report = {
        "name": row_name(run),
        "variant": config.variant,
        "encoders": encoders_of(run),
        "dataset": config.data.dataset,
        "fingerprint": facts["fingerprint"],
        "split": split,
        "split_hash": facts["split"],
        "seed": config.seed,
        "split_seed": config.split_seed,
        "films": len(found.ids),
        "parameters": facts["parameters"],
        "epochs": len(epochs),
        "temperature": run.temperature,
        # A baseline has no epochs, and says itself how long it took.
        "train_seconds": facts.get("train_seconds", round(sum(epoch["seconds"] for epoch in epochs), 1)),
        "metrics": metrics.overall(found.y_true, found.y_prob, thresholds),
        "frequencies": metrics.overall(found.y_true, guess, metrics.tune_thresholds(truth, guess_validation)),
        "genres": metrics.by_genre(genres, found.y_true, found.y_prob, thresholds),
    }
    gates = None if predictions else run.gates(split)
    if gates is not None:
        for row, there in zip(report["genres"], found.y_true.T > 0):
            means = gates[there].mean(axis=0).tolist() if there.any() else [None] * gates.shape[1]
            row["gates"] = dict(zip(facts["reads"], means, strict=True))
    return Scored(run, found, report, genres, gates)


def row_name(run: Run) -> str:
    """Names a run beside others: its label, after its folder's name where that says something else."""
    label = label_of(run)
    return label if run.name in (run.config.variant, run.config.folder_name) else f"{run.name}: {label}"


def label_of(run: Run) -> str:
    """A run's variant, or baseline, with the encoders that it reads with, or has read with."""
    if run.config.encoders or not (named := encoders_of(run)):
        return run.config.label
    return f"{run.config.label} ({' + '.join(named.values())})"


def encoders_of(run: Run) -> dict[str, str]:
    """By modality the encoder that reads it, or the preset that a baseline's features are of."""
    config, read = run.config, run.facts.get("presets", {})
    presets = {modality: Path(name).name for modality, name in config.presets.items() if modality in read}
    return config.encoders or presets


def check_comparable(scored: Sequence[Scored]) -> None:
    """Refuses to put runs side by side that were not scored on the same films and genres.

    Raises:
        UserError: it names the two runs and what differs.
    """
    first = scored[0]
    for other in scored[1:]:
        if other.genres != first.genres:
            what = "other genres"
        elif other.predictions.ids != first.predictions.ids:
            what = f"other {first.report['split']} films"
        elif not np.array_equal(other.predictions.y_true, first.predictions.y_true):
            what = "other true genres of the same films"
        else:
            continue
        raise UserError(
            f"{other.run.folder} has {what} than {first.run.folder}; "
            "train both on the same data, with one --seed and one --split-seed"
        )


def gains(scored: Sequence[Scored]) -> list[Comparison]:
    """Compares runs with the first of them.

    Args:
        scored: on the same films; see `check_comparable`.
    """
    if len(scored) < 2:
        return []
    thresholds = [np.array([row["threshold"] for row in one.report["genres"]], float) for one in scored]
    films = np.arange(len(scored[0].predictions.ids))
    weights = resampling.draw_films(len(films), DRAWS, SEED)
    found = [
        resampling.Predicted(films, one.predictions.y_true, one.predictions.y_prob, of)
        for one, of in zip(scored, thresholds, strict=True)
    ]
    drawn = [resampling.weighted_average_precision(one.y_true, one.y_prob, weights) for one in found]
    names = [one.report["name"] for one in scored]
    return [
        compare(names[i], names[0], {SEED: found[i]}, {SEED: found[0]}, drawn[i] - drawn[0])
        for i in range(1, len(scored))
    ]
