"""Scores are scikit-learn's, and what has no films is undefined."""

import numpy as np
import pytest
from sklearn import metrics as sk

from mmfusion.evaluation.metrics import by_genre, film_losses, overall, tune_thresholds
from mmfusion.reports.tables import comparison_table, undefined_sentence


@pytest.fixture
def films():
    rng = np.random.default_rng(0)
    y_true = (rng.random((80, 4)) < [0.6, 0.3, 0.1, 0.0]).astype(int)
    return y_true, np.clip(0.3 * y_true + 0.7 * rng.random((80, 4)), 0.01, 0.99)


def test_agrees_with_scikit_learn(films):
    y_true, y_prob = films
    found = overall(y_true, y_prob, np.full(4, 0.4))
    defined, pred = y_true[:, :3], (y_prob >= 0.4).astype(int)
    expected = {
        "bce": np.mean([sk.log_loss(y_true[:, g], y_prob[:, g], labels=[0, 1]) for g in range(4)]),
        "ap_micro": sk.average_precision_score(y_true, y_prob, average="micro"),
        "ap_macro": sk.average_precision_score(defined, y_prob[:, :3], average="macro"),
        "lrap": sk.label_ranking_average_precision_score(y_true, y_prob),
        "roc_auc_macro": sk.roc_auc_score(defined, y_prob[:, :3], average="macro"),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    averages = {}
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        for average in ("micro", "macro", "weighted", "samples"):
            columns = slice(3) if average in ("macro", "weighted") else slice(4)
            value = score(y_true[:, columns], pred[:, columns], average=average, zero_division=0)
            averages[f"{name}_{average}"] = value
    assert found["tuned"] == pytest.approx(averages, abs=1e-12)
    at_half = sk.f1_score(y_true, y_prob > 0.5, average="micro")
    assert found["at_0.5"]["f1_micro"] == pytest.approx(at_half)


def test_a_genre_without_films_is_undefined_and_in_no_macro_average(films):
    y_true, y_prob = films
    rows = by_genre("abcd", y_true, y_prob, np.full(4, 0.5))
    undefined = {"precision": None, "recall": None, "f1": None}
    expected = {"genre": "d", "support": 0, "ap": None, "threshold": 0.5, "at_0.5": undefined}
    assert rows[3] == expected | undefined
    assert all(value is not None for row in rows[:3] for value in row.values())
    aps = [row["ap"] for row in rows[:3]]
    assert overall(y_true, y_prob, np.full(4, 0.5))["ap_macro"] == pytest.approx(np.mean(aps))
    report = {"genres": rows, "films": 80, "name": "poster"}
    assert "d" in undefined_sentence(report)
    assert comparison_table([report]).splitlines()[-1].count("–") == 2


def test_nothing_at_all_to_find_is_undefined_too():
    found = overall(np.zeros((5, 2)), np.full((5, 2), 0.3), np.full(2, 0.5))
    assert found["ap_micro"] is found["ap_macro"] is found["roc_auc_macro"] is None
    assert found["tuned"]["f1_macro"] is None
    assert np.isfinite(found["bce"])


def test_one_genre_alone_is_scored_as_one_among_many():
    y_true, y_prob = np.array([[1], [0], [1], [0]]), np.array([[0.9], [0.8], [0.2], [0.1]])
    alone = overall(y_true, y_prob, np.full(1, 0.5))
    with_empty = overall(np.hstack([y_true, 0 * y_true]), np.hstack([y_prob, 0 * y_prob]), np.full(2, 0.5))
    for average in ("micro", "macro", "weighted", "samples"):
        assert alone["tuned"][f"f1_{average}"] == with_empty["tuned"][f"f1_{average}"]
    assert alone["tuned"]["f1_macro"] == 0.5


def test_a_genre_that_no_validation_film_has_is_scored_at_one_half():
    y_true, y_prob = np.array([[1], [0]]), np.array([[0.7], [0.4]])
    (row,) = by_genre(["a"], y_true, y_prob, np.array([np.nan]))
    assert (row["threshold"], row["f1"]) == (None, 1.0)


def test_a_genre_that_every_film_has_has_no_roc_curve():
    y_true = np.array([[1, 1], [1, 0], [1, 1]])
    y_prob = np.array([[0.5, 0.9], [0.6, 0.1], [0.7, 0.8]])
    assert overall(y_true, y_prob, np.full(2, 0.5))["roc_auc_macro"] == 1.0


def test_tuned_thresholds_are_the_best_for_f1(films):
    y_true, y_prob = films
    thresholds = tune_thresholds(y_true, y_prob)
    assert np.isnan(thresholds[3])  # no film to tune on
    for genre in range(3):
        best = sk.f1_score(y_true[:, genre], y_prob[:, genre] >= thresholds[genre])
        others = [sk.f1_score(y_true[:, genre], y_prob[:, genre] >= t) for t in np.linspace(0.01, 0.99, 99)]
        assert best >= max(others) - 1e-12


def test_probabilities_of_0_and_1_cost_much_but_not_infinitely():
    assert np.isfinite(film_losses(np.array([[1, 0]]), np.array([[0.0, 1.0]]))).all()
