"""One trial: a hyperparameter's values become configurations, those become models, and these a score."""

import functools
import hashlib
import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from filelock import FileLock
from scipy.special import logit

from mmfusion.config import Config
from mmfusion.errors import UserError, first_line
from mmfusion.evaluation import metrics
from mmfusion.files import make_folder, write_atomically
from mmfusion.jobs import ATTEMPTS, DIED, Job, attempt
from mmfusion.models.late import cross_fitted
from mmfusion.runs import Run
from mmfusion.training import experiment, preparation
from tuning import spaces
from tuning.oracles import EPOCHS
from tuning.records import START, Outcome, Search, Trial


@dataclass(frozen=True)
class Runner:
    """Runs trials of one search, in whatever process it is handed to."""

    search: Search
    out: Path  # the search's folder
    cache: Path  # of prepared films

    def __call__(self, trial: Trial) -> Outcome:
        """Runs a trial, or goes on with it, and keeps its outcome.

        Raises:
            UserError: something that no other trial would get over either, such as a full disk.
        """
        with attempt(trial.folder) as count:
            outcome = self._run(trial) if count <= ATTEMPTS else Outcome(None, DIED)
            trial.end(outcome)
        return outcome

    def job(self, trial: Trial) -> Job:
        """Gives a trial as a job."""
        try:
            configs = self._configs(trial).values()
        except UserError:  # the trial will say so
            configs = ()
        folders = tuple(self.out / "models" / _name(config) for config in configs if not config.parts)
        return Job(trial.name, folders, functools.partial(self, trial))

    def _run(self, trial: Trial) -> Outcome:
        began = time.perf_counter()
        runs, score, reason = {}, None, ""
        try:
            configs = self._configs(trial)
            for variant, config in configs.items():
                if not config.parts:
                    runs[variant] = self._trained(config, trial.values.get("tuner/initial_epoch", 0))
            score = self._score(configs, runs)
        except Exception as error:
            if _is_the_machines(error):
                raise UserError(str(error)) from error
            of_memory = isinstance(error, MemoryError | tf.errors.ResourceExhaustedError)
            what = "out of memory" if of_memory else type(error).__name__
            reason = str(error) if isinstance(error, UserError) else f"{what}: {first_line(error)}"
            write_atomically(trial.folder / "failure.txt", traceback.format_exc())
        return Outcome(
            score,
            reason,
            seconds=round(time.perf_counter() - began, 1),
            epochs=sum(len(run.history) for run in runs.values()),
            parameters=sum(run.facts["parameters"] for run in runs.values()) if runs else None,
            models=tuple(run.name for run in runs.values()),
        )

    def _configs(self, trial: Trial) -> dict[str, Config]:
        configs = spaces.configure(self.search.start, {} if trial.number == START else trial.values)
        if EPOCHS in trial.values:  # Hyperband's: fewer than a trial trained to the end
            configs = {name: _for_epochs(config, trial.values[EPOCHS]) for name, config in configs.items()}
        return configs

    def _trained(self, config: Config, epochs_before: int) -> Run:
        """The model of this configuration; one that an earlier trial trained, or trained on, is not made again."""
        models = self.out / "models"
        make_folder(models)
        run = Run(models / _name(config))
        earlier = Run(models / _name(_for_epochs(config, epochs_before))) if epochs_before else None
        with FileLock(models / f".{run.name}.lock"):  # two trials may need the same part of late fusion at once
            keras.utils.clear_session()
            try:
                films = preparation.prepare_once(config, self.cache)
                experiment.explore(config, run.folder, films, earlier=earlier)
            except Exception as error:
                if not _is_the_machines(error):
                    _forget(run)
                raise
            if self.search.tuner != "hyperband":  # which trains some of them for more epochs
                _forget(run)
        return run

    def _score(self, configs: Mapping[str, Config], runs: Mapping[str, Run]) -> float:
        """Of the validation films, by the model of a variant or by late fusion of its parts."""
        *parts, config = configs.values()
        found = [run.predictions("validation") for run in runs.values()]
        y_true, y_prob = found[0].y_true, found[0].y_prob
        if parts:
            logits = [logit(np.clip(one.y_prob, 1e-7, 1 - 1e-7)) for one in found]
            present = []
            for part in parts:
                films, (modality,) = preparation.prepare_once(part, self.cache), part.reads
                present.append(films.inputs(part).films[modality].present(films.rows["validation"]))
            kind, seed = config.late.combiner, config.seed
            y_prob = cross_fitted(kind, logits, y_true, np.stack(present), folds=5, seed=seed)
        score = metrics.scores(y_true, y_prob, np.full(y_true.shape[1], 0.5))[self.search.objective]
        if score is None or not np.isfinite(score):
            raise UserError(f"the validation films give no {self.search.objective}")
        return float(score)


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
