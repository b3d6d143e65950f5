"""Commands in processes of their own, which meet their end at a chosen moment."""

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

import imported
import pytest
from conftest import command

from mmfusion import inference, train
from mmfusion.runs import Run


class Process:
    """Python code in a process of its own."""

    _how = "-c"

    def __init__(self, code: str, *args, **options):
        """Starts it: the code is run with these arguments in `sys.argv`."""
        words = [sys.executable, self._how, code, *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.popen = subprocess.Popen(words, **pipes, **options)

    def end(self) -> tuple[int, str, str]:
        """Waits for its end: exit code (the signal's number, negative, when it was killed), output, errors."""
        out, err = self.popen.communicate(timeout=300)
        return self.popen.returncode, out, err


class Module(Process):
    """The same of a module, by its name."""

    _how = "-m"


class Forked:
    """The same, forked from a process that has imported TensorFlow: an interpreter of its own takes seconds to.

    Whose claim is about how a process starts takes a `Process`.
    """

    _context = multiprocessing.get_context("forkserver")

    def __init__(self, code: str, *args, env: dict[str, str] | None = None):
        """Starts it; `env` is its whole environment."""
        _begin_forking(self._context)
        self.folder = Path(tempfile.mkdtemp())
        words = [code, [*map(str, args)], dict(os.environ if env is None else env), self.folder]
        for name in ("out", "err"):
            (self.folder / name).touch()
        self._process = self._context.Process(target=imported.run, args=words)
        self._process.start()
        atexit.register(self._process.kill)  # Python would wait for one that a failed test has left stopped

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.is_alive()

    @property
    def stopped(self) -> bool:
        """Tells if a signal has stopped it, to go on later."""
        state = subprocess.run(["ps", "-o", "state=", "-p", str(self.pid)], capture_output=True, check=False)
        return state.stdout.startswith(b"T")

    def said(self) -> str:
        """Its output so far."""
        return (self.folder / "out").read_text("utf-8")

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str, str]:
        """As a `Process` does."""
        self._process.join(300)
        assert not self.runs, f"it has not ended in time: {self.said()[-200:]}"
        found = self._process.exitcode, self.said(), (self.folder / "err").read_text("utf-8")
        shutil.rmtree(self.folder)
        return found


def _begin_forking(context) -> None:
    """Starts the process that others are forked from, unless it runs."""
    context.set_forkserver_preload(["imported"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # where `imported` is
        forkserver.ensure_running()


def main_of(module: str) -> str:
    """Code that ends as the module's command does, for a process that may have imported it before."""
    return f"""
import sys
from mmfusion.errors import run_command
from {module} import main
sys.exit(run_command(main))
"""


TRAIN = main_of("mmfusion.train")


def one_line(errors: str) -> str:
    """What a command said on stderr of a fault: the last line, with no trace of the program above it."""
    assert "Traceback" not in errors
    return errors.strip().splitlines()[-1]


# Put before that: lets something happen (`end`) when something else does for the nth time.
AT_LAST = """
import os, pathlib, resource, signal, sys, zipfile
from mmfusion.startup import import_tensorflow
import_tensorflow()
from mmfusion.reports import report
from mmfusion.training import experiment, fitting
from mmfusion import inference
from mmfusion.training.checkpoint import Checkpoint
from mmfusion.data import prepared

def at_last(where, name, end, only=lambda *args: True):
    real = getattr(where, name, lambda *args, **kwargs: None)
    def counted(*args, **kwargs):
        global times
        times -= only(*args)
        if times == 0:
            end()
            times = -1
        return real(*args, **kwargs)
    setattr(where, name, counted)

def at(what, end):
    if what == "batch":
        at_last(Checkpoint, "on_train_batch_end", end)
    elif what == "epoch":
        at_last(Checkpoint, "on_epoch_begin", end)
    elif what == "fit":
        at_last(fitting, "fit", end)
    elif what == "logits":
        at_last(fitting, "logits_of", end)
    elif what == "poster":
        at_last(prepared, "decode_poster", end)
    elif what == "report":
        at_last(report, "write_report", end)
    elif what == "sealed":
        at_last(pathlib.Path, "unlink", end, lambda path, *args: path.name == "resume.npz")
    elif what == "archive":  # model.keras has its small members, and no weights yet
        at_last(zipfile.ZipFile, "writestr", end)
    else:  # a file that is written, and not in its place yet
        at_last(pathlib.Path, "replace", end, lambda path, place: place.name == what)
"""

# Appended to that: a real SIGKILL there.
KILL = """
what, times = sys.argv.pop(1), int(sys.argv.pop(1))
at(what, lambda: os.kill(os.getpid(), signal.SIGKILL))
"""


def resumed(folder: Path, monkeypatch) -> bytes:
    """The final predictions of a run that is gone on with; nothing half written is left in it."""
    assert command(train.main, monkeypatch, "--resume", folder) == 0
    assert not list(folder.rglob(".*"))
    run = Run.open(folder)
    run.predictions("test")  # as its manifest says
    inference.load_model(run)
    return run.predictions_file.read_bytes()
