"""Records of trials: what is known of each is in a folder of its own, and nowhere else."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mmfusion.errors import UserError
from mmfusion.files import make_folder, write_atomically
from mmfusion.jobs import ATTEMPTS

START = 0  # number of the trial that is the starting configuration
DIED = f"the process died {ATTEMPTS} times in this trial, perhaps for want of memory"
_PREFIX = "trial_"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a trial; kept in its folder as `outcome.json`, by whoever ran it."""

    score: float | None  # None: it failed
    reason: str  # why it failed
    seconds: float = 0.0
    epochs: int = 0  # that the models were trained for, all together
    parameters: int | None = None
    models: tuple[str, ...] = ()  # folders in `models/`


@dataclass
class Trial:
    """One trial; what was asked for is kept in its folder as `trial.json`, before it begins.

    Args:
        number: counted from `START`.
        values: by hyperparameter, and for Hyperband how long it lasts and what it goes on from.
        after: numbers of the trials that the oracle was told of since it was asked for the one before: with these
            it comes to the same next question by the same way.
        outcome: None until it has ended.
    """

    number: int
    values: dict[str, object]
    after: tuple[int, ...] = ()
    outcome: Outcome | None = None

    @property
    def name(self) -> str:
        """The number, but for the first."""
        return "start" if self.number == START else str(self.number)


_OUTCOME = TypeAdapter(Outcome)


def folder_of(out: Path, number: int) -> Path:
    """The folder of a trial in that of its search."""
    return out / "trials" / f"{_PREFIX}{number}"


def write_trial(trial: Trial, out: Path) -> None:
    """Keeps what was asked for, before it begins."""
    said = {"values": trial.values, "after": trial.after}
    make_folder(folder_of(out, trial.number))
    write_atomically(folder_of(out, trial.number) / "trial.json", json.dumps(said, indent=2) + "\n")


def write_outcome(outcome: Outcome, out: Path, number: int) -> None:
    """Keeps what a trial gave."""
    write_atomically(folder_of(out, number) / "outcome.json", _OUTCOME.dump_json(outcome, indent=2) + b"\n")


def read_trials(out: Path) -> list[Trial]:
    """Reads all that is known of a search's trials, by number.

    Raises:
        UserError: a trial's file is damaged, or one is missing between others.
    """
    files = {int(one.parent.name.removeprefix(_PREFIX)): one for one in out.glob(f"trials/{_PREFIX}*/trial.json")}
    found = []
    for number, file in sorted(files.items()):
        if number != len(found):
            raise UserError(f"{out} has no trial {len(found)}, but later ones; delete those to try them again")
        try:
            said = json.loads(file.read_bytes())
            trial = Trial(number, dict(said["values"]), tuple(said["after"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} cannot be read; delete this trial's folder and those of later trials to try them again"
            ) from error
        # Where the process died before it could write an outcome, the trial runs again.
        with contextlib.suppress(OSError, ValidationError):
            trial.outcome = _OUTCOME.validate_json((file.parent / "outcome.json").read_bytes())
        found.append(trial)
    return found


@contextlib.contextmanager
def attempt(folder: Path) -> Iterator[int]:
    """Counts, in a trial's folder, how often a process died in the block; gives the number of this attempt.

    An end by hand is no fault of the trial.
    """
    file = folder / "attempts"
    try:
        before = int(file.read_bytes())
    except (OSError, ValueError):
        before = 0
    write_atomically(file, f"{before + 1}\n")
    try:
        yield before + 1
    except (Exception, KeyboardInterrupt):
        file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)
