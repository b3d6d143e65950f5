"""The face for Python, and the one command."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import write_tiny
from test_documents import COMMANDS as MODULES

import mmfusion
from mmfusion.__main__ import COMMANDS
from mmfusion.evaluation.frame import COLUMNS

SCRIPT = Path(sys.executable).with_name("mmfusion")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    tiny = write_tiny(folder / "tiny.toml")
    return mmfusion.train(
        "joint", config=tiny, epochs=2, seed=3, settings={"joint.dropout": 0.1}, out=folder / "run"
    )


class TestPython:
    def test_it_is_there_without_a_large_library(self):
        code = "import sys, mmfusion; mmfusion.train, mmfusion.Config; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not {"tensorflow", "keras", "pandas", "sklearn", "matplotlib"} & set(done.stdout.split())

    def test_a_run_has_a_report_and_a_model(self, run):
        assert run.report["variant"] == "joint"
        assert (run.config.seed, run.config.training.epochs, run.config.joint.dropout) == (3, 2, 0.1)
        assert isinstance(run.model, keras.Model)
        again = mmfusion.load(str(run.path))
        assert again.report == run.report
        assert "run: joint (resnet + bag)" in (run.path / "report.md").read_text()

    def test_the_parts_of_late_fusion_are_runs_like_any_other(self, trained):
        late = mmfusion.load(trained("late").folder)
        poster, overview = late.parts
        assert (poster.config.variant, overview.config.variant) == ("poster", "overview")
        assert isinstance(overview.model, keras.Model)
        assert mmfusion.predict(overview, overviews=["A ghost"]).shape == (1, len(late.genres))
        assert list(mmfusion.evaluate(poster, overview, late)["model"].unique()) == [
            "poster (resnet)",
            "overview (bag)",
            "late (resnet + bag)",
        ]

    def test_it_predicts_a_frame_of_films_by_genres(self, run, tmp_path):
        poster = next(run.films_folder.glob("*.jpg"))
        found = mmfusion.predict(
            run, posters=[poster, None, poster.read_bytes()], overviews=["A ghost", "A ghost", None]
        )
        assert list(found.columns) == list(run.genres)
        assert found.shape == (3, len(run.genres))
        alone = mmfusion.predict(run, posters=[str(poster)])
        np.testing.assert_allclose(found.loc[2], alone.loc[0], atol=1e-6)

    def test_it_scores_runs_as_one_long_table(self, run):
        found = mmfusion.evaluate(run)
        assert tuple(found.columns) == COLUMNS
        whole = found[found["genre"] == ""].set_index("metric")["value"]
        assert whole["ap_micro"] == run.report["metrics"]["ap_micro"]
        assert whole["tuned.f1_macro"] == run.report["metrics"]["tuned"]["f1_macro"]
        of_genres = found[(found["metric"] == "ap") & (found["genre"] == run.genres[0])]["value"]
        assert of_genres.item() == next(row["ap"] for row in run.report["genres"] if row["genre"] == run.genres[0])

    @pytest.mark.parametrize(
        ("call", "said"),
        [
            (lambda run: mmfusion.train("jiont"), "unknown variant 'jiont'; there are: poster, "),
            (lambda run: mmfusion.train("joint", epochs=0), "training.epochs must be from 1"),
            (lambda run: mmfusion.train("overview", fusion="sum"), "fusion does nothing here"),
            (lambda run: mmfusion.train("joint", settings={"data.size": 1}), "unknown key data.size"),
            (lambda run: mmfusion.load("nowhere"), "nowhere is not a run folder"),
            (lambda run: mmfusion.predict(run), "one of each for every film, not nothing"),
            (lambda run: mmfusion.predict(run, posters=[None], overviews=[]), "'posters': 1, 'overviews': 0"),
            (lambda run: mmfusion.predict(run, posters=["none.jpg"]), "none.jpg cannot be read"),
            (lambda run: mmfusion.predict(run, posters=[b"no picture"]), "a poster cannot be read"),
            (lambda run: mmfusion.predict(run, overviews=[]), "one of each for every film"),
            (lambda run: mmfusion.predict(run, overviews="A ghost"), "predict takes lists"),
            (lambda run: mmfusion.predict(run, tables=[{"Year": 1994}]), "give posters or overviews"),
            (lambda run: mmfusion.evaluate(), "one run or more"),
            (lambda run: mmfusion.train("joint", settings={"recipe": "report"}), "recipe is chosen with --recipe"),
            (
                lambda run: mmfusion.train("joint", epochs=3, settings={"training.epochs": 9}),
                "training.epochs=9: epochs says 3; leave out one of the two",
            ),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, run, call, said):
        with pytest.raises(mmfusion.UserError) as error:
            call(run)
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_function_stays_one_where_its_command_was_imported(self):
        code = """
import mmfusion.train, mmfusion.predict, mmfusion.evaluate, mmfusion
try:
    mmfusion.train("jiont")
except mmfusion.UserError as error:
    print(error)
print(all(map(callable, (mmfusion.train, mmfusion.predict, mmfusion.evaluate))))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "unknown variant" in done.stdout
        assert done.stdout.endswith("True\n")


class TestCommand:
    def called(self, folder, *words):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        code = "from mmfusion.__main__ import main; main()"
        call = [SCRIPT] if SCRIPT.exists() else [sys.executable, "-P", "-c", code]
        return subprocess.run(
            [*call, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )

    def test_it_works_in_any_folder_whatever_that_holds(self, tmp_path):
        for name in ("mmfusion", "tuning", "benchmarks", "keras", "numpy", "json"):
            (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
        for words in (["train", "--help"], ["search", "--help"], ["table", "--help"], []):
            done = self.called(tmp_path, *words)
            assert done.returncode == 0, done.stderr
            assert f"mmfusion {' '.join(words[:1])}" in done.stdout

    def test_a_word_that_it_does_not_know_is_refused_in_one_line(self, tmp_path):
        done = self.called(tmp_path, "trian")
        assert (done.returncode, done.stderr) == (2, "mmfusion: unknown command 'trian'; did you mean train?\n")

    def test_every_command_has_a_word(self):
        assert sorted(module for module, _ in COMMANDS.values()) == MODULES
