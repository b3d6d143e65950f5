"""Records of trials: what is known of each is in a folder of its own, and nowhere else."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import make_folder, write_atomically
from mmfusion.jobs import ATTEMPTS

START = 0  # number of the trial that is the starting configuration
DIED = f"the process died {ATTEMPTS} times in this trial, perhaps for want of memory"
_PREFIX = "trial_"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of a trial; kept in its folder as `outcome.json`, by whoever ran it."""

    score: float | None  # None: it failed
    reason: str  # why it failed
    seconds: float = 0.0
    epochs: int = 0  # that the models were trained for, all together
    parameters: int | None = None
    models: tuple[str, ...] = ()  # folders in `models/`


@dataclasses.dataclass
class Trial:
    """One trial; the first two are kept in its folder as `trial.json`, before it begins.

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
    text = json.dumps(dataclasses.asdict(outcome), indent=2) + "\n"
    write_atomically(folder_of(out, number) / "outcome.json", text)


def read_trials(out: Path) -> list[Trial]:
    """Reads all that is known of a search's trials, by number.

    Raises:
        UserError: a trial's file is damaged, or one is missing between others.
    """
    files = {
        int(file.parent.name.removeprefix(_PREFIX)): file for file in out.glob(f"trials/{_PREFIX}*/trial.json")
    }
    found = []
    for number, file in sorted(files.items()):
        if number != len(found):
            raise UserError(f"{out} has no trial {len(found)}, but later ones; delete those to try them again")
        try:
            said = json.loads(file.read_bytes())
            trial = Trial(number, dict(said["values"]), tuple(said["after"]), _read_outcome(file.parent))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} cannot be read; delete this trial's folder and those of later trials to try them again"
            ) from error
        found.append(trial)
    return found


def _read_outcome(folder: Path) -> Outcome | None:
    """None where the process died before it could write it: the trial runs again."""
    try:
        said = json.loads((folder / "outcome.json").read_bytes())
        return Outcome(**{**said, "models": tuple(said["models"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
