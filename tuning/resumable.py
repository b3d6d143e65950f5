"""Oracles of KerasTuner that go on where they were killed.

Three things are changed. The first trial, number 0, is the starting configuration. What is drawn for a
trial depends on the seed and the trial's number alone, so nothing is lost with a process. And the
oracle's file is written whole or not at all; when it is damaged all the same, the trials' own files
say what it held.
"""

import functools
import json
import time
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner.engine import trial as kt

from mmfusion.errors import UserError
from mmfusion.files import write_atomically
from tuning.outcomes import read_outcome

ATTEMPTS = 3  # a trial in which the process died so often has failed
START = 0  # number of the trial that is the starting configuration
ENDED = (kt.TrialStatus.COMPLETED, kt.TrialStatus.FAILED)


def _guarded(method):
    """Under the oracle's lock, and letting go of it whatever happens.

    KerasTuner keeps the lock when something is raised under it, and its server tells nobody. So an error is
    kept in `fault`, for the main thread to raise, and workers are told to stop.
    """

    @functools.wraps(method)
    def guarded(self, *args, **options):
        try:
            return method(self, *args, **options)
        except Exception as error:
            self.fault = self.fault or error
            return self._empty(kt.TrialStatus.STOPPED)

    return keras_tuner.synchronized(guarded)


