"""Data sets with next to nothing in them: what one command accepts goes through all the others."""

import csv

import numpy as np
import pytest
from conftest import command, folder_of, write_tiny
from PIL import Image
from sketches import sketch

from benchmarks import run as benchmark
from benchmarks import table
from mmfusion import evaluate, export, predict, train
from tuning import search

pytestmark = pytest.mark.pictures


def write(folder, films: int, genres_of, overview_of=lambda i: f"word{i} word{i % 3} film"):
    """Films whose genres, among Comedy and War, and overviews are functions of their number."""
    rng = np.random.default_rng(0)
    (folder / "Images").mkdir(parents=True)
    with (folder / "IMDB_overview_genres.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Id", "Genre", "Comedy", "War", "Overview"])
        for i in range(films):
            has = genres_of(i)
            writer.writerow([f"tt{i}", "[]", int("Comedy" in has), int("War" in has), overview_of(i)])
            Image.fromarray(rng.integers(0, 255, (24, 16, 3), np.uint8)).save(folder / "Images" / f"tt{i}.jpg")


DATA_SETS = {
    "no genre": {"films": 40, "genres_of": lambda i: []},
    "one genre, most overviews empty": {
        "films": 40,
        "genres_of": lambda i: ["War"] if i % 2 else [],
        "overview_of": lambda i: "" if i % 8 else f"War {i}.",
    },
    "ten films, all with the same genres": {"films": 10, "genres_of": lambda i: ["War", "Comedy"]},
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_what_one_command_accepts_goes_through_all_of_them(name, tmp_path, monkeypatch, capsys):
    write(tmp_path / "films", **DATA_SETS[name])
    films = ["--data-dir", tmp_path / "films", "--config", write_tiny(tmp_path / "tiny.toml")]
    films += ["--epochs", 1, "--set", "data.split=[0.8,0.1,0.1]"]
    results = tmp_path / "results"
    poster, overview, late = (results / "seed-0" / folder_of(name) for name in ("poster", "overview", "late"))
    names = ["frequencies", "colours", "tfidf", "tfidf_colours", "poster", "overview", "late"]
    for main, *call in (
        (benchmark.main, *films, "--variants", *names, "--missing", "--out", results),
        (table.main, results),
        (
            train.main,
            "--variant",
            "late",
            *films[:4],
            *films[6:],
            "--parts",
            poster,
            overview,
            "--out",
            tmp_path / "again",
        ),
        (evaluate.main, tmp_path / "again", late, overview, "--out", tmp_path / "report"),
        (evaluate.main, late, "--split", "validation"),
        (predict.main, late, "--overview", "word1 film"),
        (export.main, overview, "--format", "savedmodel", "--out", tmp_path / "exported"),
    ):
        sketch(main is benchmark.main)  # the two evaluations and the table draw the same kinds for fewer runs
        assert command(main, monkeypatch, *call) == 0, capsys.readouterr().err
    written = "".join(file.read_text("utf-8") for file in results.glob("*.[mh]*"))
    assert "nan" not in written.replace("nan:", "").lower().split()
    assert "[nan" not in written
    assert "[+nan" not in written
    lines = [line for file in results.rglob("*.md") for line in file.read_text("utf-8").splitlines()]
    rules = [line for line in lines if line.startswith("| -") and not set(line) - set("|-: ")]
    assert rules
    assert all("-" in cell for line in rules for cell in line.strip("|").split("|"))  # else it is no table
    sketch()
    # A search has to have something to compare trials by, and says so where there is nothing.
    out = ["--only", "training.decay", "--max-trials", 1, "--out", tmp_path / "search"]
    code = command(search.main, monkeypatch, "--variant", "overview", *films, *out)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert (code == 0) == (name != "no genre") or "give no ap_micro" in error
