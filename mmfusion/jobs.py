"""Many trainings, each a job: in this process, one after the other, or on a Ray cluster, a process each."""

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfusion.errors import UserError
from mmfusion.files import write_atomically

ATTEMPTS = 3  # a job in which the process died so often is not begun again
DIED = f"the process died {ATTEMPTS} times, perhaps for want of memory"


@dataclass(frozen=True)
class Job:
    """One training, or one trial of a search.

    Args:
        name: as a line of the screen says it.
        folders: of what it trains, in this order: how far it is can be seen there.
        work: what to do; it can be pickled, goes on with what is in the folders, and gives something small.
        needs: names of jobs that must be finished before, as far as they are jobs of the same list.
    """

    name: str
    folders: tuple[Path, ...]
    work: Callable[[], Any]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """End of a job: a result, what it raised, or the death of its process."""

    job: Job
    result: Any = None
    error: Exception | None = None
    died: bool = False  # ATTEMPTS times


class Place(contextlib.AbstractContextManager, abc.ABC):
    """Place at which jobs run; what still runs when its block is left is stopped."""

    @property
    @abc.abstractmethod
    def capacity(self) -> int:
        """Counts the jobs that can run at a time."""

    def expect(self, total: int | None, reads: Sequence[Path]) -> None:
        """Says what is coming, inside the block and before the first job.

        Args:
            total: how many jobs; None: not known beforehand.
            reads: paths that jobs read.

        Raises:
            UserError: something lacks where jobs would run.
        """
        return

    @abc.abstractmethod
    def start(self, job: Job) -> None:
        """Lets a job begin; no more than `capacity` at a time."""

    @abc.abstractmethod
    def wait(self) -> Ended:
        """Gives one that has ended, of those that were started."""

    def __exit__(self, *_):
        return None


class Here(Place):
    """In this process, one after the other."""

    def __init__(self):
        self._started: list[Job] = []

    @property
    def capacity(self) -> int:
        """One."""
        return 1

    def start(self, job: Job) -> None:
        """Puts it in the queue: it runs when it is waited for."""
        self._started.append(job)

    def wait(self) -> Ended:
        """Runs the oldest one."""
        job = self._started.pop(0)
        try:
            return Ended(job, job.work())
        except UserError as error:
            return Ended(job, error=error)


def run(following: Callable[[], Job | None], place: Place, on_end: Callable[[Ended], None]) -> None:
    """Runs jobs until none follows and none is left running.

    Args:
        following: gives the next one; None when there is none, or none before another one has ended.
        place: where they run.
        on_end: called with each that has ended, however it did; what it raises ends all.
    """
    running = 0
    while True:
        # Where every node is gone one job waits for another node.
        while running < max(1, place.capacity) and (job := following()):
            running += 1
            place.start(job)
        if not running:
            return
        ended = place.wait()
        running -= 1
        on_end(ended)


def run_all(
    jobs: Sequence[Job],
    place: Place,
    *,
    on_start: Callable[[Job], None],
    on_end: Callable[[Ended], None],
) -> None:
    """Runs jobs, in their order as far as their needs and the place allow.

    Args:
        jobs: of different names.
        place: where they run.
        on_start: called with each that begins.
        on_end: called with each that has ended well.

    Raises:
        UserError: what a job raised, or it names one that died too often; nothing else is begun then.
    """
    left, unfinished = list(jobs), {job.name for job in jobs}

    def following() -> Job | None:
        job = next((job for job in left if not unfinished & {*job.needs}), None)
        if job:
            left.remove(job)
            on_start(job)
        return job

    def end(ended: Ended) -> None:
        if ended.died:
            raise UserError(f"{ended.job.name}: {DIED}; the same command goes on with it")
        if ended.error:
            raise ended.error
        unfinished.remove(ended.job.name)
        on_end(ended)

    run(following, place, end)


@contextlib.contextmanager
def attempt(folder: Path) -> Iterator[int]:
    """Counts, in a job's folder, how often a process died in the block; gives the number of this attempt.

    An end by hand is no fault of the job.
    """
    file, before = folder / "attempts", 0
    with contextlib.suppress(OSError, ValueError):
        before = int(file.read_bytes())
    write_atomically(file, f"{before + 1}\n")
    try:
        yield before + 1
    except (Exception, KeyboardInterrupt):
        file.unlink(missing_ok=True)
        raise
    file.unlink(missing_ok=True)


def minutes(seconds: float) -> str:
    """Says how long something takes, about: "4 min"."""
    return f"{max(1, round(seconds / 60))} min"
