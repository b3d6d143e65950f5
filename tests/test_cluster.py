"""A sweep and a search on Ray clusters of this machine: what dies is begun again, to the bytes of one process.

All of it in this one file, which one process of the tests runs: Ray's start is slow beside another one.
"""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import command, write_tiny
from processes import Process

from benchmarks import run as benchmark
from benchmarks import table
from mmfusion.config import resolve
from tuning import search

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes and sockets in /proc")

REPOSITORY = Path(__file__).parent.parent
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
print(cluster.address, flush=True)
for word in sys.stdin:
    if word == "remove\\n":
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
    else:
        nodes.append(cluster.add_node(num_cpus=1))
    print("done", flush=True)
cluster.shutdown()
"""
# As `mmfusion.cluster` sets for a cluster of its own: else its processes listen on all addresses.
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_health_check_period_ms": "1000",  # a node that is gone is missed sooner
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for everything, with one cache and the tests' small settings."""
    place = tmp_path_factory.mktemp("cluster")
    write_tiny(place / "tiny.toml")
    return place


@pytest.fixture(scope="module")
def environment(place):
    """Of every process here."""
    return {**os.environ, **LOOPBACK, "MMFUSION_CACHE": str(place / "cache"), "PYTHONPATH": str(REPOSITORY)}


def films(place):
    return ["--config", place / "tiny.toml", "--dataset", "synthetic"]


def sweep(place, out):
    return [*films(place), "--variants", "poster", "overview", "--seeds", 2, "--out", out]


def searched(place, out):
    how = ["--variant", "overview", "--tuner", "random", "--max-trials", 4, "--epochs", 2]
    return [*how, *films(place), "--out", out]


@pytest.fixture(scope="module")
def alone(place):
    """The same sweep and search in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(place / "cache"))
        assert command(benchmark.main, patch, *sweep(place, place / "alone")) == 0
        assert command(search.main, patch, *searched(place, place / "search")) == 0
    return place / "alone", place / "search"


class Nodes:
    """A head without processors, and three nodes of one each."""

    def __init__(self, environment):
        words = [sys.executable, "-c", CLUSTER]
        self._process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._line(":")

    def tell(self, word):
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        self._line("done")

    def _line(self, with_):
        for line in self._process.stdout:
            if with_ in line:
                return line.strip()
        raise AssertionError("the cluster's process has ended")

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


@pytest.fixture(scope="module")
def nodes(environment):
    """A cluster that somebody has started."""
    made = Nodes(environment)
    yield made
    made.close()


def begun(module, words, environment):
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(condition, process):
    end = time.monotonic() + 300
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def trainings():
    """Processes of Ray that do a job now."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes().startswith(b"ray::_work"):
                found.append(int(file.parent.name))
    return found


def rows(file):
    with file.open(newline="") as opened:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(opened)]


def test_a_sweep_whose_training_and_node_are_killed_ends_with_the_bytes_of_one_process(
    place, environment, nodes, alone, monkeypatch
):
    out = place / "on-ray"
    flags = ["--on", "ray", "--address", nodes.address]
    running = begun("benchmarks.run", [*sweep(place, out), *flags], environment)
    until(lambda: list(out.glob("seed-*/*/history.csv")), running)  # one of them is in its second epoch
    os.kill(trainings()[0], signal.SIGKILL)
    until(lambda: list(out.glob("seed-*/*/manifest.json")), running)  # one is through
    nodes.tell("remove")
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    of_one = sorted(file.relative_to(alone[0]) for file in alone[0].glob("seed-*/*/predictions.npz"))
    assert len(of_one) == 4
    for file in of_one:
        assert (out / file).read_bytes() == (alone[0] / file).read_bytes()
    texts = []
    for folder in (alone[0], out):
        assert command(table.main, monkeypatch, folder) == 0
        text = (folder / "RESULTS.md").read_text()
        texts.append([line for line in text.split("## Cost")[0].splitlines() if "benchmarks.run" not in line])
    assert texts[0] == texts[1]
    assert (out / "logs" / f"seed 0, {resolve('poster').label}.log").read_text().count("Epoch")


