"""Jobs on a Ray cluster: a process each, on whichever node has room, begun again elsewhere when it dies.

Only Ray's core is used. The nodes share a folder, at the same path, and nothing else.
"""

import argparse
import contextlib
import logging
import os
import pickle
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfusion import files
from mmfusion.errors import UserError
from mmfusion.jobs import ATTEMPTS, Ended, Here, Job, Place
from mmfusion.startup import begin_command

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PATIENCE = 120  # seconds that a job waits for a run folder which a process of a dead node may still hold
_EVERY = 60  # seconds between two lines on what runs
_STORE = 80 * 2**20  # bytes, nearly the least that Ray takes: results are small
_HOW = "`ray get-auth-token --generate` makes a token, and RAY_AUTH_MODE=token switches it on, on every node"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say where jobs run."""
    group = parser.add_argument_group("many at a time")
    group.add_argument("--on", choices=("here", "ray"), default="here", help="in this process (default), or on Ray")
    group.add_argument("--address", help="of a Ray cluster (default: $RAY_ADDRESS, else one of this machine's own)")
    group.add_argument("--cpus-per-run", type=int, metavar="N", help="processors of each, and threads (default: 1)")
    group.add_argument("--gpus-per-run", type=float, metavar="G", help="GPUs, or a part of one (default: 0)")


def place_of(args: argparse.Namespace, cache: Path, paths: Sequence[Path] = ()) -> Place:
    """Gives the place that the flags name.

    Args:
        args: with the flags of `add_flags`, and `out`.
        cache: where prepared films are kept.
        paths: what each node must see, beside `out` and the cache.

    Raises:
        UserError: a flag does nothing, or makes no sense.
    """
    given = {name: getattr(args, name) for name in ("address", "cpus_per_run", "gpus_per_run")}
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is not None and args.on == "here":
            raise UserError(f"{flag} does nothing without --on ray; leave it out")
        if name != "address" and value is not None and not value > 0:
            raise UserError(f"{flag} must be greater than 0")
    if args.on == "here":
        return Here()
    cpus, gpus = args.cpus_per_run or 1, args.gpus_per_run or 0.0
    return OnRay(args.address, args.out, cache, cpus=cpus, gpus=gpus, paths=paths)


class OnRay(Place):
    """A Ray cluster, given or of this machine's own.

    Args:
        address: of a cluster; None: $RAY_ADDRESS, or else one is started for this block.
        out: where results go; every node must see it.
        cache: of prepared films, likewise.
        cpus: processors of a job, and threads of TensorFlow.
        gpus: GPUs of a job, or a part of one.
        paths: what else every node must see.

    Raises:
        UserError: whoever reaches the cluster could run code on it.
    """

    def __init__(
        self, address: str | None, out: Path, cache: Path, *, cpus: int, gpus: float, paths: Sequence[Path]
    ):
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._out, self._cache, self._cpus, self._gpus = out.resolve(), cache, cpus, gpus
        self._paths = [self._out, cache, *(path.resolve() for path in paths)]
        if self._address and _host(self._address) not in _LOOPBACK and not _has_token():
            raise UserError(f"{self._address}: a Ray cluster runs what anybody sends it; {_HOW}")
        self._running: dict[Any, Job] = {}
        self._said = time.monotonic()
        self._last = contextlib.ExitStack()

    def __enter__(self):
        """Begins the cluster, or finds it and looks at each node.

        Raises:
            UserError: there is none, it may not be used, or a node lacks something.
        """
        files.make_folder(self._out / "logs")
        with self._last as last:
            self._ray = last.enter_context(_given(self._address) if self._address else _own())
            last.callback(self._cancel)
            if self._address:
                self._check_nodes()
            if not self.capacity:
                of_each = f"{self._cpus} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
                raise UserError(f"no node of the cluster has {of_each}; lower --cpus-per-run or --gpus-per-run")
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

    def start(self, job: Job) -> None:
        """Hands a job to Ray."""
        log = self._out / "logs" / f"{job.name.replace('/', '-')}.log"
        # As bytes: what it needs is imported there, and not before the threads are settled.
        task = self._remote(_work, max_retries=ATTEMPTS - 1)
        job_and_place = pickle.dumps(job.work), self._cpus, str(self._cache), str(log), str(Path.cwd())
        reference = task.remote(*job_and_place)
        self._running[reference] = job

    def wait(self) -> Ended:
        """Waits for one, and says now and then how far they are."""
        while True:
            done, _ = self._ray.wait(list(self._running), timeout=1)
            if done:
                break
            if time.monotonic() - self._said > _EVERY:
                self._said = time.monotonic()
                print(
                    *(f"  {job.name}: {progress(job.folder)}" for job in self._running.values()),
                    sep="\n",
                    flush=True,
                )
        job = self._running.pop(done[0])
        try:
            result, error = self._ray.get(done[0])
        except (
            self._ray.exceptions.WorkerCrashedError,
            self._ray.exceptions.NodeDiedError,
            self._ray.exceptions.OutOfMemoryError,
        ):
            return Ended(job, died=True)
        except self._ray.exceptions.RayError as error:
            raise UserError(f"{job.name}: {(str(error).splitlines() or ['Ray ended it'])[0]}") from error
        return Ended(job, result, error)

    def _remote(self, function, **options):
        # `max_calls`: a process does one job, and all that TensorFlow keeps ends with it.
        return self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_calls=1, **options)(function)

    def _nodes(self) -> list[dict]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _cancel(self) -> None:
        for reference in self._running:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)

    def _check_nodes(self) -> None:
        """Refuses a node that lacks what jobs need, in one line."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        loopback = _host(self._ray.get_runtime_context().gcs_address) in _LOOPBACK
        files.make_folder(self._cache)
        for node in self._nodes():
            there: Any = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = self._ray.remote(num_cpus=0, max_calls=1, scheduling_strategy=there)(_lacks)
            try:
                lacks = self._ray.get(task.remote([str(path) for path in self._paths], not loopback), timeout=120)
            except self._ray.exceptions.RayError as error:
                lacks = f"cannot run mmfusion: {(str(error).strip().splitlines() or ['it does not answer'])[-1]}"
            if lacks:
                raise UserError(f"node {node['NodeManagerAddress']} {lacks}")


