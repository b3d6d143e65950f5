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
from collections.abc import Callable
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.files import make_folder

ALONE, CHIEF, WORKER = "alone", "chief", "worker"
LOOPBACK = "127.0.0.1"
BEAT = 5  # seconds between two counts
DEAD = 45  # seconds without one
ARRIVAL = 3600  # seconds in which the first worker must come, and to a worker its chief
FAREWELL = 30  # seconds in which workers hear that the search is over
ID, HOST, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
CORES = "MMFUSION_WORKER_CORES"  # how many of them a worker that was started by a chief may use
PARENT = "MMFUSION_WORKER_PARENT"  # that chief's process
_GONE = "the chief is gone; the same commands go on with the search"
LEFT, OVER = "left", "over"  # last words of who ends by itself, and of a chief when all is done


def role() -> str:
    """Reads the role of this process from KerasTuner's environment variables.

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
    import grpc
    import keras_tuner

    with _Beating(out, os.environ[ID]):
        _leave_without_chief(out)
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise UserError(str(error)) from error
        except grpc.RpcError as error:
            raise UserError(_GONE) from error


def wait_for(file: Path) -> None:
    """Lets the chief come first: a worker touches nothing in the search's folder before.

    Raises:
        UserError: it does not come.
    """
    end = time.monotonic() + ARRIVAL
    while not file.is_file():
        if time.monotonic() > end:
            raise UserError(f"no chief has written {file} in {ARRIVAL // 60} minutes")
        time.sleep(0.5)


def serve(tuner, count: int | None, out: Path, prepare: Callable[[], None]) -> None:
    """Gives out trials until the search is complete.

    Args:
        tuner: whose oracle is to be served.
        count: how many workers to start on this machine; None: they come from elsewhere.
        out: the search's folder.
        prepare: what to do before, when workers elsewhere may already wait.

    Raises:
        UserError: the port cannot be had, or all workers are gone.
    """
    if count:
        os.environ |= {ID: "chief", HOST: LOOPBACK, PORT: str(_free_port()), "no_grpc_proxy": LOOPBACK}
    host, port = os.environ[HOST], os.environ[PORT]
    _check_port(host, port)
    if not host.startswith("127.") and host != "localhost":
        print(
            f"Listening on {host}:{port}, where nobody is asked who they are: whoever reaches this port can "
            "change the search. Let it be a private network's.",
            flush=True,
        )
    server = threading.Thread(target=tuner.search, kwargs={"verbose": 0}, daemon=True)
    with _Beating(out, "chief") as beating:
        prepare()
        with _started(count or 0, out) as processes:
            server.start()
            _watch(tuner.oracle, server, processes, out)
        beating.last_word = OVER


def _watch(oracle, server: threading.Thread, processes: dict[str, subprocess.Popen], out: Path) -> None:
    """Takes their trials from dead workers until all is done, and lets the living ones go."""
    watch, seen, gone = _Watch(out), set(processes), set()
    began, over = time.monotonic(), None  # since when all is done
    while True:
        time.sleep(0.5)
        if oracle.fault:
            return  # it is raised where the search was called
        if not server.is_alive() and not oracle.complete:
            raise UserError(f"cannot serve {os.environ[HOST]}:{os.environ[PORT]}")
        seen |= set(oracle.tuner_ids)
        for name in sorted(seen - gone):
            if watch.dead(name) or (name in processes and processes[name].poll() is not None):
                gone.add(name)
                if not oracle.complete:
                    log = f"; see {_log(out, name)}" if name in processes else ""
                    trial = "; its trial goes to another one" if name in oracle.ongoing_trials else ""
                    print(f"{name} is gone{trial if seen - gone else '; it was the last one'}{log}", flush=True)
                oracle.give_back(name, died=watch.last_word(name) != LEFT)
        gone -= {name for name in gone & set(oracle.tuner_ids) if name not in processes}  # it came back
        if oracle.complete:
            over = over or time.monotonic()
            told = bool(seen) and not oracle.tuner_ids  # else the first of them may still be on its way
            if told or time.monotonic() - over > FAREWELL:
                return
            continue
        over = None
        if seen and seen == gone:
            raise UserError(
                f"all {len(seen)} workers are gone, after {len(oracle.ended())} of {len(oracle.trials)} trials "
                f"that were begun; what they said is in {out / 'workers'}; the same command goes on"
            )
        if not seen and time.monotonic() - began > ARRIVAL:
            raise UserError(f"no worker has come in {ARRIVAL // 60} minutes; the same command goes on")


@contextlib.contextmanager
def _started(count: int, out: Path):
    """Starts workers by this process's own command, and ends those that are left."""
    make_folder(out / "workers")
    processes = {}
    cores = str(max(1, (os.cpu_count() or 1) // count)) if count else ""
    try:
        for name in (f"worker-{number + 1}" for number in range(count)):
            environment = {**os.environ, ID: name, CORES: cores, PARENT: str(os.getpid())}
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
        self.last_word = LEFT
        self._file = out / "workers" / f"{name}.beat"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self):
        while not self._stop.is_set():
            self._write(str(time.time_ns()))
            self._stop.wait(BEAT)

    def _write(self, word: str):
        with contextlib.suppress(OSError):  # a full disk ends the trial, and says so there
            self._file.write_text(word)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._write(self.last_word)


class _Watch:
    """Tells by their files, and this machine's clock alone, who has stopped counting.

    Args:
        out: the search's folder.
        first: seconds in which somebody must begin to count.
    """

    def __init__(self, out: Path, first: float = DEAD):
        self._folder = out / "workers"
        self._first = first
        self._last: dict[str, tuple[str, float, float]] = {}  # the count, since when, and for how long it may stay

    def last_word(self, name: str) -> str:
        """Reads what somebody wrote last; "" where there is nothing."""
        try:
            return (self._folder / f"{name}.beat").read_text()
        except OSError:
            return ""

    def dead(self, name: str) -> bool:
        """Tells if somebody has stopped counting, or has said that it leaves, after it was seen to count."""
        count = self.last_word(name)
        if name not in self._last:
            self._last[name] = (count, time.monotonic(), self._first)
        before, since, patience = self._last[name]
        if count != before:
            self._last[name] = (count, time.monotonic(), DEAD)
            return count in (LEFT, OVER)
        return time.monotonic() - since > patience


def _leave_without_chief(out: Path) -> None:
    """Ends this process once its chief is dead, since KerasTuner would wait for an hour."""
    watch, parent = _Watch(out, first=ARRIVAL), os.environ.get(PARENT)

    def watching():
        # A worker that a chief on this machine has started serves no other one.
        while not watch.dead("chief") and parent in (None, str(os.getppid())):
            time.sleep(1)
        if watch.last_word("chief") == OVER:
            os._exit(0)
        print(f"mmfusion: {_GONE}", file=sys.stderr, flush=True)
        os._exit(2)

    threading.Thread(target=watching, daemon=True).start()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((LOOPBACK, 0))
        return one.getsockname()[1]


def _check_port(host: str, port: str) -> None:
    """gRPC would share a port that is taken, without a word."""
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{PORT} must be a number from 1 to 65535, not {port!r}")
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, int(port)))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}); set another {PORT}") from error
