"""Oracles lose nothing, whatever dies, and a failed trial ends nothing. No model is trained here."""

import functools
import json
import math
import shutil
import tempfile
from pathlib import Path

import keras_tuner
import pytest

from mmfusion.errors import UserError
from mmfusion.jobs import ATTEMPTS, DIED, Ended, Here, Job, attempt
from tuning import TUNERS, driver, records
from tuning.oracles import ORACLES
from tuning.records import Outcome


def oracle(tuner, trials=8):
    """An oracle over two hyperparameters, as a search makes it."""
    space = keras_tuner.HyperParameters()
    space.Float("training.learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    space.Choice("joint.units", [64, 128, 256], default=128)
    return ORACLES[tuner]("ap_micro", space, 3, trials=trials, epochs=4)


def score(values):
    distance = abs(math.log10(values["training.learning_rate"]) + 2.5) + abs(values["joint.units"] - 128) / 300
    return 0.6 - 0.1 * distance + 0.01 * values.get("tuner/epochs", 0)


class Killed(BaseException):
    """Stands for SIGKILL: nothing behind it runs."""


def search(tuner, out, *, trials=8, place=None, failing=(), killed_in=None, minutes=None):
    """Runs a search to its end, or to its death in a trial, and gives what its trials are."""

    def run(trial):
        if trial.number == killed_in:
            raise Killed
        outcome = Outcome(None, "no memory") if trial.number in failing else Outcome(score(trial.values), "")
        trial.end(outcome)
        return outcome

    def job(trial):
        return Job(f"trial {trial.number}", (), functools.partial(run, trial))

    found, ended = driver.Trials(oracle(tuner, trials), out, driver.Clock(out, minutes)), []
    try:
        found.run(1 + trials, place or Here(), job, ended.append)
    except Killed:
        return None
    assert [trial.number for trial in found.ended] == list(range(len(found.all)))
    return [(trial.values, trial.outcome) for trial in found.all]


@functools.cache
def uninterrupted(tuner):
    with tempfile.TemporaryDirectory() as folder:
        return search(tuner, Path(folder))


class Several(Here):
    """Runs three at a time, of which the youngest ends first."""

    capacity = 3

    def wait(self):
        self._started.sort(key=lambda job: -int(job.name.partition(" ")[2]))
        return super().wait()


@pytest.mark.parametrize("tuner", TUNERS)
class TestEveryOracle:
    def test_begins_with_the_starting_configuration_and_ends_with_so_many_more(self, tuner):
        found = [values for values, _ in uninterrupted(tuner)]
        assert len(found) == len({str(values) for values in found}) == 9
        assert found[0]["training.learning_rate"] == 1e-3
        assert found[0].get("tuner/epochs", 4) == 4

    @pytest.mark.parametrize("killed_in", [0, 3, 6])
    def test_killed_in_a_trial_it_goes_on_to_the_same_end(self, tuner, killed_in, tmp_path):
        assert search(tuner, tmp_path, killed_in=killed_in) is None
        assert search(tuner, tmp_path) == uninterrupted(tuner)

    @pytest.mark.parametrize("killed_in", [1, 5])
    def test_killed_with_several_at_a_time_it_ends_with_all_and_keeps_what_was_begun(
        self, tuner, killed_in, tmp_path
    ):
        assert search(tuner, tmp_path, place=Several(), killed_in=killed_in) is None
        begun = [trial.values for trial in records.read_trials(tmp_path)]
        found = [values for values, _ in search(tuner, tmp_path, place=Several())]
        assert found[: len(begun)] == begun
        assert len(found) == len({str(values) for values in found}) == 9

    def test_finished_it_has_nothing_left_to_do(self, tuner, tmp_path):
        search(tuner, tmp_path, trials=2)
        search(tuner, tmp_path, trials=2, killed_in=3)
        assert len(search(tuner, tmp_path, trials=2)) == 3

    def test_a_failed_trial_ends_nothing_and_keeps_its_reason(self, tuner, tmp_path):
        found = search(tuner, tmp_path, failing=(1, 2, 3, 4))
        assert len(found) == 9
        assert [outcome.reason for _, outcome in found] == [""] + 4 * ["no memory"] + 4 * [""]

    def test_a_trial_that_died_too_often_has_failed(self, tuner, tmp_path):
        class Deadly(Here):
            def wait(self):
                ended = super().wait()
                return Ended(ended.job, died=True) if ended.job.name == "trial 2" else ended

        found = search(tuner, tmp_path, place=Deadly())
        assert found[2][1].reason == DIED
        assert records.read_trials(tmp_path)[2].outcome == found[2][1]

    def test_no_trial_begins_after_the_minutes_are_over(self, tuner, tmp_path):
        search(tuner, tmp_path, trials=1)
        (tmp_path / "spent.json").write_text("50.0")
        assert 0 < driver.Clock(tmp_path, 1).left <= 10
        (tmp_path / "spent.json").write_text("61.0")
        assert len(search(tuner, tmp_path, minutes=1)) == 2


def test_several_at_a_time_draw_the_trials_of_one(tmp_path):
    alone, several = uninterrupted("random"), search("random", tmp_path, place=Several())
    assert several == alone


@pytest.mark.parametrize("tuner", ["random", "hyperband"])  # the third draws a share of all trials at first
def test_more_trials_than_before_are_those_of_a_search_that_had_them_from_the_start(tuner, tmp_path):
    search(tuner, tmp_path, trials=2)
    assert search(tuner, tmp_path, trials=8) == uninterrupted(tuner)


def test_what_a_trial_was_is_in_its_folder_whatever_the_library_would_say_now(tmp_path):
    search("bayesian", tmp_path, trials=4)
    file = tmp_path / "trials" / "trial_4" / "trial.json"
    file.write_text(json.dumps({"values": {"training.learning_rate": 0.002, "joint.units": 64}, "after": [3]}))
    (file.parent / "outcome.json").unlink()
    values, _ = search("bayesian", tmp_path, trials=4)[4]
    assert values == {"training.learning_rate": 0.002, "joint.units": 64}


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_damaged_trial_is_named_and_what_is_advised_helps(tuner, tmp_path):
    search(tuner, tmp_path)
    trials = tmp_path / "trials"
    (trials / "trial_5" / "trial.json").write_text("{")
    with pytest.raises(UserError, match=r"trial_5/trial.json cannot be read; delete this trial's folder"):
        search(tuner, tmp_path)
    shutil.rmtree(trials / "trial_5")
    with pytest.raises(UserError, match="has no trial 5, but later ones; delete those to try them again"):
        search(tuner, tmp_path)
    for number in range(6, 9):
        shutil.rmtree(trials / f"trial_{number}")
    assert search(tuner, tmp_path) == uninterrupted(tuner)
    (trials / "trial_5" / "outcome.json").unlink()
    with pytest.raises(UserError, match=r"trial_5 has no outcome, which later trials go by; delete those to try"):
        search(tuner, tmp_path)


@pytest.mark.parametrize(("raised", "counted"), [(Killed, ATTEMPTS + 1), (KeyboardInterrupt, 1), (ValueError, 1)])
def test_only_a_death_counts_as_an_attempt_of_a_trial(raised, counted, tmp_path):
    for _ in range(ATTEMPTS):
        with pytest.raises(raised), attempt(tmp_path):
            raise raised
    with attempt(tmp_path) as count:
        assert count == counted
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tuner", ["random", "bayesian"])
def test_a_small_space_is_exhausted_and_not_tried_twice(tuner):
    space = keras_tuner.HyperParameters()
    space.Choice("late.combiner", ["mean", "weighted", "stacked"], default="mean")
    one = ORACLES[tuner]("ap_micro", space, 0, trials=20, epochs=4)
    tried = []
    while values := one.ask():
        one.tell(len(tried), 0.5)
        tried.append(values["late.combiner"])
    assert sorted(tried) == ["mean", "stacked", "weighted"]
