"""A search from the command to the file that trains its best trial, with real trials and a kill."""

import csv
import gc
import os
import signal
import time
import weakref

import numpy as np
import pytest
from conftest import command, tiny_config, write_tiny
from filelock import FileLock
from processes import Forked, main_of

from mmfusion import train
from mmfusion.config import COMBINERS
from mmfusion.data.source import Source
from mmfusion.runs import Run
from mmfusion.training import experiment, fitting, preparation
from tuning import search
from tuning.records import read_trials


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tests' small settings as a config file."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.toml")


def arguments(out, tiny, variant="overview", trials=2, tuner="random", epochs=2):
    return [
        *("--variant", variant, "--tuner", tuner, "--max-trials", trials, "--epochs", epochs),
        *("--dataset", "synthetic", "--config", tiny, "--out", out),
    ]


def trials_of(out):
    """What is the same in every search of the same trials: all but the seconds."""
    with (out / "trials.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    """A finished search of three trials and the start; tests do not change it."""
    out = tmp_path_factory.mktemp("search") / "overview"
    cache = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(cache))
        asked = _record_rows(patch)
        assert command(search.main, patch, *arguments(out, tiny, trials=3)) == 0
    return out, asked, cache


def _record_rows(patch):
    """The rows of films that any model is given."""
    asked = set()
    for name in ("training", "ordered"):
        real = getattr(Source, name)

        def recorded(self, films, *args, _real=real, **options):
            asked.update(map(int, films))
            return _real(self, films, *args, **options)

        patch.setattr(Source, name, recorded)
    return asked


def test_leaves_all_that_the_readme_names_and_a_file_that_trains(finished, tiny, tmp_path, monkeypatch):
    out, _, cache = finished
    assert {"search.json", "trials.csv", "best.toml", "summary.md", "figures"} <= {p.name for p in out.iterdir()}
    assert {p.name for p in (out / "figures").iterdir()} == {"scores.png", "parallel.png"}
    monkeypatch.setenv("MMFUSION_CACHE", str(cache))
    data = ["--dataset", "synthetic", "--set", "data.films=60", "--epochs", 2]
    config = ["--config", out / "best.toml", "--out", tmp_path / "run"]
    assert command(train.main, monkeypatch, "--variant", "overview", *data, *config) == 0
    rows = trials_of(out)
    best = max(rows, key=lambda row: float(row["ap_micro"]))
    trained = Run(tmp_path / "run").predictions("validation")
    outcome = read_trials(out)[0 if best["trial"] == "start" else int(best["trial"])].outcome
    explored = Run(out / "models" / outcome.models[0]).predictions("validation")
    np.testing.assert_array_equal(trained.y_prob, explored.y_prob)


def test_never_gives_a_model_a_test_film(finished):
    out, asked, cache = finished
    config = tiny_config("overview")
    rows = preparation.prepare(config, cache).rows
    assert asked == set(rows["train"].tolist()) | set(rows["validation"].tolist())
    for model in (out / "models").glob("overview-*"):
        assert set(Run(model).split) == {"train", "validation"}


def test_the_same_command_has_nothing_left_to_do_and_another_one_is_refused(finished, tiny, monkeypatch, capsys):
    out, _, cache = finished
    monkeypatch.setenv("MMFUSION_CACHE", str(cache))
    before = (out / "best.toml").read_bytes()
    assert command(search.main, monkeypatch, *arguments(out, tiny, trials=3)) == 0
    assert "trial 1 of" not in capsys.readouterr().out
    assert (out / "best.toml").read_bytes() == before
    for flags, what in ((["--seed", 5], "seed"), (["--only", "training.decay"], "hyperparameters")):
        assert command(search.main, monkeypatch, *arguments(out, tiny, trials=3), *flags) == 2
        assert f"holds a search with another {what}; name another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--only", "training.speed"],
            "--only training.speed: overview's hyperparameters are overview_encoder.bag.vocabulary_size",
        ),
        (["--max-trials", 0], "--max-trials must be greater than 0"),
        (["--budget-minutes", -1], "--budget-minutes must be greater than 0"),
        (["--only", "training.decay", "--set", "training.decay=0.2"], "nothing is left to search"),
        (["--data-dir", "/nowhere"], "/nowhere"),
        (["--workers", 2], "--workers: several trials at a time, on this machine or on many, are --on ray now"),
    ],
)
def test_says_in_one_line_what_is_wrong(flags, said, tiny, tmp_path, monkeypatch, capsys):
    assert command(search.main, monkeypatch, "--variant", "overview", "--out", tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_variables_of_kerastuners_own_chief_and_workers_are_named(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert command(search.main, monkeypatch, *arguments(tmp_path / "out", tiny)) == 2
    assert "KERASTUNER_TUNER_ID: a search on several machines is --on ray now; unset it" in capsys.readouterr().err


def test_a_second_search_in_the_same_folder_waits_its_turn(finished, tiny, tmp_path, monkeypatch, capsys):
    out, _, cache = finished
    monkeypatch.setenv("MMFUSION_CACHE", str(cache))
    with FileLock(out / ".lock"):
        assert command(search.main, monkeypatch, *arguments(out, tiny, trials=3)) == 2
    assert "another process is searching in" in capsys.readouterr().err
    assert command(search.main, monkeypatch, *arguments(out, tiny, trials=3)) == 0


def test_a_folder_of_something_else_is_left_alone(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("")
    assert command(search.main, monkeypatch, *arguments(tmp_path, tiny)) == 2
    assert "exists already and holds no search; name another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_when_all_trials_fail_the_search_fails_and_says_why(tiny, tmp_path, monkeypatch, capsys):
    # No rate is too low for this: every loss is infinite.
    flags = ["--only", "training.decay", "--set", "training.learning_rate=1e30", "--poster-encoder", "cnn"]
    assert command(search.main, monkeypatch, *arguments(tmp_path / "out", tiny, "poster", trials=1), *flags) == 2
    assert "all 2 trials failed; the first one: " in capsys.readouterr().err
    rows = trials_of(tmp_path / "out")
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "loss is" in rows[0]["reason"]
    assert not (tmp_path / "out" / "best.toml").exists()


def test_late_fusions_parts_are_trained_once_when_only_the_combiner_is_searched(tiny, tmp_path, monkeypatch):
    real, trained = fitting.fit, []

    def counted(model, run, *args, **options):
        trained.append(run.config.variant)
        real(model, run, *args, **options)

    monkeypatch.setattr(fitting, "fit", counted)
    out = tmp_path / "out"
    flags = arguments(out, tiny, "late", trials=6)
    assert command(search.main, monkeypatch, *flags, "--only", "late.combiner") == 0
    assert trained == ["poster", "overview"]
    rows = trials_of(out)
    assert sorted(row["late.combiner"] for row in rows) == sorted(COMBINERS)
    assert len({row["ap_micro"] for row in rows}) == len(COMBINERS)


def test_going_on_from_fewer_epochs_is_the_same_as_training_at_once(tmp_path, cache):
    config = tiny_config("overview", training__epochs=3)
    films = preparation.prepare(config, cache)
    whole = experiment.explore(config, tmp_path / "whole", films)
    earlier = experiment.explore(tiny_config("overview", training__epochs=1), tmp_path / "earlier", films)
    later = experiment.explore(config, tmp_path / "later", films, earlier=earlier)
    assert [row["epoch"] for row in earlier.history] == [1]
    assert later.history[0] == earlier.history[0]
    assert later.predictions_file.read_bytes() == whole.predictions_file.read_bytes()


def test_under_a_schedule_over_all_epochs_a_training_of_more_begins_anew(tmp_path, cache):
    config = tiny_config("overview", training__epochs=2, training__schedule="cosine")
    films = preparation.prepare(config, cache)
    whole = experiment.explore(config, tmp_path / "whole", films)
    fewer = tiny_config("overview", training__epochs=1, training__schedule="cosine")
    earlier = experiment.explore(fewer, tmp_path / "earlier", films)
    later = experiment.explore(config, tmp_path / "later", films, earlier=earlier)
    assert later.predictions_file.read_bytes() == whole.predictions_file.read_bytes()


def test_a_trials_films_are_let_go_with_it(tmp_path, cache):
    """Or a search would keep the posters of each size as often as it prepared them."""
    config = tiny_config("overview", training__epochs=1)
    films = preparation.prepare(config, cache)
    posters = weakref.ref(films.films.posters)
    experiment.explore(config, tmp_path / "run", films)
    del films
    gc.collect()
    assert posters() is None


class Command(Forked):
    """`python -m tuning.search` as a process of its own."""

    def __init__(self, cache, *arguments, **variables):
        super().__init__(
            main_of("tuning.search"), *arguments, env={**os.environ, "MMFUSION_CACHE": str(cache), **variables}
        )

    def wait(self):
        code, said, errors = self.end()
        return code, said + errors


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_killed_in_its_third_trial_it_ends_as_if_it_had_not_been(finished, tiny, tmp_path):
    out, _, cache = finished
    killed = Command(cache, *arguments(tmp_path / "out", tiny, trials=3))
    until((tmp_path / "out" / "trials" / "trial_2" / "trial.json").exists)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [row["trial"] for row in trials_of(tmp_path / "out")] == ["start", "1"]
    code, said = Command(cache, *arguments(tmp_path / "out", tiny, trials=3)).wait()
    assert code == 0, said
    assert trials_of(tmp_path / "out") == trials_of(out)
    assert (tmp_path / "out" / "best.toml").read_bytes() == (out / "best.toml").read_bytes()
