"""The ground truth: on films built so, each way of fusing finds what it can find and nothing else."""

import numpy as np
import pytest
from conftest import PARTS
from sklearn.metrics import roc_auc_score

from benchmarks.probe import probe, read_probe
from mmfusion import assessment, experiment
from mmfusion.config import resolve
from mmfusion.reports.contributions import contribution
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each of these variants, asked what `benchmarks.probe` asks."""
    folder, cache = tmp_path_factory.mktemp("truth"), tmp_path_factory.getbasetemp() / "cache"
    found = {}
    for variant in ("poster", "overview", "joint", "late"):
        parts = [Run(folder / part) for part in PARTS] if variant == "late" else ()
        config = resolve(variant, recipe="first")  # as the README's first command
        found[variant] = run = experiment.train(config, folder / variant, cache, part_runs=parts)
        assessment.write_report(run)
        probe(run, cache)
    return found


@pytest.fixture(scope="module")
def auc(runs):
    """ROC-AUC on test films by variant and kind of genre: 0.5 is a random order, 1 a perfect one."""
    found = {}
    for variant, run in runs.items():
        test = run.predictions("test")
        for column, genre in enumerate(run.genres):
            score = roc_auc_score(test.y_true[:, column], test.y_prob[:, column])
            found.setdefault((variant, genre.split("_")[0]), []).append(score)
    return found


READS = {
    ("poster", "poster"),
    ("poster", "both"),
    ("overview", "overview"),
    ("overview", "both"),
    *(("late", kind) for kind in ("poster", "overview", "both")),
    *(("joint", kind) for kind in ("poster", "overview", "both", "xor")),
}


@pytest.mark.parametrize("kind", ["poster", "overview", "both", "xor"])
@pytest.mark.parametrize("variant", ["poster", "overview", "late", "joint"])
def test_finds_what_its_modalities_tell_and_nothing_else(auc, variant, kind):
    scores = auc[variant, kind]
    if (variant, kind) in READS:
        assert min(scores) > 0.95, scores
    else:  # 400 test films, which a guess sorts into a few groups of chance shares: far from one half is 0.7
        assert np.abs(np.array(scores) - 0.5).max() < 0.2, scores


def brought(run, kind: str) -> list:
    """What poster and overview bring to each genre of a kind."""
    test, (_, answers) = run.predictions("test"), read_probe(run)
    columns = [slice(g, g + 1) for g, genre in enumerate(run.genres) if genre.startswith(kind)]
    return [contribution(test.y_true[:, c], test.y_prob[:, c], answers.of_genres(c)) for c in columns]


def test_late_fusion_is_its_own_additive_approximation(runs):
    _, answers = read_probe(runs["late"])
    np.testing.assert_allclose(answers.additive, answers.whole, atol=1e-5)  # logits are float32


def test_joint_fusion_needs_interactions_for_the_exclusive_or_only(runs):
    for kind in ("poster", "overview", "both"):
        assert all(abs(one.whole - one.additive) < 0.05 for one in brought(runs["joint"], kind))
    for one in brought(runs["joint"], "xor"):
        assert one.whole > 0.9
        assert one.additive < 0.75  # 128 films of which half are true: a guess has one half


@pytest.mark.parametrize("variant", ["joint", "late"])
def test_modalities_bring_what_the_films_were_made_with(runs, variant):
    for one in brought(runs[variant], "poster"):
        assert one.shapley[POSTER] > 0.4
        assert abs(one.shapley[OVERVIEW]) < 0.05
        assert one.perceptual[POSTER] > 0.4
        assert abs(one.perceptual[OVERVIEW]) < 0.05
    for one in brought(runs[variant], "overview"):
        assert one.shapley[OVERVIEW] > 0.4
        assert abs(one.shapley[POSTER]) < 0.05
    if variant == "joint":
        for one in brought(runs[variant], "xor"):  # neither is worth anything without the other
            assert one.shapley[POSTER] == pytest.approx(one.shapley[OVERVIEW], abs=0.1)
            assert min(one.perceptual[POSTER], one.perceptual[OVERVIEW]) > 0.3
