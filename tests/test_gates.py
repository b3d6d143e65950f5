"""How much gated fusion trusts each modality: by film in the run, by genre in its report."""

import numpy as np
import pytest
from conftest import run_variant

from mmfusion import inference
from mmfusion.errors import UserError
from mmfusion.evaluation import scoring
from mmfusion.reports import report
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training import preparation


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("gates"), tmp_path_factory.getbasetemp() / "cache"
    return run_variant("joint", folder / "gated", cache, joint__operator="gated")


def test_it_is_the_mean_of_a_films_gates(run, cache):
    prepared = preparation.prepare(run.config, cache)
    read, model = prepared.inputs(run.config), inference.load_model(run)
    units = []
    operator = model.operator
    model.operator = lambda features, training: units.append(operator.gates(features)) or operator(features)
    for split in ("validation", "test"):
        rows = prepared.films.rows(run.split[split])
        poster, overview = (read.films[one].at(rows).values for one in (POSTER, OVERVIEW))
        model({POSTER: poster / np.float32(255), OVERVIEW: overview})
        expected = np.mean(units.pop(), axis=2).T  # (N, M)
        assert expected[:, 0].std() > 1e-4
        np.testing.assert_allclose(run.gates(split), expected, atol=1e-5)


def test_the_report_has_the_mean_over_each_genres_films(run):
    test, gates = run.predictions("test"), run.gates("test")
    rows = {row["genre"]: row for row in run.report["genres"]}
    table = (run.folder / "report.md").read_text()
    for genre, there in zip(run.genres, test.y_true.T > 0):
        expected = gates[there].mean(axis=0).tolist() if there.any() else [None, None]
        assert list(rows[genre]["gates"]) == [POSTER, OVERVIEW]
        assert list(rows[genre]["gates"].values()) == pytest.approx(expected)
        line = next(line for line in table.splitlines() if line.startswith(f"| {genre} "))
        assert line.endswith(" – |" if None in expected else f" {expected[1]:.3f} |")
    poster, overview = gates.mean(axis=0)
    assert f"Over all films: poster {poster:.3f}, overview {overview:.3f}." in table


def test_no_other_run_has_gates(run, trained, tmp_path):
    other = trained("joint")
    assert other.gates("test") is None
    assert "gates" not in other.report["genres"][0]
    scored = [scoring.score(one, "test") for one in (run, other)]
    report.write_comparison(scored, tmp_path / "both")  # side by side, one with and one without
    assert (tmp_path / "both" / "report.md").read_text().count("gate poster") == 1


@pytest.mark.parametrize("value", [np.float32([[0.5, 0.5]]), None, "of another type", "too great"])
def test_gates_that_cannot_be_are_refused(run, tmp_path, value):
    arrays = dict(np.load(run.predictions_file))
    good = arrays["gates_test"]
    made = {"None": np.full_like(good, np.nan), "of another type": good.astype(np.float64)}
    made["too great"] = good + np.float32(1)
    bad = value if isinstance(value, np.ndarray) else made[str(value)]
    before = run.predictions_file.read_bytes()
    try:
        np.savez(run.predictions_file, **{**arrays, "gates_test": bad})
        run.seal()
        with pytest.raises(UserError, match="gates_test must hold numbers from 0 to 1"):
            run.gates("test")
    finally:
        run.predictions_file.write_bytes(before)
        run.seal()
