"""The driver of a search: it alone asks the oracle what to try and tells it the score, wherever trials run."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from mmfusion import jobs
from mmfusion.errors import UserError
from mmfusion.files import write_atomically
from tuning.oracles import Asked
from tuning.records import Outcome, Trial, read_trials


class Clock:
    """Counts a search's minutes over all calls; they begin with a call's first trial.

    Args:
        out: the search's folder, which keeps them.
        minutes: after which no trial begins; None: no limit.
    """

    def __init__(self, out: Path, minutes: float | None):
        self._file, self._minutes = out / "spent.json", minutes
        self._spent, self._last = 0.0, 0.0
        with contextlib.suppress(OSError, ValueError):
            self._spent = float(self._file.read_bytes())

    @property
    def left(self) -> float | None:
        """Seconds, as a trial began or ended the last time; None without a limit."""
        return None if self._minutes is None else max(0.0, 60 * self._minutes - self._spent)

    def tick(self) -> None:
        """Keeps the time, as a trial begins or ends."""
        now = time.monotonic()
        self._spent += now - (self._last or now)
        self._last = now
        write_atomically(self._file, f"{self._spent:.1f}\n")


class Trials:
    """The trials of a search, in its folder and before its oracle.

    Args:
        oracle: new; it is told all that the folder has.
        out: the search's folder.
        clock: of the search.

    Raises:
        UserError: the folder is damaged.
    """

    def __init__(self, oracle: Asked, out: Path, clock: Clock):
        self._oracle, self._out, self._clock = oracle, out, clock
        self._told: list[int] = []  # since it was asked the last time
        self.all: list[Trial] = read_trials(out)
        untold = dict(enumerate(self.all))
        for trial in self.all:
            for number in trial.after:
                self._tell(untold.pop(number))
            oracle.ask(trial.values)
        self._told = []
        for trial in [one for one in untold.values() if one.outcome]:
            self._tell(trial)

    @property
    def ended(self) -> list[Trial]:
        """Those that have an outcome, by number."""
        return [trial for trial in self.all if trial.outcome]

    def run(
        self, most: int, place: jobs.Place, job_of: Callable[[Trial], jobs.Job], on_end: Callable[[Trial], None]
    ) -> None:
        """Runs trials until there have been enough; those that an earlier call began go first.

        Args:
            most: trials in all, with the starting configuration.
            place: where they run.
            job_of: gives the job of a trial; its result is an `Outcome`.
            on_end: called with each trial that has ended.

        Raises:
            UserError: something that no other trial would get over either, such as a full disk.
        """
        begun = [trial for trial in self.all if not trial.outcome]
        running: dict[str, Trial] = {}

        def following() -> jobs.Job | None:
            trial = begun.pop(0) if begun else None
            if not trial and len(self.all) < most and self._clock.left != 0:
                trial = self._ask()
            if not trial:
                return None
            self._clock.tick()
            job = job_of(trial)
            running[job.name] = trial
            return job

        def end(ended: jobs.Ended) -> None:
            self._clock.tick()
            if ended.error:
                raise ended.error
            trial = running.pop(ended.job.name)
            trial.outcome = ended.result
            if ended.died:
                trial.end(Outcome(None, jobs.DIED))
            self._tell(trial)
            on_end(trial)

        jobs.run(following, place, end)

    def _ask(self) -> Trial | None:
        """Gives one more; None when there is none, or none before another one has ended."""
        values = self._oracle.ask()
        if values is None:
            return None
        trial = Trial(self._out, len(self.all), values, tuple(self._told))
        trial.keep()
        self.all.append(trial)
        self._told = []
        return trial

    def _tell(self, trial: Trial) -> None:
        if trial.outcome is None:
            no = f"{trial.folder} has no outcome, which later trials go by"
            raise UserError(f"{no}; delete those to try them again")
        self._oracle.tell(trial.number, trial.outcome.score)
        self._told.append(trial.number)
