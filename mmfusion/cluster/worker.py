"""Runs a job on a node of a cluster, and says before all jobs what the node lacks.

Nothing large is imported here: a job's process must settle its threads before TensorFlow is.
"""

import contextlib
import os
import pickle
import socket
import traceback
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mmfusion import __version__, files
from mmfusion.cluster.connection import HOW_TO_TOKEN
from mmfusion.errors import UserError, first_line
from mmfusion.startup import begin_command

WHERE = "On "  # a log's line that says where a job begins, or begins again
_PATIENCE = 120  # seconds that a job waits for a run folder which a process of a dead node may still hold


@dataclass(frozen=True)
class Settings:
    """Settings that each job of a command is run with."""

    threads: int  # of TensorFlow
    cache: str
    folder: str  # the command's working folder


def work(pickled: bytes, settings: Settings, log: str) -> tuple[Any, UserError | None]:
    """Runs a job in a process of its own; gives its result, and the UserError that it raised.

    Args:
        pickled: the job's work, as bytes: what it needs is imported here, after the threads are settled.
        settings: of every job.
        log: the file that has what it prints.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    with contextlib.suppress(OSError):  # where nothing was named from there
        os.chdir(settings.folder)
    files.wait_for_others(_PATIENCE)
    begin_command(settings.cache)
    with (
        Path(log).open("a", buffering=1, encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        print(f"{WHERE}{_node()}, process {os.getpid()}", flush=True)
        try:
            return pickle.loads(pickled)(), None
        except UserError as error:
            return None, UserError(str(error))
        except Exception as error:  # that of a program; the log has the whole
            traceback.print_exc()
            return None, UserError(f"{type(error).__name__}: {first_line(error)}; see {log}")


def _node() -> str:
    import ray

    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"


def versions() -> dict[str, str]:
    """Versions of what decides a run's bytes, by name."""
    found = {name: metadata.version(name) for name in ("tensorflow", "keras", "numpy")}
    return {"mmfusion": __version__, **found}


def lacks(marks: list[str], reads: list[str], expected: dict[str, str], needs_token: bool) -> str:
    """Says what this node lacks; "" where nothing.

    Args:
        marks: files that the command has just made in the folders which it shares.
        reads: paths of what jobs read.
        expected: versions, where the command runs.
        needs_token: whether others than this machine reach the cluster.
    """
    for path in (*marks, *reads):
        if not Path(path).exists():
            seen = Path(path).parent if path in marks else path
            return f"does not see {seen} as it is here; all nodes must see the same folders, at the same path"
    for name, version in versions().items():
        if version != expected[name]:
            return f"has {name} {version}, and not {expected[name]} as here; install the same on all nodes"
    if needs_token and os.environ.get("RAY_AUTH_MODE") != "token":
        return f"runs without token authentication; {HOW_TO_TOKEN}"
    return ""
