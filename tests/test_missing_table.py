"""Networks asked for films without a poster or an overview, and what the benchmark's report makes of it."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import command, folder_of, row_of, write_folder
from test_benchmark import rows, settings

from benchmarks import missing, table
from benchmarks import run as benchmark
from benchmarks.collect import collect
from benchmarks.missing import SHARES, is_missing
from mmfusion import inference
from mmfusion.data.encoded import Encoded
from mmfusion.errors import UserError
from mmfusion.evaluation.metrics import average_precision
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training import fitting, preparation
from mmfusion.training.inputs import Inputs

NETWORKS = ("poster", "overview", "joint", "late")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "films", films=130)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, films):
    """A sweep of one epoch that was asked after it was finished, and its report; tests do not change it."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    call = [
        "--data-dir",
        films,
        "--out",
        out,
        *settings(variants=NETWORKS),
        "--set=training.epochs=1",
        "--variants",
        *NETWORKS,
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        assert command(benchmark.main, patch, *call) == 0
        before = times(out)
        assert command(benchmark.main, patch, *call, "--missing") == 0
        asked = times(out)
        assert {path: asked[path] for path in before} == before  # nothing is trained or asked again
        assert {path.name for path in set(asked) - set(before)} == {"missing.npz"}
        assert command(benchmark.main, patch, *call, "--missing") == 0
        assert times(out) == asked
        assert command(table.main, patch, out) == 0
    return out


def times(out: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in out.glob("seed-*/*/*") if path.is_file()}


def test_which_films_are_missing_depends_on_their_ids_alone_and_grows_with_the_share():
    ids = [f"tt{number:07d}" for number in range(4000)]
    masks = [is_missing(ids, share) for share in SHARES]
    for share, mask, larger in zip(SHARES, masks, [*masks[1:], np.ones(4000, bool)]):
        assert mask.mean() == pytest.approx(share, abs=0.03)
        assert not (mask & ~larger).any()
        np.testing.assert_array_equal(is_missing(ids[::-3], share), mask[::-3])
    assert not masks[0].any()
    assert masks[-1].all()


def test_a_modality_is_taken_away_in_the_form_that_the_model_reads():
    pictures, words = np.ones((3, 4, 4, 3), np.uint8), np.full((3, 5), 2, np.int32)
    features = Encoded(np.ones((3, 6), np.float32), "features", padding=7)
    rows = np.array([2, 0])
    for of_posters, of_overviews, nothing in (
        (Encoded(pictures, "pixels"), Encoded(words, "tokens", padding=7), 7),
        (features, features, 0),
    ):
        read = Inputs({POSTER: of_posters, OVERVIEW: of_overviews}, {})
        poster, overview = (read.without(modality, rows).films for modality in (POSTER, OVERVIEW))
        assert (poster[POSTER].values == 0).all()
        assert (overview[OVERVIEW].values == nothing).all()
        np.testing.assert_array_equal(poster[OVERVIEW].values, of_overviews.values[rows])
        np.testing.assert_array_equal(overview[POSTER].values, of_posters.values[rows])
    assert (words == 2).all()


@pytest.mark.parametrize("modality", [POSTER, OVERVIEW])
@pytest.mark.parametrize("name", ["joint", "late"])
def test_a_share_of_films_without_is_put_together_from_two_answers(sweep, cache, name, modality):
    """The model itself, asked for films of which some miss a modality, says the same."""
    run = Run(sweep / "seed-0" / folder_of(name))
    prepared = preparation.prepare(run.config, cache)
    test, predictions = prepared.rows["test"], run.predictions("test")
    gone = is_missing(predictions.ids, 0.5)
    whole = prepared.inputs(run.config)
    some = whole.without(modality, test)
    for name, of in whole.films.items():
        some.films[name].values[~gone] = of.values[test][~gone]
    source = some.source(prepared.films.labels[test], 16)
    found = 1 / (1 + np.exp(-fitting.logits_of(inference.load_model(run), source, np.arange(len(test)))))
    expected = np.where(gone[:, None], missing.read(run)[modality], predictions.y_prob)
    assert 0 < gone.sum() < len(gone)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_late_fusion_without_a_modality_is_the_other_model(sweep):
    late, poster, overview = (Run(sweep / "seed-0" / folder_of(name)) for name in ("late", "poster", "overview"))
    answers = missing.read(late)
    np.testing.assert_array_equal(answers[POSTER], overview.predictions("test").y_prob)
    np.testing.assert_allclose(answers[OVERVIEW], poster.predictions("test").y_prob, atol=1e-6)  # in other batches


