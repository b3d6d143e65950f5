"""A sweep and a search on Ray clusters of this machine: what dies is begun again, to the bytes of one process.

All of it in this one file, which one process of the tests runs: Ray's start is slow beside another one.
"""

import argparse
import contextlib
import csv
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import command, write_folder, write_tiny
from documents import REPOSITORY
from processes import Module, Process
from test_documents import EVERYTHING, small

from benchmarks import run as benchmark
from benchmarks import table
from mmfusion import cluster
from mmfusion.cluster import connection, worker
from mmfusion.cluster.progress import Progress
from mmfusion.config import resolve
from mmfusion.errors import UserError
from mmfusion.jobs import Job
from tuning import search

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes and sockets in /proc"),
]

# The commands on Ray that documents show, by their module.
SHOWN = {one.words[2]: one for shown in EVERYTHING.values() for one in shown if "--on" in one.words}
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
print(cluster.address, flush=True)
for _ in sys.stdin:
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    print("done", flush=True)
cluster.shutdown()
"""
# As `mmfusion.cluster` sets for a cluster of its own: else its processes listen on all addresses.
LOOPBACK = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "5" * 64,
    "RAY_health_check_period_ms": "1000",  # a node that is gone is missed sooner
    "RAY_health_check_failure_threshold": "2",
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # a cluster that does not take us, too
}
FLAGS = ["--on", "ray", "--address"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder for everything here, with one cache, films and the tests' small settings."""
    home = tmp_path_factory.mktemp("cluster")
    write_folder(home / "films", films=60)
    write_tiny(home / "tiny.toml")
    return home


@pytest.fixture(scope="module")
def environment(home):
    """Of every process here."""
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "dots")))
    return {**os.environ, **LOOPBACK, "MMFUSION_CACHE": str(home / "cache"), "PYTHONPATH": path}


def sweep(home, out):
    films = ["--config", home / "tiny.toml", "--dataset", "synthetic", "--epochs", 2]
    variants = ["--modalities", "poster", "overview", "table", "--variants", "overview", "table"]  # quickly trained
    return [*films, *variants, "--seeds", 2, "--out", out]


def searched(home, out):
    """The search that the README shows."""
    return [*small(SHOWN["tuning.search"], home)[1], "--out", out]


@pytest.fixture(scope="module")
def alone(home):
    """The same sweep and search in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(home / "cache"))
        assert command(benchmark.main, patch, *sweep(home, home / "alone")) == 0
        assert command(search.main, patch, *searched(home, home / "search"), "--on", "here") == 0
    return home / "alone", home / "search"


class Nodes:
    """A head without processors, and three nodes of one each, which start while something else is done."""

    def __init__(self, folder, environment):
        self._process = Process(CLUSTER, env=environment, stdin=-1, cwd=folder).popen

    @functools.cached_property
    def address(self):
        return self._line(":")

    def remove(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._line("done")

    def _line(self, with_):
        for line in self._process.stdout:
            if with_ in line:
                return line.strip()
        raise AssertionError(f"the cluster's process has ended: {self._process.stderr.read()}")

    def close(self):
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def nodes(home, environment):
    """A cluster that somebody has started."""
    made = Nodes(home, environment)
    yield made
    made.close()


def until(condition, process):
    end = time.monotonic() + 300
    while not (found := condition()):
        assert process.popen.poll() is None, process.end()
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


def trainings():
    """Processes of Ray that do a job now."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes().startswith(b"ray::work"):
                found.append(int(file.parent.name))
    return found


def rows(file):
    with file.open(newline="") as opened:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(opened)]


def test_a_sweep_whose_training_and_node_are_killed_ends_with_the_bytes_of_one_process(
    home, environment, nodes, alone, monkeypatch
):
    out = home / "on-ray"
    running = Module("benchmarks.run", *sweep(home, out), *FLAGS, nodes.address, env=environment)
    until(lambda: list(out.glob("seed-*/*/history.csv")), running)  # one of them is in its second epoch
    os.kill(trainings()[0], signal.SIGKILL)
    until(lambda: list(out.glob("seed-*/*/manifest.json")), running)  # one is through
    nodes.remove()
    code, said, errors = running.end()
    assert code == 0, errors
    assert "its process died; it is begun again" in said
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
    log = (out / "logs" / f"seed 0, {resolve('overview').label}.log").read_text()
    assert log.startswith("On ")
    assert "Epoch" in log


def test_a_search_whose_node_is_removed_in_its_third_trial_has_the_trials_of_one_process(
    home, environment, nodes, alone
):
    out = home / "search-on-ray"
    at = {**environment, "RAY_ADDRESS": nodes.address}
    running = Module("tuning.search", *searched(home, out), env=at)
    until((out / "trials" / "trial_2" / "attempts").exists, running)
    nodes.remove()
    code, _, errors = running.end()
    assert code == 0, errors
    assert rows(out / "trials.csv") == rows(alone[1] / "trials.csv")
    assert (out / "best.toml").read_bytes() == (alone[1] / "best.toml").read_bytes()


