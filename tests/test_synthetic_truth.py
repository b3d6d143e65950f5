"""The ground truth: on films built so, each way of fusing finds what it can find and nothing else."""

import numpy as np
import pytest

from mmfusion import assessment, experiment
from mmfusion.config import resolve
from mmfusion.runs import PARTS, Run

QUICK = {"data.poster_size": 32, "training.epochs": 12}  # as the README's first command, and two more


@pytest.fixture(scope="module")
def auc(tmp_path_factory):
    """ROC-AUC on test films by variant and kind of genre: 0.5 is a random order, 1 a perfect one."""
    from sklearn.metrics import roc_auc_score

    folder, cache = tmp_path_factory.mktemp("truth"), tmp_path_factory.getbasetemp() / "cache"
    found = {}
    for variant in ("cnn", "bilstm", "joint", "late"):
        parts = [Run(folder / part) for part in PARTS] if variant == "late" else ()
        config = resolve(variant, overrides=QUICK)
        run = experiment.train(config, folder / variant, cache, part_runs=parts)
        assessment.write_report(run)
        test = run.predictions("test")
        for column, genre in enumerate(run.genres):
            score = roc_auc_score(test.y_true[:, column], test.y_prob[:, column])
            found.setdefault((variant, genre.split("_")[0]), []).append(score)
    return found


READS = {
    ("cnn", "poster"),
    ("cnn", "both"),
    ("bilstm", "overview"),
    ("bilstm", "both"),
    *(("late", kind) for kind in ("poster", "overview", "both")),
    *(("joint", kind) for kind in ("poster", "overview", "both", "xor")),
}


@pytest.mark.parametrize("kind", ["poster", "overview", "both", "xor"])
@pytest.mark.parametrize("variant", ["cnn", "bilstm", "late", "joint"])
def test_finds_what_its_modalities_tell_and_nothing_else(auc, variant, kind):
    scores = auc[variant, kind]
    if (variant, kind) in READS:
        assert min(scores) > 0.95, scores
    else:  # 400 test films, which a guess sorts into a few groups of chance shares: far from one half is 0.7
        assert np.abs(np.array(scores) - 0.5).max() < 0.2, scores
