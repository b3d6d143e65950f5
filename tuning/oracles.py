"""Oracles say what to try next: KerasTuner's three algorithms, each under one name on the command line.

An oracle keeps nothing. When a search goes on it is asked and told, in the same order, what it was asked and
told before (`records.Trial.after`), and comes to the same next question.
"""

import shutil
import tempfile
import warnings
import weakref

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as kt
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tuning import OBJECTIVES
from tuning.records import START

EPOCHS = "tuner/epochs"  # KerasTuner's name for how long one of Hyperband's trials is trained
_NEVER = 10**9


class Asked(keras_tuner.Oracle):
    """Laid over one of KerasTuner's oracles: one process asks, whoever runs the trials.

    Args:
        objective: one of `tuning.OBJECTIVES`.
        space: the hyperparameters; each one's default is the starting configuration's value.
        seed: of all that is drawn.
        **options: of the KerasTuner oracle.
    """

    def __init__(self, objective: str, space: keras_tuner.HyperParameters, seed: int, **options):
        super().__init__(
            objective=keras_tuner.Objective(objective, OBJECTIVES[objective]),
            seed=seed + 1,  # KerasTuner takes 0 for "any"
            hyperparameters=space,
            tune_new_entries=False,
            allow_new_entries=False,
            max_consecutive_failed_trials=_NEVER,  # a failed trial does not end the search
            **options,
        )
        # Whoever asks knows how many to ask for.
        self.max_trials = None  # pyright: ignore[reportAttributeAccessIssue]
        self.verbose = 0
        self._recorded: dict[str, object] | None = None
        # KerasTuner writes files of its own, where a tuner says. Nobody reads them: a trial's folder has more.
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        keras_tuner.engine.base_tuner.BaseTuner(self, directory=folder, project_name="oracle")

    def ask(self, recorded: dict[str, object] | None = None) -> dict[str, object] | None:
        """Gives the next trial's values; None when there is none, or none before another trial has ended.

        Args:
            recorded: what it said in an earlier process, which counts: libraries change.
        """
        self._recorded = recorded
        trial = self.create_trial(str(len(self.trials)))
        return dict(trial.hyperparameters.values) if trial.status == kt.TrialStatus.RUNNING else None

    def tell(self, number: int, score: float | None) -> None:
        """Says what the trial of this number gave; None: it failed."""
        trial = list(self.trials.values())[number]
        if score is not None:
            self.update_trial(trial.trial_id, {self.objective.name: score})
        trial.status = kt.TrialStatus.FAILED if score is None else kt.TrialStatus.COMPLETED
        self.end_trial(trial)

    def populate_space(self, trial_id):
        """Gives the starting configuration first, then what the algorithm says."""
        is_start = int(trial_id) == START
        found = {"values": self.starting_values()} if is_start else super().populate_space(trial_id)
        found = {"values": dict(self._recorded)} if self._recorded is not None else found
        return {"status": kt.TrialStatus.RUNNING, **found}

    def starting_values(self) -> dict[str, object]:
        """The point of the space that a search begins with."""
        return {hyperparameter.name: hyperparameter.default for hyperparameter in self.hyperparameters.space}


class RandomOracle(Asked, keras_tuner.oracles.RandomSearchOracle):
    """Draws every trial from the whole space (Bergstra & Bengio 2012)."""

    def __init__(self, objective, space, seed, *, trials, epochs):
        super().__init__(objective, space, seed)


class BayesianOracle(Asked, keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws a third of the trials, ten at most, then asks a Gaussian process for more (Snoek et al. 2012)."""

    def __init__(self, objective, space, seed, *, trials, epochs):
        # KerasTuner's own default is three for each hyperparameter: a search of usual length would never get
        # beyond drawing.
        super().__init__(objective, space, seed, num_initial_points=min(10, max(2, trials // 3)))

    def populate_space(self, trial_id):
        # Its matrices are small: threads would only wait for each other. And a length scale at its bound is no
        # fault, it means that a hyperparameter does not matter.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = super().populate_space(trial_id)
        tried = [trial.hyperparameters.values for trial in self.trials.values()]
        for draw in range(20):
            if found.get("values") not in tried:
                return found
            rng = np.random.default_rng([self.seed, int(trial_id), draw])
            values = {one.name: one.random_sample(int(rng.integers(2**31))) for one in self.hyperparameters.space}
            found = {**found, "values": values}
        return {"status": kt.TrialStatus.STOPPED}


class HyperbandOracle(Asked, keras_tuner.oracles.HyperbandOracle):
    """Trains many for few epochs, and goes on with the better third of them (Li et al. 2018)."""

    def __init__(self, objective, space, seed, *, trials, epochs):
        # Brackets follow each other until the trials are used up.
        super().__init__(objective, space, seed, max_epochs=epochs, hyperband_iterations=_NEVER)

    def starting_values(self):
        """In no bracket: it is trained to the end whatever the others reach."""
        lasts = {EPOCHS: self.max_epochs, "tuner/initial_epoch": 0, "tuner/bracket": -1, "tuner/round": 0}
        return {**super().starting_values(), **lasts}


# Each takes an objective, a space and a seed, and how many trials there will be, of how many epochs at most.
ORACLES = {"random": RandomOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle}
