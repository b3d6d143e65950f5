"""How much gated fusion trusts a poster: by film in the run, by genre in its report."""

import numpy as np
import pytest
from conftest import run_variant

from mmfusion import assessment, experiment
from mmfusion.errors import UserError
from mmfusion.schema import OVERVIEW, POSTER


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, cache = tmp_path_factory.mktemp("gates"), tmp_path_factory.getbasetemp() / "cache"
    return run_variant("joint", folder / "gated", cache, joint__operator="gated")


def test_it_is_the_mean_of_a_films_gates(run, cache):
    prepared = experiment.prepare(run.config.data, run.config.seed, cache)
    read, model = prepared.inputs(run.config), experiment.load_model(run)
    units = []
    operator = model.operator
    model.operator = lambda features, training: units.append(operator.gates(features)) or operator(features)
    for split in ("validation", "test"):
        rows = prepared.films.rows(run.split[split])
        poster, overview = (read.films[one].at(rows).values for one in (POSTER, OVERVIEW))
        model({POSTER: poster / np.float32(255), OVERVIEW: overview})
        expected = np.mean(units.pop(), axis=1)
        assert expected.std() > 1e-4
        np.testing.assert_allclose(run.poster_gates(split), expected, atol=1e-5)


def test_the_report_has_the_mean_over_each_genres_films(run):
    test, gates = run.predictions("test"), run.poster_gates("test")
    rows = {row["genre"]: row for row in run.report["genres"]}
    table = (run.folder / "report.md").read_text()
    for genre, there in zip(run.genres, test.y_true.T > 0):
        expected = gates[there].mean() if there.any() else None
        assert rows[genre]["poster_gate"] == pytest.approx(expected)
        line = next(line for line in table.splitlines() if line.startswith(f"| {genre} "))
        assert line.endswith(f" {expected:.3f} |" if there.any() else " – |")
    assert f"{gates.mean():.3f} over all films" in table


def test_no_other_run_has_gates(run, tmp_path, cache):
    other = run_variant("joint", tmp_path / "concat", cache)
    assert other.poster_gates("test") is None
    assert "poster_gate" not in other.report["genres"][0]
    scored = [assessment.score(one, "test") for one in (run, other)]
    assessment.write_comparison(scored, tmp_path / "both")  # side by side, one with and one without
    assert (tmp_path / "both" / "report.md").read_text().count(" gate |") == 1


@pytest.mark.parametrize("value", [np.float32([0.5]), None, "of another type", "too great"])
def test_gates_that_cannot_be_are_refused(run, tmp_path, value):
    arrays = dict(np.load(run.predictions_file))
    good = arrays["poster_gate_test"]
    made = {"None": np.full(len(good), np.nan, np.float32), "of another type": good.astype(np.float64)}
    made["too great"] = good + np.float32(1)
    bad = value if isinstance(value, np.ndarray) else made[str(value)]
    before = run.predictions_file.read_bytes()
    try:
        np.savez(run.predictions_file, **{**arrays, "poster_gate_test": bad})
        run.seal()
        with pytest.raises(UserError, match="poster_gate_test must be a number from 0 to 1 for each film"):
            run.poster_gates("test")
    finally:
        run.predictions_file.write_bytes(before)
        run.seal()
