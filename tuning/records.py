"""Records of a search: what it is, and of each trial, in a folder of its own, what is known of it."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mmfusion.config import Config
from mmfusion.config.idle import flat
from mmfusion.errors import UserError
from mmfusion.files import make_folder, write_atomically

START = 0  # number of the trial that is the starting configuration


@dataclass(frozen=True)
class Search:
    """A search's decisions; kept in its folder as `search.json`."""

    variant: str
    tuner: str
    objective: str
    seed: int
    names: tuple[str, ...]  # of the hyperparameters
    start: Mapping[str, Config]  # of the variant, and for late fusion before it of its parts
    fingerprint: str  # of the films, and their split

    def to_dict(self) -> dict:
        """Plain dicts, lists and scalars, ready for JSON."""
        start = {name: config.to_dict() for name, config in self.start.items()}
        return json.loads(json.dumps({**vars(self), "start": start}))


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
    """One trial; what was asked for is kept in its folder as `trial.json`, before it begins."""

    out: Path  # the search's folder
    number: int  # counted from `START`
    values: dict[str, Any]  # by hyperparameter, and for Hyperband how long it lasts and what it goes on from
    # Numbers of the trials that the oracle was told of since it was asked for the one before: with these it comes
    # to the same next question by the same way.
    after: tuple[int, ...] = ()
    outcome: Outcome | None = None  # until it has ended

    @property
    def name(self) -> str:
        """As a line of the screen says it."""
        return "start" if self.number == START else f"trial {self.number}"

    @property
    def folder(self) -> Path:
        """Its own, in that of its search."""
        return self.out / "trials" / f"trial_{self.number}"

    def keep(self) -> None:
        """Keeps what was asked for."""
        said = {"values": self.values, "after": self.after}
        make_folder(self.folder)
        write_atomically(self.folder / "trial.json", json.dumps(said, indent=2) + "\n")

    def end(self, outcome: Outcome) -> None:
        """Keeps what it gave."""
        self.outcome = outcome
        write_atomically(self.folder / "outcome.json", _OUTCOME.dump_json(outcome, indent=2) + b"\n")


_OUTCOME = TypeAdapter(Outcome)


def keep(search: Search, out: Path) -> None:
    """Writes what the search is, or makes sure that the folder holds the same one."""
    file = out / "search.json"
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists already and holds no search; name another --out")
        make_folder(out)
        write_atomically(file, json.dumps(search.to_dict(), indent=2) + "\n")
    try:
        there = json.loads(file.read_bytes())
        found, wanted = flat(there), flat(search.to_dict())
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file} cannot be read: {error}; name another --out") from error
    differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
    if differing:
        what = differing[0].partition(".")[0]
        said = [f"{key.removeprefix('start.')} {found.get(key)} and {wanted.get(key)}" for key in differing]
        if what == "names":
            said = sorted({*there["names"]} ^ {*search.names}) or ["another order"]
        what = {"fingerprint": "films", "names": "hyperparameters", "start": "settings"}.get(what, what)
        raise UserError(
            f"{out} holds a search with another {what}; name another --out (there and now: {', '.join(said[:3])})"
        )


def read_trials(out: Path) -> list[Trial]:
    """Reads all that is known of a search's trials, by number.

    Raises:
        UserError: a trial's file is damaged, or one is missing between others.
    """
    found = []
    names = [file.parent.name for file in out.glob("trials/trial_*/trial.json")]
    for number in sorted(int(name.removeprefix("trial_")) for name in names):
        if number != len(found):
            raise UserError(f"{out} has no trial {len(found)}, but later ones; delete those to try them again")
        trial = Trial(out, number, {})
        file = trial.folder / "trial.json"
        try:
            said = json.loads(file.read_bytes())
            trial.values, trial.after = dict(said["values"]), tuple(range(number)[one] for one in said["after"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{file} cannot be read; delete this trial's folder and those of later trials to try them again"
            ) from error
        # Where the process died before it could write an outcome, the trial runs again.
        with contextlib.suppress(OSError, ValidationError):
            trial.outcome = _OUTCOME.validate_json((trial.folder / "outcome.json").read_bytes())
        found.append(trial)
    return found
