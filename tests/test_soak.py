"""Training that is killed again and again, at any moment, ends with the bytes of one that was left alone."""

import collections
import random
import signal
import subprocess

import pytest
from conftest import write_folder
from processes import TRAIN, Process

from mmfusion import inference
from mmfusion.runs import Run

KILLS = 200
VARIANTS = ("poster", "late", "joint")
LONGEST = 14.0  # seconds until a process is killed; it takes 5 to import TensorFlow


@pytest.mark.slow
def test_two_hundred_kills_lose_nothing(tmp_path, tiny_toml):
    """Films that are not prepared yet, a training of ten epochs and its report, killed until it is through.

    The moment is drawn from the whole life of a process: while it imports, prepares films, trains, writes.
    What a run has come to when it is killed is counted, and printed at the end (pytest -n 0 -m slow -s -k kills).

    The last time (29 minutes, two cores with other work beside): 207 kills, 56 runs through, nothing lost and all
    predictions equal to the byte. Of the kills 20 came before anything was there, 5 when the films were prepared,
    26 before the first whole epoch of a model, 53 after the first to ninth, 58 after the tenth, 26 when nothing but
    the report was missing, 19 at the very end.
    """
    folder = write_folder(tmp_path / "films", films=200)
    settings = ("--config", tiny_toml, "--data-dir", folder, "--epochs", 10)

    def start(run: Run, cache) -> Process:
        if run.config_file.is_file():
            return Process(TRAIN, "--resume", run.folder, "--cache-dir", cache)
        return Process(TRAIN, "--variant", run.name, *settings, "--cache-dir", cache, "--out", run.folder)

    undisturbed = {}
    for variant in VARIANTS:
        run = Run(tmp_path / "undisturbed" / variant)
        assert start(run, tmp_path / "cache").end()[0] == 0
        undisturbed[variant] = (run.predictions_file.read_bytes(), files(run))

    rng, killed, finished = random.Random(0), collections.Counter(), 0
    while killed.total() < KILLS:
        place = tmp_path / f"run{finished}"
        run, cache = Run(place / VARIANTS[finished % len(VARIANTS)]), place / "cache"
        while not run.finished:
            process = start(run, cache)
            try:
                process.popen.wait(timeout=rng.uniform(0, LONGEST))
            except subprocess.TimeoutExpired:
                process.popen.send_signal(signal.SIGKILL)
                process.end()
                killed[_came_to(run, cache)] += 1
            else:
                code, _, errors = process.end()
                assert (code, "Traceback" in errors) == (0, False), errors
        assert (run.predictions_file.read_bytes(), files(run)) == undisturbed[run.name]
        inference.load_model(run)  # which compares it with the manifest
        finished += 1
    print(f"\n{killed.total()} kills, {finished} runs through, all equal:", dict(killed))


def files(run: Run) -> set[str]:
    """All that a run folder holds; the lock's file may stay when its last process was killed."""
    names = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*")}
    return {name for name in names if not name.endswith(".lock")}


def _came_to(run: Run, cache) -> str:
    if run.finished:
        return "finished"
    if run.trained:
        return "predictions written"
    if run.config_file.is_file():
        return f"{max([len(one.history) for one in (run, *run.parts)])} epochs or more of a model"
    return "films prepared" if list(cache.glob("films/*/[!.]*")) else "nothing yet"
