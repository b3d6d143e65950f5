"""One trial: a hyperparameter's values become configurations, those become models, and these a score."""

import functools
import hashlib
import json
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock
from scipy.special import logit

from mmfusion.config import Config
from mmfusion.errors import UserError
from mmfusion.evaluation import metrics
from mmfusion.files import make_folder, write_atomically
from mmfusion.jobs import Job
from mmfusion.models.late import cross_fitted
from mmfusion.runs import Run
from mmfusion.training import experiment, preparation
from tuning import records, spaces
from tuning.oracles import EPOCHS

FOLDS = 5  # of validation films, for late fusion's combiner


class Runner:
    """Runs trials of one search, in whatever process it is handed to.

    Args:
        start: the configuration that the search starts from, and for late fusion before it those of its parts.
        objective: one of `tuning.OBJECTIVES`.
        out: the search's folder.
        cache: where prepared films are kept.
        resumed: keep what it takes to train a trial's models for more epochs.
    """

    def __init__(self, start: Mapping[str, Config], objective: str, out: Path, cache: Path, *, resumed: bool):
        self._start, self._objective = start, objective
        self._out, self._cache, self._resumed = out, cache, resumed

    def __call__(self, number: int, values: dict[str, object]) -> records.Outcome:
        """Runs a trial, or goes on with it, and keeps its outcome.

        Raises:
            UserError: something that no other trial would get over either, such as a full disk.
        """
        folder = records.folder_of(self._out, number)
        with records.attempt(folder) as count:
            outcome = (
                self._run(number, values) if count <= records.ATTEMPTS else records.Outcome(None, records.DIED)
            )
            records.write_outcome(outcome, self._out, number)
        return outcome

    def job(self, number: int, values: dict[str, object]) -> Job:
        """Gives a trial as a job."""
        try:
            configs = self._configs(number, values).values()
        except UserError:  # the trial will say so
            configs = ()
        folders = tuple(self._out / "models" / _name(config) for config in configs if not config.parts)
        name = "start" if number == records.START else f"trial {number}"
        return Job(name, folders, functools.partial(self, number, values))

    def _run(self, number: int, values: dict[str, object]) -> records.Outcome:
        began = time.perf_counter()
        runs, score, reason = {}, None, ""
        try:
            configs = self._configs(number, values)
            for variant, config in configs.items():
                if not config.parts:
                    runs[variant] = self._trained(config, cast(int, values.get("tuner/initial_epoch", 0)))
            score = self._score(configs, runs)
        except Exception as error:
            if _is_the_machines(error):
                raise UserError(str(error)) from error
            reason = _reason(error)
            write_atomically(records.folder_of(self._out, number) / "failure.txt", traceback.format_exc())
        return records.Outcome(
            score,
            reason,
            seconds=round(time.perf_counter() - began, 1),
            epochs=sum(len(run.history) for run in runs.values()),
            parameters=sum(run.facts["parameters"] for run in runs.values()) if runs else None,
            models=tuple(run.name for run in runs.values()),
        )

    def _configs(self, number: int, values: dict[str, object]) -> dict[str, Config]:
        configs = dict(self._start) if number == records.START else spaces.configure(self._start, values)
        if EPOCHS in values:  # Hyperband's: fewer than a trial trained to the end
            for variant, config in configs.items():
                configs[variant] = _for_epochs(config, cast(int, values[EPOCHS]))
        return configs

    def _trained(self, config: Config, epochs_before: int) -> Run:
        """The model of this configuration; one that an earlier trial trained, or trained on, is not made again."""
        models = self._out / "models"
        make_folder(models)
        run = Run(models / _name(config))
        earlier = Run(models / _name(_for_epochs(config, epochs_before))) if epochs_before else None
        with FileLock(models / f".{run.name}.lock"):  # two trials may need the same part of late fusion at once
            keras.utils.clear_session()
            try:
                films = preparation.prepare_once(config, self._cache)
                experiment.explore(config, run.folder, films, earlier=earlier)
            except Exception as error:
                if not _is_the_machines(error):
                    _forget(run)
                raise
            if not self._resumed:
                _forget(run)
        return run

    def _score(self, configs: Mapping[str, Config], runs: Mapping[str, Run]) -> float:
        """Of the validation films, by the model of a variant or by late fusion of its parts."""
        *parts, config = configs.values()
        found = {name: run.predictions("validation") for name, run in runs.items()}
        first = next(iter(found.values()))
        y_true, y_prob = first.y_true, first.y_prob
        if parts:
            logits = [logit(np.clip(found[part.variant].y_prob, 1e-7, 1 - 1e-7)) for part in parts]
            present = np.stack([self._has_what_is_read(part) for part in parts])
            kind, seed = config.late.combiner, config.seed
            y_prob = cross_fitted(kind, logits, y_true, present, folds=FOLDS, seed=seed)
        score = metrics.scores(y_true, y_prob, np.full(y_true.shape[1], 0.5))[self._objective]
        if score is None or not np.isfinite(score):
            raise UserError(f"the validation films give no {self._objective}")
        return float(score)

    def _has_what_is_read(self, part: Config) -> np.ndarray:
        """Tells of each validation film (N,) if it has the modality of one of late fusion's parts."""
        films = preparation.prepare_once(part, self._cache)
        (modality,) = part.reads
        return films.inputs(part).films[modality].present(films.rows["validation"])


def _is_the_machines(error: Exception) -> bool:
    """Tells if the disk or the like is at fault, which no other trial would get over either."""
    return isinstance(error, OSError) or isinstance(error.__cause__, OSError)


def _forget(run: Run) -> None:
    """Removes what only a training that goes on would need."""
    for file in (run.state_file, run.model_file):
        file.unlink(missing_ok=True)


def _for_epochs(config: Config, epochs: int) -> Config:
    return config.with_values(training=config.training.model_copy(update={"epochs": epochs}))


def _name(config: Config) -> str:
    said = json.dumps(config.to_dict(), sort_keys=True)
    return f"{config.variant}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def _reason(error: Exception) -> str:
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError | tf.errors.ResourceExhaustedError):
        return f"out of memory: {first}"
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
