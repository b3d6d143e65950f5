"""Commands in processes of their own, which meet their end at a chosen moment."""

import subprocess
import sys
from pathlib import Path

from conftest import command

from mmfusion import inference, train
from mmfusion.runs import Run


class Process:
    """Python code in a process of its own."""

    def __init__(self, code: str, *args, **options):
        """Starts it: the code is run with these arguments in `sys.argv`."""
        words = [sys.executable, "-c", code, *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.popen = subprocess.Popen(words, **pipes, **options)

    def end(self) -> tuple[int, str, str]:
        """Waits for its end: exit code (the signal's number, negative, when it was killed), output, errors."""
        out, err = self.popen.communicate(timeout=300)
        return self.popen.returncode, out, err


TRAIN = """
import sys
from mmfusion.errors import run_command
from mmfusion.train import main
sys.exit(run_command(main))
"""


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
from mmfusion.data import films

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
        at_last(films, "decode_poster", end)
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