def test_the_section_has_every_network_the_floor_and_what_fusions_have_over_it(sweep):
    results, _ = collect(sweep)
    numbers = {
        (row["missing"], row["model"], float(row["share"])): row for row in rows(sweep / "figures" / "missing.csv")
    }
    assert len(numbers) == 2 * (len(NETWORKS) + 1) * len(SHARES)
    test = results[row_of("poster")][0].test

    def score(name, modality, share):
        result = results[row_of(name)][0]
        gone = is_missing(test.ids, share)[:, None]
        said = result.without.get(modality, result.test.y_prob)
        return average_precision(test.y_true, np.where(gone, said, result.test.y_prob))

    def switch(name, other, share):
        """The one where a film has what it reads, else the other: what a fusion must beat."""
        gone = is_missing(test.ids, share)[:, None]
        return average_precision(
            test.y_true, np.where(gone, *(results[row_of(one)][0].test.y_prob for one in (other, name)))
        )

    for share in SHARES:
        floors = {
            POSTER: max(score("overview", OVERVIEW, 0.0), switch("poster", "overview", share)),
            OVERVIEW: max(
                score("poster", POSTER, 0.0),
                score("overview", OVERVIEW, share),
                switch("overview", "poster", share),
            ),
        }
        for modality, floor in floors.items():
            assert float(numbers[modality, "floor", share]["ap"]) == pytest.approx(floor)
            for name in NETWORKS:
                row = numbers[modality, row_of(name), share]
                assert float(row["ap"]) == pytest.approx(score(name, modality, share))
                if name in ("joint", "late"):
                    assert float(row["difference"]) == pytest.approx(float(row["ap"]) - floor)
                    assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
                else:
                    assert row["difference"] == ""
    # Late fusion without any poster is the floor itself.
    last = numbers[POSTER, row_of("late"), 1.0]
    assert [float(last[column]) for column in ("difference", "low", "high")] == [0, 0, 0]
    text = (sweep / "RESULTS.md").read_text()
    section = text.split("## Missing modalities")[1].split("\n## ")[0]
    assert re.findall(r"^\| (posters|overviews) missing", section, re.M) == ["posters", "overviews"]
    assert section.count("| floor ") == 2
    assert "figures/missing.png" in text


def test_a_report_of_networks_that_were_not_asked_has_no_such_section(sweep, tmp_path, monkeypatch):
    shutil.copytree(sweep, tmp_path / "copy")
    for file in (tmp_path / "copy").rglob("missing.npz"):
        file.unlink()
    assert command(table.main, monkeypatch, tmp_path / "copy") == 0
    assert "Missing modalities" not in (tmp_path / "copy" / "RESULTS.md").read_text()
    assert not (tmp_path / "copy" / "figures" / "missing.png").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: {POSTER: found[POSTER]}, "must hold answers without poster and overview"),
        (lambda found: {**found, "payload": found[POSTER]}, "must hold answers without poster and overview"),
        (lambda found: {**found, POSTER: found[POSTER][1:]}, "poster must hold"),
        (lambda found: {**found, OVERVIEW: found[OVERVIEW] + np.nan}, "overview must hold"),
        (lambda found: {**found, OVERVIEW: found[OVERVIEW] + 1}, "overview must hold"),
    ],
)
def test_answers_of_another_form_are_refused(sweep, tmp_path, change, said):
    run = Run(shutil.copytree(sweep / "seed-0" / folder_of("joint"), tmp_path / "joint"))
    file = run.folder / "missing.npz"
    np.savez(file, **change(missing.read(run)))
    with pytest.raises(UserError, match=said):
        missing.read(run)
