"""Oracles say what to try next: KerasTuner's three algorithms, each under one name on the command line."""

import warnings

import keras_tuner
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from tuning.resumable import Resumable

EPOCHS = "tuner/epochs"  # KerasTuner's name for how long one of Hyperband's trials is trained


class RandomOracle(Resumable, keras_tuner.oracles.RandomSearchOracle):
    """Draws every trial from the whole space (Bergstra & Bengio 2012)."""


class BayesianOracle(Resumable, keras_tuner.oracles.BayesianOptimizationOracle):
    """Draws a third of the trials, ten at most, then asks a Gaussian process for more (Snoek et al. 2012)."""

    def __init__(self, objective, trials: int, seed: int, space, **options):
        # KerasTuner's own default is three for each hyperparameter: a search of usual length would never get
        # beyond drawing.
        super().__init__(objective, trials, seed, space, num_initial_points=min(10, max(2, trials // 3)), **options)

    def set_state(self, state):
        # This call's number of trials decides, not that of an earlier one.
        super().set_state({**state, "num_initial_points": self.num_initial_points})

    def populate_space(self, trial_id):
        self._random_state = np.random.RandomState([self.seed, int(trial_id)])
        # Its matrices are small: threads would only wait for each other. And a length scale at its bound is no
        # fault, it means that a hyperparameter does not matter.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = super().populate_space(trial_id)
        if found["values"] and self._duplicate(found["values"]):
            return self._random_populate_space()
        return found


class HyperbandOracle(Resumable, keras_tuner.oracles.HyperbandOracle):
    """Trains many for few epochs, and goes on with the better third of them (Li et al. 2018).

    Args:
        epochs: of a trial that is trained to the end.
    """

    def __init__(self, objective, trials: int, seed: int, space, *, epochs: int, **options):
        # Brackets follow each other until the trials are used up.
        super().__init__(
            objective, trials, seed, space, max_epochs=epochs, hyperband_iterations=trials + 1, **options
        )

    def set_state(self, state):
        super().set_state({**state, "hyperband_iterations": self.hyperband_iterations})

    def _start_values(self):
        # In no bracket: it is trained to the end whatever the others reach.
        return {
            **super()._start_values(),
            EPOCHS: self.max_epochs,
            "tuner/initial_epoch": 0,
            "tuner/bracket": -1,
            "tuner/round": 0,
        }

    def _rebuild(self):
        super()._rebuild()
        self._current_iteration, self._current_bracket = 0, self._get_num_brackets() - 1
        self._brackets = []
        self._start_new_bracket()
        bracket_of = {}
        for trial in self._by_number()[1:]:
            values = trial.hyperparameters.values
            past = values.get("tuner/trial_id")
            if past is None:
                full = len(self._brackets[-1]["rounds"][0]) == self._get_size(self._current_bracket, 0)
                if full or values["tuner/bracket"] != self._current_bracket:
                    self._increment_bracket_num()
                    self._start_new_bracket()
                bracket_of[trial.trial_id] = self._brackets[-1]
            else:
                bracket_of[trial.trial_id] = bracket_of[past]
            rounds = bracket_of[trial.trial_id]["rounds"]
            rounds[values["tuner/round"]].append({"past_id": past, "id": trial.trial_id})


ORACLES = {"random": RandomOracle, "bayesian": BayesianOracle, "hyperband": HyperbandOracle}
