"""A run is never scored on a film that trained or tuned it, under whatever id the film comes."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import command, run_variant, write_folder

from mmfusion import evaluate, inference
from mmfusion.data.splits import content_hash
from mmfusion.runs import Run
from mmfusion.runs.overlap import splits_of


class Known:
    """Stands in for a run."""

    split = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    hashes = np.array([[11, 21], [12, 0], [13, 23], [14, 24]], np.uint64)  # of posters and overviews


@pytest.mark.parametrize(
    ("film", "hashes", "split"),
    [
        ("a", [19, 29], "train"),
        ("x", [13, 29], "validation"),
        ("x", [19, 21], "train"),
        ("x", [14, 23], "validation"),  # a poster that tests and an overview that tuned
        ("d", [19, 29], "test"),
        ("x", [19, 0], None),  # no overview is like no other
        ("x", [0, 0], None),
    ],
)
def test_a_film_is_known_by_its_id_its_poster_or_its_overview(film, hashes, split):
    assert splits_of(Known, [film], np.array([hashes], np.uint64)).get(film) == split


def test_white_space_around_an_overview_says_nothing():
    assert content_hash(" A war.\n") == content_hash("A war.") != content_hash("A  war.")
    assert content_hash(" \n") == content_hash(b"") == 0


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with splits of their own, on a folder of films that has since been renumbered."""
    folder, cache = tmp_path_factory.mktemp("overlap"), tmp_path_factory.getbasetemp() / "cache"
    films = write_folder(folder / "films", films=80)
    named = {"data__dataset": "multimodal_imdb", "data__data_dir": str(films), "training__epochs": 1}
    runs = [run_variant("overview", folder / f"seed{seed}", cache, seed=seed, **named) for seed in (0, 1)]
    other = folder / "other"
    (other / "Images").mkdir(parents=True)
    with (films / "IMDB_overview_genres.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:  # the posters are the same, the ids and overviews are not
        shutil.copy(films / "Images" / f"{row['Id']}.jpg", other / "Images" / f"new{row['Id']}.jpg")
        row |= {"Id": f"new{row['Id']}", "Overview": f"Again: {row['Overview']}"}
    with (other / "IMDB_overview_genres.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return runs, films, other


def used(runs):
    return {film for run in runs for split in ("train", "validation") for film in run.split[split]}


@pytest.mark.parametrize("split", ["test", "all"])
@pytest.mark.parametrize("renumbered", [False, True])
def test_runs_of_other_seeds_are_scored_on_no_film_that_any_of_them_used(
    runs, split, renumbered, tmp_path, monkeypatch, capsys
):
    (first, second), films, other = runs
    scored, real = [], inference.predict_films
    listening = lambda run, films, ids, **how: scored.append(ids) or real(run, films, ids, **how)  # noqa: E731
    monkeypatch.setattr(inference, "predict_films", listening)
    folder = other if renumbered else films
    call = (first.folder, second.folder, "--data-dir", folder, "--split", split, "--out", tmp_path / "out")
    assert command(evaluate.main, monkeypatch, *call) == 0
    said = capsys.readouterr().out
    free = set(first.split["test"]) & set(second.split["test"])
    assert {film.removeprefix("new") for film in scored[0]} == free
    assert free.isdisjoint(used([first, second]))
    assert "were trained or tuned on by these runs: left out" in said
    assert json.loads((tmp_path / "out" / "report.json").read_text())["runs"][0]["films"] == len(free)


def test_films_that_tuned_a_run_are_not_asked_for_by_a_folder(runs, monkeypatch, capsys):
    (first, _), films, _ = runs
    call = (first.folder, "--data-dir", films, "--split", "validation")
    assert command(evaluate.main, monkeypatch, *call) == 2
    assert "those films tuned the run" in capsys.readouterr().err


def test_a_run_that_keeps_no_hashes_knows_films_by_their_ids_and_it_is_said(runs, tmp_path, monkeypatch, capsys):
    (first, _), films, _ = runs
    shutil.copytree(first.folder, tmp_path / "old")
    old = Run(tmp_path / "old")
    assert old.hashes.shape == (80, 2)
    old.hashes_file.unlink()
    old.seal()
    assert command(evaluate.main, monkeypatch, old.folder, "--data-dir", films, "--out", tmp_path / "out") == 0
    assert "keeps no hashes of its films: they are known by their ids only" in capsys.readouterr().out


def test_hashes_in_split_json_are_read_as_they_were_before(runs, tmp_path):
    (first, _), *_ = runs
    shutil.copytree(first.folder, tmp_path / "old")
    old = Run(tmp_path / "old")
    films = [film for ids in first.split.values() for film in ids]
    told = {film: [f"{one:016x}" if one else "" for one in of] for film, of in zip(films, first.hashes.tolist())}
    (old.folder / "split.json").write_text(json.dumps({**first.split, "hashes": told}))
    old.hashes_file.unlink()
    old.seal()
    assert old.split == first.split
    np.testing.assert_array_equal(old.hashes, first.hashes)


def test_a_drawn_film_says_which_runs_trained_on_it(runs, tmp_path, monkeypatch):
    (first, second), films, _ = runs
    film = next(film for film in first.split["test"] if film in second.split["train"])
    titles = []
    from mmfusion.reports import panels

    monkeypatch.setattr(panels, "draw_panel", lambda title, shown, path: titles.extend(one.title for one in shown))
    call = (first.folder, second.folder, "--data-dir", films, "--show", film, "--out", tmp_path / "out")
    assert command(evaluate.main, monkeypatch, *call) == 0
    assert f"{film} (test film of seed0: overview (bag), train film of seed1: overview (bag))" in titles
