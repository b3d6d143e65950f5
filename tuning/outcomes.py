"""Outcomes of trials, each in a file of its own: written by whoever ran it, read by whoever reports."""

import dataclasses
import json
from pathlib import Path

from mmfusion.files import write_atomically


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of a trial; kept in its folder as `outcome.json`."""

    score: float | None  # None: it failed
    reason: str  # why it failed
    seconds: float
    epochs: int  # that the models were trained for, all together
    parameters: int | None
    models: tuple[str, ...]  # folders in `models/`


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Writes it into a trial's folder."""
    write_atomically(folder / "outcome.json", json.dumps(dataclasses.asdict(outcome), indent=2) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """Reads a trial's outcome from its folder; None where the process died before it could write that."""
    try:
        return Outcome(**json.loads((folder / "outcome.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