def test_a_search_whose_node_is_removed_in_its_third_trial_has_the_trials_of_one_process(
    place, environment, nodes, alone
):
    out = place / "search-on-ray"
    flags = ["--on", "ray", "--address", nodes.address]
    running = begun("tuning.search", [*searched(place, out), *flags], environment)
    until((out / "trials" / "trial_2" / "attempts").exists, running)
    nodes.tell("remove")
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert rows(out / "trials.csv") == rows(alone[1] / "trials.csv")
    assert (out / "best.toml").read_bytes() == (alone[1] / "best.toml").read_bytes()


def sockets(pids):
    """Addresses, in hexadecimal, at which these processes listen."""
    of_kernel = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":  # it listens
                of_kernel[f"socket:[{words[9]}]"] = words[1].partition(":")[0]
    found = set()
    for pid in pids:
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found.add(of_kernel.get(str(file.readlink())))
    return found - {None}


def family(pid):
    """A process and all that it has started, as far as these carry its environment's mark."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if b"MMFUSION_TEST_OF_OWN=1" in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def test_a_cluster_of_its_own_is_reached_by_nobody_else_and_ends_with_the_command(place, environment):
    out = place / "own"
    words = [
        "--config",
        place / "tiny.toml",
        "--dataset",
        "synthetic",
        "--variants",
        "colours",
        "tfidf",
        "--on",
        "ray",
    ]
    marked = {**environment, "MMFUSION_TEST_OF_OWN": "1"}
    del marked["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]
    running = begun("benchmarks.run", [*words, "--out", out], marked)
    until(trainings, running)
    members = family(running.pid)
    assert len(members) > 4
    addresses = sockets(members)
    assert addresses
    assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    tokens, arguments = set(), b""
    for pid in members:
        with contextlib.suppress(OSError):
            arguments += Path(f"/proc/{pid}/cmdline").read_bytes()
            for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                name, _, value = one.partition(b"=")
                tokens |= {value} if name == b"RAY_AUTH_TOKEN" else set()
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    (token,) = tokens
    assert len(token) == 64
    written = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert token not in arguments + written + said.encode()
    until_gone = time.monotonic() + 20
    while [pid for pid in family(running.pid) if pid != os.getpid()]:
        assert time.monotonic() < until_gone, "the cluster has outlived its command"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("address", "mode", "said"),
    [
        ("10.255.0.9:6379", "", "10.255.0.9:6379: a Ray cluster runs what anybody sends it; `ray get-auth-token"),
        ("10.255.0.9:6379", "token", "10.255.0.9:6379: a Ray cluster runs what anybody sends it"),  # there is none
    ],
)
def test_a_cluster_that_asks_nobody_for_a_token_is_refused_elsewhere(
    address, mode, said, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    words = [*sweep(place, tmp_path / "out"), "--on", "ray", "--address", address]
    assert command(benchmark.main, monkeypatch, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_node_lacks_is_said_in_one_line(place, environment, nodes, tmp_path):
    code = "import sys; from mmfusion.cluster import _lacks; print(_lacks(sys.argv[1:], True))"
    assert Process(code, tmp_path, env=environment).end()[1].startswith("runs without token authentication; ")
    said = Process(code, tmp_path / "films", env=environment).end()[1]
    assert said == f"has no {tmp_path / 'films'}; all nodes must see the same folders, at the same path\n"


def test_without_ray_it_says_what_to_install(place, environment, tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError")
    words = [*sweep(place, tmp_path / "out"), "--on", "ray"]
    hidden = {**environment, "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    said, _ = begun("benchmarks.run", words, hidden).communicate()
    assert "mmfusion: --on ray needs Ray: pip install -e '.[cluster]'" in said
