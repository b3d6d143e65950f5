"""Progress of many jobs at once: a line a job and one for all, in place on a terminal, now and then elsewhere."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mmfusion.cluster.worker import WHERE
from mmfusion.jobs import Job, minutes

_EVERY = 60  # seconds between two accounts, where they are lines


class Progress:
    """Says how far jobs are while its block lasts."""

    def __init__(self):
        self.total: int | None = None  # jobs of the command; None: not known beforehand
        self.done = 0
        self._logs: dict[Path, tuple[int, str]] = {}  # how far each was read, and where its job runs
        console = Console()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._began = self._said = time.monotonic()

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()

    def show(self, running: Sequence[tuple[Job, Path]], at_a_time: int) -> None:
        """Says it, on a terminal whenever it is called.

        Args:
            running: jobs with their logs.
            at_a_time: how many can run.
        """
        if not self._live and time.monotonic() - self._said < _EVERY:
            return
        self._said = time.monotonic()
        lines = [
            f"  {job.name}: {', '.join(filter(None, (self._where(log), *_how_far(job))))}" for job, log in running
        ]
        lines.append(f"  {self._of_all(len(running), at_a_time)}")
        if self._live:
            self._live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
        else:
            print(*lines, sep="\n", flush=True)

    def _of_all(self, running: int, at_a_time: int) -> str:
        said = f"{self.done} done, {running} running"
        if self.total is None:
            return said
        left = self.total - self.done
        said = f"{self.done} of {self.total} done, {running} running"
        if not self.done or not left:
            return said
        pace = (time.monotonic() - self._began) / self.done  # seconds a job, all running together
        return f"{said}, about {minutes(pace * max(left, 1))} left"

    def _where(self, log: Path) -> str:
        """The node on which a job runs, by its log, which is read on from where it was."""
        read, where = self._logs.get(log, (0, "waiting for a process"))
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(read)
            for line in file:
                if line.endswith(b"\n"):  # it is whole
                    read += len(line)
                    said = line.decode("utf-8", errors="replace").rstrip()
                    where = said.removeprefix(WHERE) if said.startswith(WHERE) else where
        self._logs[log] = read, where
        return where


def _how_far(job: Job) -> list[str]:
    """Epoch, validation score and time left of the last model that a job has begun to train."""
    histories = [file for folder in job.folders for file in sorted(folder.rglob("history.csv"))]
    if not histories:
        return []
    file = histories[-1]
    try:
        head, *lines = file.read_text("utf-8").splitlines()
        rows = [dict(zip(head.split(","), line.split(","))) for line in lines]
        most = json.loads((file.parent / "config.json").read_bytes())["training"]["epochs"]
        seconds = sum(float(row["seconds"]) for row in rows) / len(rows)
        epoch, score = int(rows[-1]["epoch"]), float(rows[-1]["val_pr_auc"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return []
    left = f"at most {minutes(seconds * (most - epoch))} left" if epoch < most else ""
    return [f"epoch {epoch} of {most}", f"validation PR-AUC {score:.4f}", left]
