"""Jobs run in their order as far as their needs allow, and what is wrong with one ends all. Nothing is trained."""

import argparse

import pytest

from mmfusion import cluster
from mmfusion.errors import UserError
from mmfusion.jobs import Ended, Here, Job, run_all


class Several(Here):
    """Runs so many at a time, of which the youngest ends first."""

    def __init__(self, capacity):
        super().__init__()
        self._capacity = capacity
        self.most = 0

    @property
    def capacity(self):
        return self._capacity

    def wait(self):
        self.most = max(self.most, len(self._started))
        self._started.reverse()
        return super().wait()


def jobs(done, *needs):
    """Late fusions after their parts, of two seeds."""
    names = ["poster 0", "overview 0", "late 0", "poster 1", "overview 1", "late 1"]
    of = {name: tuple(f"{part} {name[-1]}" for part in ("poster", "overview")) for name in names if "late" in name}
    return [Job(name, (), lambda name=name: done.append(name), of.get(name, ())) for name in names]


def run(place, listed):
    started, ended = [], []
    run_all(
        listed, place, on_start=lambda job: started.append(job.name), on_end=lambda one: ended.append(one.job.name)
    )
    return started, ended


def test_here_they_run_one_after_the_other_in_their_order():
    done = []
    listed = jobs(done)
    started, ended = run(Here(), listed)
    assert done == started == ended == [job.name for job in listed]


@pytest.mark.parametrize("capacity", [2, 3, 10])
def test_several_at_a_time_none_begins_before_what_it_needs(capacity):
    done, place = [], Several(capacity)
    run(place, jobs(done))
    assert len(done) == 6
    assert place.most == min(capacity, 4)  # of six, two have to wait
    for seed in "01":
        assert done.index(f"late {seed}") > max(done.index(f"poster {seed}"), done.index(f"overview {seed}"))


def test_a_need_that_is_no_job_of_the_list_is_there_already():
    done = []
    run(Here(), [job for job in jobs(done) if "poster" not in job.name])
    assert done == ["overview 0", "late 0", "overview 1", "late 1"]


def test_the_first_error_ends_all_and_nothing_else_begins():
    def full():
        raise UserError("no room left")

    done = []
    listed = [*jobs(done)[:2], Job("full", (), full), *jobs(done)[3:]]
    with pytest.raises(UserError, match=r"^no room left$"):
        run(Here(), listed)
    assert done == ["poster 0", "overview 0"]


def test_a_job_that_died_too_often_is_named():
    class Deadly(Here):
        def wait(self):
            return Ended(super().wait().job, died=True)

    with pytest.raises(
        UserError, match=r"^poster 0: the process died 3 times, perhaps for want of memory; the same"
    ):
        run(Deadly(), jobs([]))


def flags(*words):
    parser = argparse.ArgumentParser()
    cluster.add_flags(parser)
    args = parser.parse_args(words)
    args.out = None
    return args


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cpus-per-run", "2"], "--cpus-per-run does nothing without --on ray; leave it out"),
        (["--address", "10.0.0.5:6379"], "--address does nothing without --on ray; leave it out"),
        (["--on", "ray", "--cpus-per-run", "0"], "--cpus-per-run must be greater than 0"),
        (["--on", "ray", "--gpus-per-run", "-1"], "--gpus-per-run must be greater than 0"),
    ],
)
def test_a_flag_that_does_nothing_or_makes_no_sense_is_refused(words, said, tmp_path):
    with pytest.raises(UserError) as error:
        cluster.place_of(flags(*words), tmp_path)
    assert str(error.value) == said


def test_without_a_flag_they_run_here_and_ray_is_not_asked_for(tmp_path):
    assert isinstance(cluster.place_of(flags(), tmp_path), Here)
