"""What happens to a run: it is killed or interrupted, goes to infinity, is started twice. Nothing is lost.

The signals are real, and the processes are others than the tests'.
"""

import os
import signal
import time

import numpy as np
import pytest
from conftest import command, run_variant, tiny_config, write_folder
from processes import AT_LAST, KILL, TRAIN, Forked, one_line, resumed

from mmfusion import inference, train
from mmfusion.data.films import load_films
from mmfusion.errors import UserError
from mmfusion.runs import Run
from mmfusion.training.checkpoint import EpochSeeds


@pytest.fixture(scope="module")
def undisturbed(trained) -> dict[str, bytes]:
    """The final predictions of runs that nothing happened to, by variant."""
    return {variant: trained(variant).predictions_file.read_bytes() for variant in ("poster", "late")}


@pytest.mark.parametrize(
    ("variant", "what", "times"),
    [
        ("poster", "batch", 5),  # of the second epoch's three
        ("poster", "history.csv", 2),
        ("poster", "resume.npz", 2),
        ("poster", "archive", 2),
        ("late", "model.keras", 4),  # the bilstm's last epoch is its best, and only its state is written
        ("poster", "model.keras", 2),  # its temperature is fitted, and written nowhere
        ("poster", "predictions.npz", 1),  # and written in the model
        ("poster", "sealed", 1),
        ("poster", "report.json", 1),
        ("late", "fit", 2),  # after the cnn, before the bilstm
        ("late", "model.keras", 6),  # both parts are trained
        ("late", "sealed", 1),  # its first part
        ("late", "manifest.json", 3),  # its predictions are written, and not vouched for
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    undisturbed, tiny_toml, tmp_path, monkeypatch, variant, what, times
):
    args = ("--variant", variant, "--config", tiny_toml, "--out", tmp_path / "run")
    assert Forked(AT_LAST + KILL + TRAIN, what, times, *args).end()[0] == -signal.SIGKILL
    assert resumed(tmp_path / "run", monkeypatch) == undisturbed[variant]


@pytest.mark.parametrize(("what", "times"), [("poster", 20), ("films.npz", 1)])
def test_films_whose_preparation_was_killed_are_prepared_again(tmp_path, tiny_toml, monkeypatch, what, times):
    folder, cache = write_folder(tmp_path / "films"), tmp_path / "cache"
    args = ("--config", tiny_toml, "--data-dir", folder, "--cache-dir", cache)
    process = Forked(AT_LAST + KILL + TRAIN, what, times, "--variant", "poster", *args, "--out", tmp_path / "run")
    assert process.end()[0] == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    data = tiny_config("poster", data__dataset="multimodal_imdb", data__data_dir=str(folder)).data
    found, again = (load_films(data, place, poster_size=16) for place in (cache, tmp_path / "other cache"))
    np.testing.assert_array_equal(found.posters, again.posters)
    assert len(list((cache / "films" / "films").iterdir())) == 1  # what the killed one left is gone


class TestInterrupted:
    @pytest.mark.parametrize(("what", "times"), [("batch", 5), ("report.md", 1)])
    def test_ctrl_c_is_one_line_and_the_run_goes_on(
        self, undisturbed, tiny_toml, tmp_path, monkeypatch, what, times
    ):
        interrupt = (
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
            f"what, times = {what!r}, {times}\nat(what, lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        )
        args = ("--variant", "poster", "--config", tiny_toml, "--out", tmp_path / "run")
        code, _, errors = Forked(AT_LAST + interrupt + TRAIN, *args).end()
        assert code == 130
        assert "interrupted; train goes on with --resume" in one_line(errors)
        assert resumed(tmp_path / "run", monkeypatch) == undisturbed["poster"]


class TestNotFinite:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_training_stops_and_the_best_epoch_before_stays(self, tmp_path, cache, monkeypatch, value):
        class Spoils(EpochSeeds):
            def on_epoch_begin(self, epoch, logs=None):
                super().on_epoch_begin(epoch, logs)
                if epoch == 1:
                    bias = self.model.weights[-1]
                    bias.assign(np.full(bias.shape, value, np.float32))

        monkeypatch.setattr("mmfusion.training.fitting.EpochSeeds", Spoils)
        with pytest.raises(UserError, match=r"loss is (nan|inf) in epoch 2 \(the best epoch before is in .*model"):
            run_variant("poster", tmp_path / "run", cache)
        run = Run(tmp_path / "run")
        assert [row["epoch"] for row in run.history] == [1]
        weights = inference.load_model(run).get_weights()
        assert all(np.isfinite(weight).all() for weight in weights)

    def test_in_the_first_epoch_nothing_is_kept_and_the_command_says_so(
        self, tmp_path, tiny_toml, monkeypatch, capsys
    ):
        args = ("--variant", "poster", "--config", tiny_toml, "--set", "training.learning_rate=1e30")
        assert command(train.main, monkeypatch, *args, "--out", tmp_path / "run") == 2
        errors = capsys.readouterr().err
        assert "in epoch 1 (nothing is kept); train again with a lower training.learning_rate" in one_line(errors)
        assert not Run(tmp_path / "run").model_file.exists()


class TestTwoAtOnce:
    def test_of_two_runs_on_one_folder_one_wins_and_the_other_says_so(self, undisturbed, tiny_toml, tmp_path):
        args = ("--variant", "poster", "--config", tiny_toml, "--out", tmp_path / "run")
        ends = [process.end() for process in [Forked(TRAIN, *args), Forked(TRAIN, *args)]]
        winner, loser = sorted(ends)
        assert (winner[0], loser[0]) == (0, 2)
        assert "exists already" in one_line(loser[2]) or "another process is training" in one_line(loser[2])
        assert Run(tmp_path / "run").predictions_file.read_bytes() == undisturbed["poster"]
        assert not list(tmp_path.glob(".run*"))

    def test_a_run_that_is_trained_cannot_be_gone_on_with(self, tiny_toml, tmp_path, monkeypatch, capsys):
        args = ("--variant", "poster", "--config", tiny_toml, "--epochs", 100_000, "--out", tmp_path / "run")
        process = Forked(TRAIN, *args)
        try:
            while "Epoch 2/" not in process.said():
                assert process.runs
                time.sleep(0.05)
            process.send_signal(signal.SIGSTOP)
            before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
            assert command(train.main, monkeypatch, "--resume", tmp_path / "run") == 2
            assert "another process is training" in one_line(capsys.readouterr().err)
            after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
            assert before == after
        finally:
            process.send_signal(signal.SIGKILL)
            process.end()

    def test_nor_one_that_writes_its_report(self, undisturbed, tiny_toml, tmp_path, monkeypatch, capsys):
        stop = "what, times = 'report.md', 1\nat(what, lambda: os.kill(os.getpid(), signal.SIGSTOP))\n"
        args = ("--variant", "poster", "--config", tiny_toml, "--out", tmp_path / "run")
        process = Forked(AT_LAST + stop + TRAIN, *args)
        while not process.stopped:
            assert process.runs
            time.sleep(0.05)
        assert command(train.main, monkeypatch, "--resume", tmp_path / "run") == 2
        assert "another process is training" in one_line(capsys.readouterr().err)
        process.send_signal(signal.SIGCONT)
        assert process.end()[0] == 0
        assert Run.open(tmp_path / "run").predictions_file.read_bytes() == undisturbed["poster"]

    def test_of_two_that_prepare_the_same_films_one_waits_and_says_so(self, tmp_path):
        folder, cache, go = write_folder(tmp_path / "films", films=600), tmp_path / "cache", tmp_path / "go"
        code = """
import pathlib, sys, time
from mmfusion.config import resolve
from mmfusion.data.films import load_films
folder, cache, go, ready = sys.argv[1:]
data = resolve("poster", overrides={"data.dataset": "multimodal_imdb", "data.data_dir": folder}).data
pathlib.Path(ready).touch()
while not pathlib.Path(go).exists():
    time.sleep(0.001)
print(len(load_films(data, pathlib.Path(cache))))
"""
        ready = [tmp_path / "ready0", tmp_path / "ready1"]
        processes = [Forked(code, folder, cache, go, file) for file in ready]
        while not all(file.exists() for file in ready):
            assert all(process.runs for process in processes)
        go.touch()
        ends = [process.end() for process in processes]
        assert [end[:2] for end in ends] == [(0, "600\n")] * 2
        said = sorted(end[2] for end in ends)
        assert said[0].startswith("Another process is preparing these films; waiting")
        assert said[1].startswith("Preparing films")
        assert len(list((cache / "films" / "films").iterdir())) == 1


def test_the_same_threads_give_the_same_bytes_and_others_nearly(tiny_toml, tmp_path):
    """In processes of their own; floats are added in another order by another number of threads."""
    runs = {}
    for name, threads in (("one", 1), ("again", 1), ("two", 2)):
        args = ("--variant", "joint", "--config", tiny_toml, "--out", tmp_path / name)
        environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": str(threads)}
        assert Forked(TRAIN, *args, env=environment).end()[0] == 0
        runs[name] = Run(tmp_path / name)
        assert runs[name].facts["threads"] == threads
    assert runs["one"].predictions_file.read_bytes() == runs["again"].predictions_file.read_bytes()
    difference = runs["one"].predictions("test").y_prob - runs["two"].predictions("test").y_prob
    assert np.abs(difference).max() < 1e-3
