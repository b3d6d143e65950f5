"""Oracles lose nothing, whatever dies, and a failed trial ends nothing. No model is trained here."""

import functools
import math
import shutil
import tempfile
import threading

import keras_tuner
import pytest
from keras_tuner.engine import trial as kt

from mmfusion.errors import UserError
from tuning import TUNERS
from tuning.oracles import ORACLES
from tuning.resumable import ATTEMPTS


def oracle(tuner, folder, trials=8, **options):
    """An oracle over two hyperparameters, as a search makes it."""
    space = keras_tuner.HyperParameters()
    space.Float("training.learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    space.Choice("joint.units", [64, 128, 256], default=128)
    options |= {"epochs": 4} if tuner == "hyperband" else {}
    objective = keras_tuner.Objective("ap_micro", "max")
    made = ORACLES[tuner](objective, trials, seed=3, space=space, **options)
    made._set_project_dir(str(folder), "trials")
    return made


def score(trial):
    values = trial.hyperparameters.values
    distance = abs(math.log10(values["training.learning_rate"]) + 2.5) + abs(values["joint.units"] - 128) / 300
    return 0.6 - 0.1 * distance + 0.01 * values.get("tuner/epochs", 0)


def run_trial(one, worker="tuner0", failing=()):
    """Runs one trial as a worker would; gives its number, or None when there is none."""
    trial = one.create_trial(worker)
    if trial.status != kt.TrialStatus.RUNNING:
        return None
    failed = int(trial.trial_id) in failing
    if not failed:
        one.update_trial(trial.trial_id, {"ap_micro": score(trial)})
    trial.status = kt.TrialStatus.FAILED if failed else kt.TrialStatus.COMPLETED
    trial.message = "no memory" if failed else None
    one.end_trial(trial)
    return int(trial.trial_id)


def finish(one, **options):
    while run_trial(one, **options) is not None:
        pass
    return [(trial.trial_id, trial.status, trial.score, trial.hyperparameters.values) for trial in one.ended()]


@functools.cache
def uninterrupted(tuner):
    with tempfile.TemporaryDirectory() as folder:
        return finish(oracle(tuner, folder))


@pytest.mark.parametrize("tuner", TUNERS)
class TestEveryOracle:
    def test_begins_with_the_starting_configuration_and_ends_with_so_many_more(self, tuner):
        found = uninterrupted(tuner)
        assert [int(number) for number, *_ in found] == list(range(9))
        assert found[0][3]["training.learning_rate"] == 1e-3
        assert found[0][3].get("tuner/epochs", 4) == 4
        assert len({str(values) for *_, values in found}) == 9

    @pytest.mark.parametrize(
        ("trials_before", "damage"), [(0, "none"), (3, "missing"), (6, "none"), (6, "cut short")]
    )
    def test_killed_in_a_trial_it_goes_on_to_the_same_end(self, tuner, trials_before, damage, tmp_path, capsys):
        killed = oracle(tuner, tmp_path / "killed")
        for _ in range(trials_before):
            run_trial(killed)
        killed.create_trial("tuner0")  # and then SIGKILL
        file = tmp_path / "killed" / "trials" / "oracle.json"
        if damage == "cut short":
            file.write_bytes(file.read_bytes()[:200])
        elif damage == "missing":
            file.unlink()
        again = oracle(tuner, tmp_path / "killed")
        again.reload()
        assert len(again.ended()) == trials_before
        assert finish(again) == uninterrupted(tuner)
        said = capsys.readouterr().out
        assert (f"{file} is missing, cut short" in said) == (damage != "none")

    def test_finished_it_has_nothing_left_to_do(self, tuner, tmp_path):
        finish(oracle(tuner, tmp_path, trials=2))
        again = oracle(tuner, tmp_path, trials=2)
        again.reload()
        assert again.complete
        assert run_trial(again) is None

    def test_a_failed_trial_ends_nothing_and_keeps_its_reason(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path)
        found = finish(one, failing=(1, 2, 3, 4))
        assert [status for _, status, *_ in found].count("FAILED") == 4
        assert len(found) == 9
        assert one.trials["2"].message == "no memory"

    def test_a_dead_workers_trial_goes_to_another_and_a_deadly_one_fails(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path)
        lost = one.create_trial("worker-1")
        one.give_back("worker-1")
        again = one.create_trial("worker-2")
        assert again.trial_id == lost.trial_id
        for _ in range(ATTEMPTS - 1):
            one.give_back("worker-2")
            again = one.create_trial("worker-2")
        assert again.trial_id != lost.trial_id
        assert one.trials[lost.trial_id].status == "FAILED"
        assert "died 3 times" in one.trials[lost.trial_id].message

    def test_a_worker_that_leaves_by_itself_is_no_death_of_its_trial(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path)
        for _ in range(ATTEMPTS + 1):
            assert one.create_trial("worker-1").trial_id == "0"
            one.give_back("worker-1", died=False)

    def test_a_worker_that_was_taken_for_dead_may_still_end_its_trial(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path)
        early, late = one.create_trial("early"), one.create_trial("late")
        one.give_back("early")
        one.give_back("late")
        one.create_trial("other")  # takes the last one that was given back
        for trial in (early, late, late):
            one.update_trial(trial.trial_id, {"ap_micro": score(trial)})
            trial.status = kt.TrialStatus.COMPLETED
            one.end_trial(trial)
        assert not one.ongoing_trials
        assert [int(number) for number, *_ in finish(one)] == list(range(9))

    def test_what_is_raised_in_it_stops_the_search_and_locks_nobody_out(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path)

        def full(number):
            raise UserError("no room left")

        one.on_end = full
        assert run_trial(one) == 0
        assert str(one.fault) == "no room left"
        found = []
        other = threading.Thread(target=lambda: found.append(one.create_trial("other").status), daemon=True)
        other.start()
        other.join(10)
        assert found == ["STOPPED"]

    def test_a_worker_without_work_waits_for_what_others_may_leave(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path, trials=1)
        one.create_trial("worker-1"), one.create_trial("worker-2")
        assert one.create_trial("worker-3").status == "IDLE"
        assert not one.complete
        one.give_back("worker-1")
        assert one.create_trial("worker-3").trial_id == "0"

    def test_the_minutes_begin_with_the_first_trial_and_go_on_in_the_next_call(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path, minutes=1)
        assert one.seconds_left == 60
        run_trial(one)
        one._began -= 50
        one.save()
        again = oracle(tuner, tmp_path, minutes=1)
        again.reload()
        assert 0 < again.seconds_left < 10

    def test_no_trial_begins_after_the_minutes_are_over(self, tuner, tmp_path):
        one = oracle(tuner, tmp_path, minutes=0.001)
        one._spent_before = 1.0
        assert run_trial(one) is None
        assert one.complete


@pytest.mark.parametrize("tuner", ["random", "hyperband"])  # the third draws a share of all trials at first
def test_more_trials_than_before_are_those_of_a_search_that_had_them_from_the_start(tuner, tmp_path):
    finish(oracle(tuner, tmp_path, trials=2))
    more = oracle(tuner, tmp_path, trials=8)
    more.reload()
    assert finish(more) == uninterrupted(tuner)


def test_an_interruption_by_hand_is_not_the_trials_fault(tmp_path):
    one = oracle("random", tmp_path)
    for _ in range(ATTEMPTS + 1):
        one.create_trial("tuner0")
        one.interrupted()
        one = oracle("random", tmp_path)
        one.reload()
    assert run_trial(one) == 0


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_damaged_trial_is_named_and_what_is_advised_helps(tuner, tmp_path):
    finish(oracle(tuner, tmp_path))
    oracle(tuner, tmp_path).reload()
    file = tmp_path / "trials" / "trial_5" / "trial.json"
    file.write_text("{")
    with pytest.raises(UserError, match=r"trial_5/trial.json cannot be read; delete this trial's folder"):
        oracle(tuner, tmp_path).reload()
    for number in range(5, 9):
        shutil.rmtree(tmp_path / "trials" / f"trial_{number}")
    again = oracle(tuner, tmp_path)
    again.reload()
    assert finish(again) == uninterrupted(tuner)


def test_a_small_space_is_exhausted_and_not_tried_twice(tmp_path):
    for tuner in ("random", "bayesian"):
        space = keras_tuner.HyperParameters()
        space.Choice("late.combiner", ["mean", "weighted", "stacked"], default="mean")
        one = ORACLES[tuner](keras_tuner.Objective("ap_micro", "max"), 20, seed=0, space=space)
        one._set_project_dir(str(tmp_path / tuner), "trials")
        tried = []
        while (trial := one.create_trial("tuner0")).status == "RUNNING":
            tried.append(trial.hyperparameters.values["late.combiner"])
            one.update_trial(trial.trial_id, {"ap_micro": 0.5})
            trial.status = "COMPLETED"
            one.end_trial(trial)
        assert sorted(tried) == ["mean", "stacked", "weighted"]
