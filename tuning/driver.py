"""The driver of a search: it alone asks the oracle what to try and tells it the score, wherever trials run."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import write_atomically
from mmfusion.jobs import Job, Place
from tuning import records
from tuning.oracles import Asked
from tuning.records import Outcome, Trial


class Trials:
    """The trials of a search, in its folder and before its oracle.

    Args:
        oracle: new; it is told all that the folder has.
        out: the search's folder.

    Raises:
        UserError: the folder is damaged.
    """

    def __init__(self, oracle: Asked, out: Path):
        self._oracle, self._out = oracle, out
        self._told: list[int] = []  # since it was asked the last time
        self.all: list[Trial] = []
        known = records.read_trials(out)
        for trial in known:
            for number in trial.after:
                self._tell(known[number])
            oracle.ask(trial.values)
            self.all.append(trial)
            self._told = []
        told = {number for trial in known for number in trial.after}
        for trial in known:
            if trial.outcome and trial.number not in told:
                self._tell(trial)

    @property
    def ended(self) -> list[Trial]:
        """Those that have an outcome, by number."""
        return [trial for trial in self.all if trial.outcome]

    def ask(self) -> Trial | None:
        """Gives one more; None when there is none, or none before another one has ended."""
        values = self._oracle.ask()
        if values is None:
            return None
        trial = Trial(len(self.all), values, tuple(self._told))
        records.write_trial(trial, self._out)
        self.all.append(trial)
        self._told = []
        return trial

    def tell(self, trial: Trial, outcome: Outcome) -> None:
        """Says what one gave."""
        trial.outcome = outcome
        self._tell(trial)

    def _tell(self, trial: Trial) -> None:
        if trial.outcome is None:
            folder = records.folder_of(self._out, trial.number)
            raise UserError(f"{folder} has no outcome, which later trials go by; delete those to try them again")
        self._oracle.tell(trial.number, trial.outcome.score)
        self._told.append(trial.number)


class Clock:
    """Counts a search's minutes over all calls; they begin with a call's first trial.

    Args:
        out: the search's folder, which keeps them.
        minutes: after which no trial begins; None: no limit.
    """

    def __init__(self, out: Path, minutes: float | None):
        self._file = out / "spent.json"
        self._limit = None if minutes is None else 60 * minutes
        self._began: float | None = None
        try:
            self._before = float(json.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError):
            self._before = 0.0

    @property
    def left(self) -> float | None:
        """Seconds; None without a limit."""
        return None if self._limit is None else max(0.0, self._limit - self._spent())

    def tick(self) -> None:
        """Keeps the time, as a trial begins or ends."""
        self._began = self._began or time.monotonic()
        write_atomically(self._file, f"{self._spent():.1f}\n")

    def _spent(self) -> float:
        return self._before + (time.monotonic() - self._began if self._began else 0.0)


def conduct(
    trials: Trials,
    place: Place,
    out: Path,
    job_of: Callable[[int, dict], Job],
    *,
    most: int,
    clock: Clock,
    on_end: Callable[[Trial], None],
) -> None:
    """Runs trials until there have been enough; those that an earlier call began go first.

    Args:
        trials: of the search.
        place: where they run.
        out: the search's folder.
        job_of: gives the job of a trial of this number with these values; its result is an `Outcome`.
        most: trials in all, with the starting configuration.
        clock: of the search.
        on_end: called with each trial that has ended.

    Raises:
        UserError: something that no other trial would get over either, such as a full disk.
    """
    begun = [trial for trial in trials.all if not trial.outcome]
    running: dict[str, Trial] = {}

    def following() -> Trial | None:
        if begun:
            return begun.pop(0)
        return trials.ask() if len(trials.all) < most and clock.left != 0 else None

    while True:
        while len(running) < place.capacity and (trial := following()):
            clock.tick()
            job = job_of(trial.number, trial.values)
            running[job.name] = trial
            place.start(job)
        if not running:
            return
        ended = place.wait()
        trial = running.pop(ended.job.name)
        clock.tick()
        if ended.error:
            raise ended.error
        outcome = ended.result
        if ended.died:
            outcome = Outcome(None, records.DIED)
            records.write_outcome(outcome, out, trial.number)
        trials.tell(trial, outcome)
        on_end(trial)
