"""The place of jobs that a Ray cluster is: hands each to a node, and once more when its process has died."""

import contextlib
import pickle
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfusion import files
from mmfusion.cluster import worker
from mmfusion.cluster.connection import check_address, given_cluster, is_loopback, own_cluster
from mmfusion.cluster.progress import Progress
from mmfusion.errors import UserError, first_line
from mmfusion.jobs import ATTEMPTS, Ended, Job, Place


class OnRay(Place):
    """A Ray cluster, given or of this machine's own.

    Args:
        address: of a cluster; None: one is started for this block.
        out: where results go, named from the root; every node must see it.
        cache: of prepared films, likewise.
        cpus: processors of a job, and threads of TensorFlow.
        gpus: GPUs of a job, or a part of one.

    Raises:
        UserError: whoever reaches the cluster could run code on it.
    """

    def __init__(self, address: str | None, out: Path, cache: Path, *, cpus: int, gpus: float):
        if address:
            check_address(address)
        self._address, self._out, self._cache = address, out, cache
        self._cpus, self._gpus = cpus, gpus
        self._running: dict[Any, Job] = {}
        self._deaths: Counter[str] = Counter()
        self._last = contextlib.ExitStack()

    def __enter__(self):
        """Begins the cluster, or finds it.

        Raises:
            UserError: there is none, it may not be used, or no node has room for a job.
        """
        files.make_folder(self._out / "logs")
        with self._last as last:
            self._ray = last.enter_context(given_cluster(self._address) if self._address else own_cluster())
            last.callback(self._cancel)
            if not self.capacity:
                of_each = f"{self._cpus} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
                raise UserError(f"no node of the cluster has {of_each}; lower --cpus-per-run or --gpus-per-run")
            self._progress = last.enter_context(Progress())
            self._last = last.pop_all()
        return self

    def __exit__(self, *_):
        self._last.close()

    @property
    def capacity(self) -> int:
        """Counts the jobs that the nodes which are alive have room for."""
        room = 0
        for node in self._nodes():
            has = node["Resources"]
            of_cpus = int(has.get("CPU", 0) // self._cpus)
            room += min(of_cpus, int(has.get("GPU", 0) / self._gpus)) if self._gpus else of_cpus
        return room

    def expect(self, total: int | None, reads: Sequence[Path]) -> None:
        """Looks at each node, and at what follows, before the first job.

        Raises:
            UserError: a node lacks something.
        """
        self._progress.total = total
        if self._address:
            self._check_nodes([str(path) for path in reads])

    def start(self, job: Job) -> None:
        """Hands a job to Ray."""
        settings = worker.Settings(self._cpus, str(self._cache), str(Path.cwd()))
        # No `max_retries`: we begin it again ourselves, and say so.
        task = self._remote(worker.work, max_retries=0)
        self._running[task.remote(pickle.dumps(job.work), settings, str(self._log(job)))] = job

    def wait(self) -> Ended:
        """Waits for one, and says meanwhile how far they are; one whose process dies is begun again."""
        while True:
            done, _ = self._ray.wait(list(self._running), timeout=1)
            self._progress.show([(job, self._log(job)) for job in self._running.values()], self.capacity)
            if not done:
                continue
            job = self._running.pop(done[0])
            try:
                result, error = self._ray.get(done[0])
            except (
                self._ray.exceptions.WorkerCrashedError,
                self._ray.exceptions.NodeDiedError,
                self._ray.exceptions.LocalRayletDiedError,
                self._ray.exceptions.OutOfMemoryError,
            ):
                self._deaths[job.name] += 1
                if self._deaths[job.name] == ATTEMPTS:
                    return Ended(job, died=True)
                print(f"{job.name}: its process died; it is begun again", flush=True)
                self.start(job)
                continue
            except self._ray.exceptions.RayError as error:
                raise UserError(f"{job.name}: {first_line(error)}") from error
            self._progress.done += 1
            return Ended(job, result, error)

    def _log(self, job: Job) -> Path:
        return self._out / "logs" / f"{job.name.replace('/', '-')}.log"

    def _remote(self, function, **options):
        # `max_calls`: a process does one job, and all that TensorFlow keeps ends with it.
        return self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_calls=1, **options)(function)

    def _nodes(self) -> list[dict]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _cancel(self) -> None:
        for reference in self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)

    def _check_nodes(self, reads: list[str]) -> None:
        """Refuses a node that lacks what jobs need, in one line."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        needs_token = not is_loopback(self._ray.get_runtime_context().gcs_address)
        files.make_folder(self._cache)
        with (
            tempfile.NamedTemporaryFile(dir=self._out / "logs") as of_out,
            tempfile.NamedTemporaryFile(dir=self._cache) as of_cache,
        ):
            asked = {}
            for node in self._nodes():
                there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ask = self._ray.remote(num_cpus=0, max_calls=1, scheduling_strategy=there)(worker.lacks)
                marks = [of_out.name, of_cache.name]
                asked[node["NodeManagerAddress"]] = ask.remote(marks, reads, worker.versions(), needs_token)
            for address, reference in asked.items():
                try:
                    lacks = self._ray.get(reference, timeout=120)
                except self._ray.exceptions.RayError as error:
                    lacks = f"cannot run mmfusion: {(str(error).strip().splitlines() or ['no answer'])[-1]}"
                if lacks:
                    raise UserError(f"node {address} {lacks}")