def test_another_token_than_the_clusters_is_refused_in_one_line(environment, nodes):
    code = """
import sys
from mmfusion.cluster.connection import given_cluster
from mmfusion.errors import run_command
sys.exit(run_command(given_cluster(sys.argv[1]).__enter__))
"""
    code, _, errors = Process(code, nodes.address, env={**environment, "RAY_AUTH_TOKEN": "6" * 64}).end()
    assert code == 2
    assert errors.startswith(f"mmfusion: {nodes.address}: no Ray cluster that takes our token can be reached there")
    assert errors.count("\n") == 1


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


def marked(mark):
    """Processes whose environment has a mark: one and all that it has started."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def test_a_sweep_as_the_readme_shows_it_has_a_cluster_that_nobody_else_reaches_and_that_ends_with_it(
    home, environment
):
    module, words = small(SHOWN["benchmarks.run"], home)
    at = {name: value for name, value in environment.items() if name not in LOOPBACK}
    reader = home / "another-reader"
    reader.mkdir()
    running = Module(module, *words, env={**at, "MMFUSION_TEST_OF_OWN": "1"}, cwd=reader)
    until(trainings, running)
    members = marked(b"MMFUSION_TEST_OF_OWN=1")
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
    code, said, errors = running.end()
    assert code == 0, errors
    (token,) = tokens
    assert len(token) == 64
    written = b"".join(file.read_bytes() for file in reader.rglob("*") if file.is_file())
    assert token not in arguments + written + (said + errors).encode()
    until_gone = time.monotonic() + 20
    while marked(b"MMFUSION_TEST_OF_OWN=1"):
        assert time.monotonic() < until_gone, "the cluster has outlived its command"
        time.sleep(0.2)


@pytest.mark.parametrize("mode", ["", "token"])
def test_a_cluster_that_asks_nobody_for_a_token_is_refused_elsewhere(mode, home, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    monkeypatch.setenv("HOME", str(tmp_path))  # without a token
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    words = [*sweep(home, tmp_path / "out"), *FLAGS, "10.255.0.9:6379"]
    assert command(benchmark.main, monkeypatch, *words) == 2
    said = "mmfusion: 10.255.0.9:6379: a Ray cluster runs what anybody sends it; `ray get-auth-token"
    assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / "out").exists()


def test_what_a_node_lacks_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    mark, here = tmp_path / "out" / "mark", worker.versions()
    said = f"does not see {mark.parent} as it is here; all nodes must see the same folders, at the same path"
    assert worker.lacks([str(mark)], [], here, True) == said
    assert worker.lacks([], [str(tmp_path / "films")], here, True).startswith(f"does not see {tmp_path / 'films'} ")
    assert worker.lacks([], [str(tmp_path)], here, True) == ""
    other = {**here, "keras": "4.0"}
    assert worker.lacks([], [], other, False).endswith(", and not 4.0 as here; install the same on all nodes")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert worker.lacks([], [], here, True) == f"runs without token authentication; {connection.HOW_TO_TOKEN}"
    assert worker.lacks([], [], here, False) == ""


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--on ray needs Ray: pip install -e '\.\[cluster\]'$"):
        connection.own_cluster().__enter__()


def test_progress_says_of_each_job_where_it_is_and_how_far_and_of_all_how_long(tmp_path, monkeypatch, capsys):
    run, log = tmp_path / "run", tmp_path / "log"
    run.mkdir()
    log.write_text("On a (10.0.0.5), process 7\nEpoch 1\nOn b (10.0.0.6), process 8\nEpoch 2\n")
    (run / "config.json").write_text(json.dumps({"training": {"epochs": 10}}))
    (run / "history.csv").write_text("epoch,seconds,val_pr_auc\n1,30,0.2\n2,30,0.25\n")
    monkeypatch.setattr("mmfusion.cluster.progress._EVERY", 0)
    with Progress() as progress:
        progress.total, progress.done = 4, 1
        waiting = Job("late", (tmp_path / "late",), print)
        running = [(Job("poster", (run,), print), log), (waiting, tmp_path / "none")]
        progress.show(running, 2)
        said = capsys.readouterr().out
        with log.open("a") as file:  # as it is begun again, for the second time only half a line of it
            file.write("On c (10.0.0.7), process 9\nOn d (10.")
        progress.show(running, 2)
    assert said.replace(" b (10.0.0.6), process 8", " c (10.0.0.7), process 9") == capsys.readouterr().out
    assert said == (
        "  poster: b (10.0.0.6), process 8, epoch 2 of 10, validation PR-AUC 0.2500, at most 4 min left\n"
        "  late: waiting for a process\n"
        "  1 of 4 done, 2 running, about 1 min left\n"
    )


def test_a_place_on_ray_names_its_folder_from_the_root(tmp_path, monkeypatch):
    parser = argparse.ArgumentParser()
    cluster.add_flags(parser)
    args = parser.parse_args(["--on", "ray"])
    args.out = Path("results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster.place_of(args, tmp_path)
    assert args.out == tmp_path / "results"
