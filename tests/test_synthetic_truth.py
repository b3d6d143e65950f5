"""The ground truth: on films built so, each way of fusing finds what it can find and nothing else."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import probe
from benchmarks.probe import ask, read
from mmfusion.config import resolve
from mmfusion.evaluation.contributions import contribution
from mmfusion.reports import report
from mmfusion.runs import Run
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER
from mmfusion.training import experiment

# The least training in which joint fusion learns the exclusive-or of three; one modality's cues take less.
EPOCHS = {"joint": 14, "late": 14} | dict.fromkeys(MODALITIES, 6)
SETTINGS = {
    "modalities": list(MODALITIES),
    "training.learning_rate": 2e-3,
    "joint.dropout": 0.2,
}
VARIANTS = (*MODALITIES, "joint", "late")
PAIRED = 64  # films
KINDS = ("poster", "overview", "both", "xor", "table", "xor_all")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A trained run of each of these variants, asked what `benchmarks.probe` asks, with fewer films and draws."""
    folder, cache = tmp_path_factory.mktemp("truth"), tmp_path_factory.getbasetemp() / "cache"
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "PAIRED", PAIRED)
        patch.setattr(probe, "EXCHANGES", 3)
        for variant in VARIANTS:
            parts = [Run(folder / part) for part in MODALITIES] if variant == "late" else ()
            config = resolve(variant, recipe="first", overrides={**SETTINGS, "training.epochs": EPOCHS[variant]})
            found[variant] = run = experiment.train(config, folder / variant, cache, part_runs=parts)
            if variant in ("joint", "late"):
                ask(run, cache)
            else:
                report.write_report(run)  # late fusion is made of finished runs
    return found


def kind_of(genre: str) -> str:
    return genre if genre == "xor_all" else genre.split("_")[0]


@pytest.fixture(scope="module")
def auc(runs):
    """ROC-AUC on test films by variant and kind of genre: 0.5 is a random order, 1 a perfect one."""
    found = {}
    for variant, run in runs.items():
        test = run.predictions("test")
        for column, genre in enumerate(run.genres):
            score = roc_auc_score(test.y_true[:, column], test.y_prob[:, column])
            found.setdefault((variant, kind_of(genre)), []).append(score)
    return found


TELLS = {
    "poster": {"poster", "both"},
    "overview": {"overview", "both"},
    "table": {"table"},
    "late": {"poster", "overview", "both", "table"},
    "joint": set(KINDS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_finds_what_its_modalities_tell_and_nothing_else(auc, variant, kind):
    scores = auc[variant, kind]
    if kind in TELLS[variant]:
        assert min(scores) > 0.95, scores
    else:  # 400 test films, which a guess sorts into a few groups of chance shares: far from one half is 0.7
        assert np.abs(np.array(scores) - 0.5).max() < 0.2, scores


def brought(run, kind: str) -> list:
    """What each modality brings to each genre of a kind."""
    test, (_, answers) = run.predictions("test"), read(run)
    columns = [slice(g, g + 1) for g, genre in enumerate(run.genres) if kind_of(genre) == kind]
    return [contribution(test.y_true[:, c], test.y_prob[:, c], answers.of_genres(c)) for c in columns]


def test_late_fusion_is_its_own_additive_approximation(runs):
    _, answers = read(runs["late"])
    np.testing.assert_allclose(answers.additive, answers.whole, atol=1e-5)  # logits are float32


def test_joint_fusion_needs_interactions_for_the_exclusive_ors_only(runs):
    for kind in ("poster", "overview", "both", "table"):
        assert all(abs(one.whole - one.additive) < 0.05 for one in brought(runs["joint"], kind))
    for one in (*brought(runs["joint"], "xor"), *brought(runs["joint"], "xor_all")):
        assert one.whole > 0.9
        assert one.additive < 0.75  # of `PAIRED` films half are true: a guess has one half


@pytest.mark.parametrize("variant", ["joint", "late"])
@pytest.mark.parametrize("own", MODALITIES)
def test_a_modality_brings_all_of_what_it_alone_tells(runs, variant, own):
    for one in brought(runs[variant], own):
        for modality in MODALITIES:
            if modality == own:
                assert min(one.shapley[modality], one.perceptual[modality]) > 0.4
            else:
                assert max(abs(one.shapley[modality]), abs(one.perceptual[modality])) < 0.05


@pytest.mark.parametrize(("kind", "needed"), [("xor", (POSTER, OVERVIEW)), ("xor_all", MODALITIES)])
def test_modalities_bring_alike_what_only_all_of_them_tell(runs, kind, needed):
    for one in brought(runs["joint"], kind):
        shares = [one.shapley[modality] for modality in needed]
        assert max(shares) - min(shares) < 0.1  # none is worth anything without the others
        assert min(one.perceptual[modality] for modality in needed) > 0.3
        assert all(abs(one.shapley[modality]) < 0.05 for modality in set(MODALITIES) - set(needed))
