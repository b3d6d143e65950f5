"""Many trainings, each a job: in this process, one after the other, or on a Ray cluster, a process each."""

import abc
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmfusion.errors import UserError

ATTEMPTS = 3  # a job in which the process died so often is not begun again


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
    left, running = list(jobs), set()
    while left or running:
        waited_for = running | {job.name for job in left}
        ready = [job for job in left if not waited_for & {*job.needs}]
        for job in ready[: place.capacity - len(running)]:
            left.remove(job)
            running.add(job.name)
            on_start(job)
            place.start(job)
        ended = place.wait()
        running.remove(ended.job.name)
        if ended.died:
            what = f"the process died {ATTEMPTS} times, perhaps for want of memory"
            raise UserError(f"{ended.job.name}: {what}; the same command goes on with it")
        if ended.error:
            raise ended.error
        on_end(ended)