class Resumable(keras_tuner.Oracle):
    """Laid over one of KerasTuner's oracles.

    Args:
        objective: what to maximise or minimise.
        trials: how many, besides the starting configuration.
        seed: of all that is drawn.
        space: the hyperparameters; each one's default is the starting configuration's value.
        minutes: no trial begins after so many, all calls together; None: no limit.
        **options: of the KerasTuner oracle.
    """

    def __init__(self, objective, trials: int, seed: int, space, *, minutes: float | None = None, **options):
        super().__init__(
            objective=objective,
            seed=seed + 1,  # KerasTuner takes 0 for "any"
            hyperparameters=space,
            tune_new_entries=False,
            allow_new_entries=False,
            # A failed trial does not end the search.
            max_consecutive_failed_trials=None,  # pyright: ignore[reportArgumentType]
            **options,
        )
        self.max_trials = trials + 1
        self.verbose = 0
        self.on_end = lambda number: None  # called with the number of each trial that has ended
        self.fault: Exception | None = None  # what ended the search before its time
        self.exhausted = False  # nothing is left to try
        self._seconds = None if minutes is None else 60 * minutes
        self._began: float | None = None  # when this call gave out its first trial
        self._spent_before = 0.0  # seconds, in earlier calls
        self._attempts: dict[str, int] = {}

    @property
    def seconds_left(self) -> float | None:
        """Of the minutes; None without a limit."""
        return None if self._seconds is None else max(0.0, self._seconds - self._spent())

    @property
    @keras_tuner.synchronized
    def complete(self) -> bool:
        """Tells if nothing is running and nothing will be given out any more."""
        return not self.ongoing_trials and not self._retry_queue and self._nothing_new()

    def ended(self) -> list[kt.Trial]:
        """The trials that completed or failed, by number."""
        return [trial for trial in self._by_number() if trial.trial_id in self.end_order]

    @_guarded
    def create_trial(self, tuner_id):
        if self.fault:
            self.tuner_ids.discard(tuner_id)
            return self._empty(kt.TrialStatus.STOPPED)
        if tuner_id in self.ongoing_trials:  # it died and was started again
            self.give_back(tuner_id)
        self.tuner_ids.add(tuner_id)
        if self._retry_queue or not self._nothing_new():
            trial = super().create_trial(tuner_id)
            if trial.status == kt.TrialStatus.RUNNING:
                self._began = self._began or time.monotonic()
                self._attempts[trial.trial_id] = self._attempts.get(trial.trial_id, 0) + 1
                self.save()
            if trial.status != kt.TrialStatus.STOPPED:
                return trial
            self.exhausted = True
        # A worker whose trial is still running may die and leave it to this one, which has to wait.
        waits = bool(self.ongoing_trials)
        (self.tuner_ids.add if waits else self.tuner_ids.discard)(tuner_id)
        return self._empty(kt.TrialStatus.IDLE if waits else kt.TrialStatus.STOPPED)

    @_guarded
    def update_trial(self, trial_id, metrics, step=0):
        return super().update_trial(trial_id, metrics, step)

    @_guarded
    def end_trial(self, trial):
        if trial.trial_id in self.end_order:
            return  # by a worker that had been taken for dead; another one has been through with it
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)  # by such a worker, before another one took it
        super().end_trial(trial)
        self.on_end(int(trial.trial_id))

    @_guarded
    def give_back(self, tuner_id: str, *, died: bool = True) -> None:
        """Takes its trial from a worker that is gone, for another one to run.

        Args:
            tuner_id: the worker's.
            died: in its trial, and not by somebody's will.
        """
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial:
            self._attempts[trial.trial_id] -= not died
            self._retry_or_fail(trial)
            self.save()

    @_guarded
    def interrupted(self) -> None:
        """Somebody ends this call: its trials are not to blame."""
        for trial in self.ongoing_trials.values():
            self._attempts[trial.trial_id] = self._attempts.get(trial.trial_id, 1) - 1
        self.save()

    def populate_space(self, trial_id):
        """Gives the starting configuration first, then what the algorithm says, with draws of the trial's own."""
        number = int(trial_id)
        if number == START:
            return {"status": kt.TrialStatus.RUNNING, "values": self._start_values()}
        self._seed_state = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return super().populate_space(trial_id)

    def _start_values(self) -> dict:
        return {hyperparameter.name: hyperparameter.default for hyperparameter in self.hyperparameters.space}

    def _empty(self, status) -> kt.Trial:
        return kt.Trial(self.hyperparameters.copy(), status=status)

    def _spent(self) -> float:
        return self._spent_before + (time.monotonic() - self._began if self._began else 0.0)

    def _nothing_new(self) -> bool:
        return self.exhausted or len(self.trials) >= self.max_trials or self.seconds_left == 0

    def _by_number(self) -> list[kt.Trial]:
        return sorted(self.trials.values(), key=lambda trial: int(trial.trial_id))

    def _retry_or_fail(self, trial: kt.Trial) -> None:
        if self._attempts.get(trial.trial_id, 0) < ATTEMPTS:
            self._retry_queue.append(trial.trial_id)
            return
        trial.status = kt.TrialStatus.FAILED
        trial.message = f"the process died {ATTEMPTS} times in this trial, perhaps for want of memory"
        self.end_order.append(trial.trial_id)
        self._save_trial(trial)
        self.on_end(int(trial.trial_id))

    def get_state(self):
        return {**super().get_state(), "attempts": self._attempts, "spent": self._spent()}

    def set_state(self, state):
        super().set_state(state)
        self._attempts = state["attempts"]
        self._spent_before = state["spent"]

    def save(self):
        write_atomically(Path(self._get_oracle_fname()), json.dumps(self.get_state()))

    def _save_trial(self, trial):
        write_atomically(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", json.dumps(trial.get_state()))

    def reload(self):
        """Goes on from what an earlier call left; says so when the oracle's file is damaged.

        Raises:
            UserError: a trial's own file is damaged too.
        """
        file = Path(self._get_oracle_fname())
        trials = sorted(map(_load_trial, file.parent.glob("trial_*/trial.json")), key=lambda t: int(t.trial_id))
        self.trials = {trial.trial_id: trial for trial in trials}
        try:
            self.set_state(json.loads(file.read_bytes()))
            whole = set(self.start_order) <= set(self.trials)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if whole:
            # One given out in the moment of the crash is not yet in the oracle's file: it is given out again.
            self.trials = {name: trial for name, trial in self.trials.items() if name in self.start_order}
        else:
            self._rebuild()
        # The trials' own files say which have ended: they are written first.
        ended = [name for name, trial in self.trials.items() if trial.status in ENDED]
        self.end_order = [name for name in self.end_order if name in ended]
        self.end_order += [name for name in ended if name not in self.end_order]
        if not whole:
            print(
                f"{file} is missing, cut short, or does not fit the trials beside it: it was made again from the "
                f"files of {len(trials)} trials, {len(ended)} of them finished, and the search goes on. "
                "To start anew instead, name another --out.",
                flush=True,
            )
        self.ongoing_trials, self._retry_queue = {}, []
        # In reverse: the next one to run is taken from the end.
        for trial in reversed(self._by_number()):
            if trial.trial_id not in self.end_order:
                self._retry_or_fail(trial)
        self.save()

    def _rebuild(self) -> None:
        """Restores what `set_state` would have, from the trials alone."""
        folder = Path(self._project_dir)
        outcomes = [read_outcome(folder / f"trial_{name}") for name in self.trials]
        self._spent_before = sum(outcome.seconds for outcome in outcomes if outcome)
        self._tried_so_far.clear()
        self._id_to_hash.clear()
        self._run_times.clear()
        self._attempts.clear()
        self.start_order, self.end_order = list(self.trials), []
        for number, trial in enumerate(self._by_number()):
            if int(trial.trial_id) != number:
                raise UserError(f"{folder} has no trial {number}, but later ones; delete those to try them again")
            self._record_values(trial)


def _load_trial(file: Path) -> kt.Trial:
    try:
        return kt.Trial.from_state(json.loads(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} cannot be read; delete this trial's folder and those of later trials to try them again"
        ) from error
