"""Several trials at a time: KerasTuner's chief and workers, who notice when one of them is gone.

The chief gives out trials over gRPC and trains nothing; a worker asks for a trial, trains it and reports
its score. Both read and write the search's folder, which all machines must share. There every process
counts up in a file of its own; who has stopped counting is dead. KerasTuner alone would wait for ever.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import make_folder

ALONE, CHIEF, WORKER = "alone", "chief", "worker"
LOOPBACK = "127.0.0.1"
BEAT = 5  # seconds between two counts
DEAD = 45  # seconds without one
FAREWELL = 30  # seconds in which workers hear that the search is over
ID, HOST, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CORES = "MMFUSION_WORKER_CORES"  # how many of them a worker on this machine may use


def role() -> str:
    """What KerasTuner's environment variables make of this process.

    Raises:
        UserError: some of them are set, but not all.
    """
    given = [name for name in (ID, HOST, PORT) if os.environ.get(name)]
    if not given:
        return ALONE
    if len(given) < 3:
        missing = sorted({ID, HOST, PORT} - set(given))
        raise UserError(f"{' and '.join(given)} without {' and '.join(missing)}: set all three, or none")
    return CHIEF if "chief" in os.environ[ID] else WORKER


def share_cores() -> None:
    """Keeps a worker to its share of this machine's cores."""
    if cores := os.environ.get(CORES):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(int(cores))
        tf.config.threading.set_inter_op_parallelism_threads(int(cores))


def work(tuner, out: Path) -> None:
    """Runs trials for the chief until it says that there are no more, or is gone."""
    import keras_tuner

    name = os.environ[ID]
    with _Beating(out, name):
        _leave_without(out, "chief")
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise UserError(str(error)) from error


def serve(tuner, count: int | None, out: Path) -> None:
    """Gives out trials until the search is complete.

    Args:
        tuner: whose oracle is to be served.
        count: how many workers to start on this machine; None: they come from elsewhere.
        out: the search's folder.

    Raises:
        UserError: the port cannot be had, or all workers are gone.
    """
    if count:
        os.environ |= {ID: "chief", HOST: LOOPBACK, PORT: str(_free_port()), "no_grpc_proxy": LOOPBACK}
    host, port = os.environ[HOST], int(os.environ[PORT])
    _check_port(host, port)
    if not host.startswith("127.") and host != "localhost":
        print(
            f"Listening on {host}:{port}, where nobody is asked who they are: whoever reaches this port can "
            "change the search. Let it be a private network's.",
            flush=True,
        )
    server = threading.Thread(target=tuner.search, kwargs={"verbose": 0}, daemon=True)
    with _Beating(out, "chief"), _started(count or 0, out) as processes:
        server.start()
        _watch(tuner.oracle, server, processes, out)


def _watch(oracle, server: threading.Thread, processes: dict[str, subprocess.Popen], out: Path) -> None:
    """Takes their trials from dead workers until all is done, and lets the living ones go."""
    watch, seen, gone = _Watch(out), set(processes), set()
    over = None  # since when
    while True:
        time.sleep(0.5)
        if not server.is_alive():
            raise UserError(f"cannot serve {os.environ[HOST]}:{os.environ[PORT]}")
        seen |= set(oracle.tuner_ids)
        for name in sorted(seen - gone):
            if watch.dead(name) or (name in processes and processes[name].poll() is not None):
                gone.add(name)
                if over is None and not oracle.complete:
                    log = f"; see {_log(out, name)}" if name in processes else ""
                    print(f"{name} is gone; its trial goes to another one{log}", flush=True)
                oracle.give_back(name)
        gone -= {name for name in gone & set(oracle.tuner_ids) if name not in processes}  # it came back
        if oracle.complete:
            over = over or time.monotonic()
            if not oracle.tuner_ids or time.monotonic() - over > FAREWELL:
                return
        elif seen and seen == gone:
            raise UserError(
                f"all {len(seen)} workers are gone, after {len(oracle.ended())} of {len(oracle.trials)} trials "
                f"that were begun; see the logs in {out / 'workers'}; the same command goes on"
            )


@contextlib.contextmanager
def _started(count: int, out: Path):
    """Starts workers by this process's own command, and ends those that are left."""
    make_folder(out / "workers")
    processes = {}
    cores = str(max(1, (os.cpu_count() or 1) // count)) if count else ""
    try:
        for name in (f"worker-{number + 1}" for number in range(count)):
            environment = {**os.environ, ID: name, CORES: cores}
            with _log(out, name).open("ab") as log:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "tuning.search", *sys.argv[1:]], env=environment, stdout=log, stderr=log
                )
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _log(out: Path, name: str) -> Path:
    return out / "workers" / f"{name}.log"


class _Beating:
    """Counts up in a file of this process's own."""

    def __init__(self, out: Path, name: str):
        make_folder(out / "workers")
        self._file = out / "workers" / f"{name}.beat"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self):
        while not self._stop.is_set():
            with contextlib.suppress(OSError):  # a full disk ends the trial, and says so there
                self._file.write_text(str(time.time_ns()))
            self._stop.wait(BEAT)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()


class _Watch:
    """Tells by their files, and this machine's clock alone, who has stopped counting."""

    def __init__(self, out: Path):
        self._folder = out / "workers"
        self._last: dict[str, tuple[str, float]] = {}

    def dead(self, name: str) -> bool:
        try:
            count = (self._folder / f"{name}.beat").read_text()
        except OSError:
            count = ""
        before, since = self._last.get(name, (None, 0.0))
        if count != before:
            self._last[name] = (count, time.monotonic())
            return False
        return time.monotonic() - since > DEAD


def _leave_without(out: Path, name: str) -> None:
    """Ends this process once another one is dead, since KerasTuner would wait for an hour."""
    watch = _Watch(out)

    def watching():
        while not watch.dead(name):
            time.sleep(1)
        print(f"mmfusion: the {name} is gone; the same commands go on with the search", file=sys.stderr, flush=True)
        os._exit(2)

    threading.Thread(target=watching, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return one.getsockname()[1]


def _check_port(host: str, port: int) -> None:
    """gRPC would share a port that is taken, without a word."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); set another {PORT}") from error
