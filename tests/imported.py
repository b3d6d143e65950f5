"""Imports all that a command's process does; `processes.Forked` forks from a process that has."""

import gc
import os
import sys
from pathlib import Path

from mmfusion.startup import begin_command, import_tensorflow

begin_command()
import_tensorflow()

import sketches  # noqa: E402

import tuning.search  # noqa: E402, F401
from mmfusion import train  # noqa: E402, F401
from mmfusion.reports import report  # noqa: E402, F401
from mmfusion.training import experiment  # noqa: E402, F401

sketches.sketch()
os.fsync = lambda file: None  # as `conftest.py` has it
# As `conftest.py` does; here also so that a fork shares these objects for as long as it lives.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)


def run(code: str, words: list[str], environment: dict[str, str], folder: Path) -> None:
    """Runs code as `python -c` does, with these words behind it; the folder's `out` and `err` have what it says."""
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY), number)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    sys.argv = ["-c", *words]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