def progress(folder: Path) -> str:
    """Says how far the run in a folder is, by its history."""
    try:
        head, *lines = (folder / "history.csv").read_text("utf-8").splitlines()
        last = dict(zip(head.split(","), lines[-1].split(",")))
    except (OSError, ValueError, IndexError):
        return "running"
    score = last.get("val_pr_auc", "")[:6]
    return f"epoch {last.get('epoch', '?')}" + (f", validation PR-AUC {score}" if score else "")


@contextlib.contextmanager
def _own():
    """A cluster of this machine's own, which nobody else reaches; it ends with the block."""
    # Ray's name for a cluster of one machine: without it every process listens on all of its addresses.
    settled = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    ray = _import_ray(settled)
    folder = tempfile.mkdtemp(prefix="ray-")  # short: paths of sockets must be
    print("Starting a Ray cluster on this machine ...", file=sys.stderr, flush=True)
    try:
        ray.init(
            address="local",
            num_cpus=os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_STORE,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _given(address: str):
    """A cluster that somebody has started; it stays when the block is left."""
    ray = _import_ray({})
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray's and gRPC's, of many kinds
        what = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{address}: no Ray cluster can be reached there: {what}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray(settled: dict[str, str]) -> Any:
    os.environ.update(settled)
    # No statistics of use are sent, and a job without a GPU sees none.
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"})
    try:
        import ray
    except ImportError as error:
        raise UserError("--on ray needs Ray: pip install -e '.[cluster]'") from error
    return ray


def _host(address: str) -> str:
    return address.removeprefix("ray://").rpartition(":")[0].strip("[]")


def _has_token() -> bool:
    """Tells if Ray's token authentication is on, and where it looks for the token there is one."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return False
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or file.is_file()


def _lacks(paths: list[str], needs_token: bool) -> str:
    """Runs on a node: says what it lacks; "" where nothing."""
    missing = [path for path in paths if not Path(path).exists()]
    if missing:
        return f"has no {missing[0]}; all nodes must see the same folders, at the same path"
    if needs_token and os.environ.get("RAY_AUTH_MODE") != "token":
        return f"runs without token authentication; {_HOW}"
    return ""


def _work(pickled: bytes, threads: int, cache: str, log: str, folder: str):
    """Runs a job in a process of its own on a node; gives its result, and the UserError that it raised."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    with contextlib.suppress(OSError):  # where nothing was named from there
        os.chdir(folder)
    files.wait_for_others(_PATIENCE)
    begin_command(cache)
    with (
        Path(log).open("a", buffering=1, encoding="utf-8") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        try:
            return pickle.loads(pickled)(), None
        except UserError as error:
            return None, UserError(str(error))
        except Exception as error:  # that of a program; the log has the whole
            traceback.print_exc()
            return None, UserError(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}; see {log}")
