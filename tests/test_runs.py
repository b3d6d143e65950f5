"""A run from the first command to the last: train, interrupt, resume, evaluate, predict."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tomli_w
from conftest import FROM_FILMS, PARTS, command, row_of, run_variant, tiny_config, write_folder
from processes import one_line

from mmfusion import evaluate, inference, predict, train
from mmfusion.config import LOSSES
from mmfusion.data.films import load_films
from mmfusion.errors import UserError
from mmfusion.evaluation import scoring
from mmfusion.reports import report
from mmfusion.runs import Predictions, Run, sealed
from mmfusion.schema import SPLITS
from mmfusion.training import experiment, fitting
from mmfusion.training.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def runs(trained):
    """A finished run of every variant that needs no preset, on the same synthetic films; not to be changed."""
    return {variant: trained(variant) for variant in FROM_FILMS}


@pytest.mark.parametrize("variant", FROM_FILMS)
class TestEveryRun:
    def test_has_every_file_that_the_readme_names(self, runs, variant):
        names = {path.name for path in runs[variant].folder.iterdir()}
        expected = {"config.json", "split.json", "hashes.npz", "vocabulary.txt", "genres.json", "model.keras"}
        expected |= {"predictions.npz", "manifest.json", "report.json", "report.md", "figures", "films"}
        assert names == expected | ({"parts"} if variant == "late" else {"history.csv"})

    def test_its_model_comes_back_with_the_same_predictions(self, runs, variant, cache):
        run = runs[variant]
        films = load_films(run.config.data, cache, poster_size=16)
        found = run.predictions("test")
        again, _ = inference.with_truth(run, films, inference.predict_films(run, films, found.ids))
        np.testing.assert_array_equal(again.y_prob, found.y_prob)
        np.testing.assert_array_equal(again.y_true, found.y_true)

    def test_its_files_are_read_once_as_long_as_they_are_the_same(self, runs, variant, tmp_path, monkeypatch):
        read, real = [], sealed.read_regular
        monkeypatch.setattr(
            sealed, "read_regular", lambda path, *args: (read.append(path.name), real(path, *args))[1]
        )
        run = Run(shutil.copytree(runs[variant].folder, tmp_path / "run"))
        scoring.score(run, "test")
        of_run = {name: read.count(name) for name in ("split.json", "predictions.npz", "genres.json")}
        assert of_run == {"split.json": 1, "predictions.npz": 1, "genres.json": 1}
        assert read.count("config.json") == 1
        run.split["test"].clear()
        run.facts["films"].clear()
        assert run.split == Run(run.folder).split
        assert run.facts == Run(run.folder).facts
        run.write_predictions({"test": run.predictions("validation")})
        with pytest.raises(UserError, match="not the file that this run wrote"):
            run.predictions("test")

    def test_its_report_can_be_made_again_from_its_files(self, runs, variant, tmp_path):
        shutil.copytree(runs[variant].folder, tmp_path / "copy" / variant)
        copy = Run(tmp_path / "copy" / variant)
        before = copy.report
        copy.report_file.unlink()
        shutil.rmtree(copy.figures_folder)
        report.write_report(copy)
        assert copy.report == before
        assert {f.name for f in copy.figures_folder.iterdir()} >= {"genres.png", "well.png", "badly.png"}


@pytest.mark.parametrize("variant", FROM_FILMS)
def test_its_probabilities_are_calibrated_and_no_other_temperature_had_less_cross_entropy(runs, variant):
    run = runs[variant]
    assert run.report["temperature"] == run.temperature
    if variant == "late":  # its parts have theirs
        assert run.temperature is None
        return
    found = run.predictions("validation")
    p = found.y_prob.astype(np.float64)
    hotter = 0.9 if run.temperature < 9.99 else 1  # 10 is the greatest; a model that knows nothing has it
    colder = 1.1 if run.temperature > 0.1001 else 1  # and 0.1 the least, of one that says next to nothing
    others = np.array([1, hotter, colder, run.temperature])  # the last: those before
    losses = [np.mean(np.logaddexp(0, z) - found.y_true * z) for z in np.log(p / (1 - p)) * others[:, None, None]]
    assert losses[0] <= min(losses) + 1e-6
    assert float(inference.load_model(run).temperature) == run.temperature


def test_all_variants_of_a_seed_have_the_same_split_and_no_film_in_two(runs):
    splits = [run.split for run in runs.values()]
    assert all(split == splits[0] for split in splits)
    films = [film for name in SPLITS for film in splits[0][name]]
    assert len(films) == len(set(films)) == 60


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(runs, trained, tmp_path, cache):
    before = runs["joint"].predictions_file.read_bytes()
    again = experiment.train(tiny_config("joint"), tmp_path / "again", cache)
    assert again.predictions_file.read_bytes() == before
    other = trained("poster", seed=1)
    assert other.predictions_file.read_bytes() != runs["poster"].predictions_file.read_bytes()


AVERAGED = {"training__ema_momentum": 0.9, "training__schedule": "cosine", "wide__units": "words"}


@pytest.mark.parametrize(
    ("variant", "moment", "settings"),
    [
        ("poster", "in an epoch", {}),
        ("joint", "before its state is written", {}),
        ("poster", "before its model is written", {}),
        ("overview", "before its model is written", AVERAGED),
        ("poster", "at the end", {}),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_result(
    trained, tmp_path, cache, monkeypatch, variant, moment, settings
):
    """With augmentation and dropout; the history of the second epoch may be written already."""
    undisturbed = trained(variant, **settings)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    class Interrupted(Checkpoint):
        def on_train_batch_end(self, batch, logs=None):
            if moment == "in an epoch" and batch == 1 and len(self._rows) == 1:
                interrupt()

        def on_epoch_end(self, epoch, logs=None):
            if moment == "before its state is written" and epoch == 1:
                self._run.write_state = interrupt
            if moment == "before its model is written":
                self.model.save = interrupt
            super().on_epoch_end(epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "Checkpoint", Interrupted)
        if moment == "at the end":
            patch.setattr(report, "write_report", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_variant(variant, tmp_path / "run", cache, **settings)
    assert command(train.main, monkeypatch, "--resume", tmp_path / "run") == 0
    resumed = Run.open(tmp_path / "run")
    assert resumed.predictions_file.read_bytes() == undisturbed.predictions_file.read_bytes()
    assert [row["val_loss"] for row in resumed.history] == [row["val_loss"] for row in undisturbed.history]
    assert not list(resumed.folder.glob(".*"))


def test_going_on_with_other_threads_says_that_the_bytes_will_differ(runs, tmp_path, monkeypatch, capsys):
    run = Run(shutil.copytree(runs["poster"].folder, tmp_path / "run"))
    values = json.loads(run.config_file.read_text())
    values["facts"]["threads"] += 1
    run.config_file.write_text(json.dumps(values))
    run.seal()
    run.report_file.unlink()
    assert command(train.main, monkeypatch, "--resume", run.folder) == 0
    assert "other threads than at the start" in capsys.readouterr().out


def test_a_long_training_and_a_long_overview_can_be_read_again(tmp_path, runs):
    run = Run(tmp_path)
    rows = [{**runs["poster"].history[0], "epoch": epoch + 1} for epoch in range(10_000)]
    run.write_history(rows)
    assert run.history == rows
    run.write_films({}, {f"film{number}": "é" * 1_000_000 for number in range(12)})
    assert len(run.films()) == 12


def test_late_fusion_interrupted_between_its_parts_keeps_the_first(runs, tmp_path, cache, monkeypatch):
    real, trained = fitting.fit, []

    def interrupted(model, run, *args, **kwargs):
        trained.append(run.name)
        if trained.count("overview") == 1 and run.name == "overview":
            raise KeyboardInterrupt
        real(model, run, *args, **kwargs)

    monkeypatch.setattr(fitting, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_variant("late", tmp_path / "run", cache)
    assert command(train.main, monkeypatch, "--resume", tmp_path / "run") == 0
    assert trained == ["poster", "overview", "overview"]
    resumed = Run.open(tmp_path / "run")
    assert resumed.predictions_file.read_bytes() == runs["late"].predictions_file.read_bytes()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_best_epoch_by_validation_loss_is_kept_and_patience_ends_training(tmp_path, cache, loss):
    """Of whatever loss of training: the validation loss is the cross-entropy of the probabilities."""
    # A rate so great that the first epochs are the best.
    run = run_variant(
        "overview",
        tmp_path / "run",
        cache,
        overview_encoder__name="bilstm",
        training__learning_rate=0.5,
        training__epochs=30,
        training__patience=2,
        training__loss=loss,
        training__calibrate=False,
    )
    assert run.report["temperature"] is None
    losses = [row["val_loss"] for row in run.history]
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    found = run.predictions("validation")
    p = np.clip(found.y_prob.astype(np.float64), 1e-7, 1 - 1e-7)
    kept = -np.mean(np.where(found.y_true > 0, np.log(p), np.log(1 - p)))
    assert kept == pytest.approx(min(losses), rel=1e-4)


def test_a_loss_that_is_no_number_ends_training_with_an_error(tmp_path, cache):
    with pytest.raises(UserError, match=r"loss is (nan|inf) in epoch"):
        run_variant("poster", tmp_path / "run", cache, poster_encoder__name="cnn", training__learning_rate=1e30)


class TestLateFusion:
    def test_its_parts_are_runs_of_their_own_and_its_scores_the_product_of_their_odds(self, runs):
        late = runs["late"]
        assert [part.name for part in late.parts] == list(PARTS)
        truth = late.predictions("validation").y_true
        of_genres = (truth.sum(axis=0) + 1) / ((1 - truth).sum(axis=0) + 1)
        odds = [p / (1 - p) for p in (part.predictions("test").y_prob.astype(float) for part in late.parts)]
        expected = odds[0] * odds[1] / of_genres
        np.testing.assert_allclose(late.predictions("test").y_prob, expected / (1 + expected), atol=1e-6)

    def test_of_two_finished_runs_equals_one_that_trains_them_itself(self, runs, tmp_path, monkeypatch):
        args = ["--variant", "late", "--out", tmp_path / "late", "--parts"]
        values = {
            key: value for key, value in tiny_config("late").to_dict().items() if key not in ("variant", "recipe")
        }
        (tmp_path / "tiny.toml").write_text(tomli_w.dumps(values))
        tiny = ["--config", tmp_path / "tiny.toml"]
        parts = [runs["overview"].folder, runs["poster"].folder]  # in either order
        assert command(train.main, monkeypatch, *args, *parts, *tiny) == 0
        found = Run.open(tmp_path / "late")
        assert found.predictions_file.read_bytes() == runs["late"].predictions_file.read_bytes()
        assert found.report["train_seconds"] > 0

    def test_may_be_of_the_reports_baselines(self, runs, tmp_path, cache):
        parts = [runs["bilstm"], runs["cnn"]]
        late = experiment.train(tiny_config("late"), tmp_path / "late", cache, part_runs=parts)
        assert late.config.label == "late (cnn + bilstm)"
        found = [part.predictions_file.read_bytes() for part in late.parts]
        assert found == [run.predictions_file.read_bytes() for run in reversed(parts)]

    def test_refuses_parts_of_other_films_and_of_the_wrong_variants(self, runs, tmp_path, cache):
        both = [runs["poster"], runs["overview"]]
        with pytest.raises(UserError, match="has another split than"):
            experiment.train(tiny_config("late", seed=3), tmp_path / "late", cache, part_runs=both)
        for wrong in (["poster", "joint"], ["poster", "cnn"], ["bilstm", "overview"]):
            with pytest.raises(
                UserError, match=f"run of poster and one of overview alone, not {' and '.join(wrong)}"
            ):
                experiment.train(
                    tiny_config("late"), tmp_path / "late", cache, part_runs=[runs[name] for name in wrong]
                )
        assert not (tmp_path / "late").exists()

    def test_its_combiner_never_sees_a_test_film(self, runs, tmp_path, cache, monkeypatch):
        seen = []
        real = fitting.logits_of

        def watched(model, source, rows):
            seen.append(set(rows.tolist()))
            return real(model, source, rows)

        monkeypatch.setattr(fitting, "logits_of", watched)
        config = tiny_config("late", late__combiner="stacked")
        parts = [runs["poster"], runs["overview"]]
        run = experiment.train(config, tmp_path / "late", cache, part_runs=parts)
        films = load_films(config.data, cache, poster_size=16)
        validation, test = (set(films.rows(run.split[name]).tolist()) for name in ("validation", "test"))
        # Both parts for the combiner; then, when it is fitted, what is written down.
        assert seen == [validation, validation, validation, test]


class TestEvaluate:
    def test_compares_runs_without_tensorflow(self, runs, tmp_path):
        folders = [str(run.folder) for run in runs.values()]
        code = (
            "import sys; from mmfusion.evaluate import main; main(); "
            "assert not {'tensorflow', 'keras'} & set(sys.modules)"
        )
        args = [sys.executable, "-c", code, *folders, "--out", str(tmp_path / "out")]
        done = subprocess.run(args, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        names = [run.config.label for run in runs.values()]
        for said in ("genre frequencies", "AP by genre", *names):
            assert said in done.stdout
        reports = json.loads((tmp_path / "out" / "report.json").read_text())["runs"]
        assert [report["name"] for report in reports] == names
        for name in ("report.md", "figures/genres.png", "figures/curves.png", "figures/badly.png"):
            assert (tmp_path / "out" / name).stat().st_size > 0

    def test_says_what_each_gains_over_the_first(self, runs, tmp_path, monkeypatch, capsys):
        called = [runs["overview"].folder, runs["joint"].folder, runs["early"].folder, "--out", tmp_path / "out"]
        assert command(evaluate.main, monkeypatch, *called) == 0
        written = json.loads((tmp_path / "out" / "report.json").read_text())
        first, *others = [report["metrics"]["ap_micro"] for report in written["runs"]]
        for gain, ap, name in zip(written["gains"], others, ("joint", "early"), strict=True):
            assert (gain["model"], gain["over"]) == (row_of(name), row_of("overview"))
            assert gain["gain"] == pytest.approx(ap - first)
            assert gain["low"] < gain["gain"] < gain["high"]
            assert 0 < gain["p"] <= 1
        row = f"| {row_of('joint')} | {row_of('overview')} | {written['gains'][0]['gain']:+.3f} |"
        for said in (capsys.readouterr().out, (tmp_path / "out" / "report.md").read_text()):
            assert row in " ".join(said.split())

    def test_writes_nothing_that_nobody_asked_for(self, runs, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert command(evaluate.main, monkeypatch, runs["poster"].folder, runs["joint"].folder) == 0
        assert list(tmp_path.iterdir()) == []

    def test_another_folder_leaves_out_what_was_trained_on_and_orders_genres_by_name(
        self, tmp_path, cache, monkeypatch, capsys
    ):
        here = write_folder(tmp_path / "here", genres=("Comedy", "N/A", "War"))
        there = write_folder(tmp_path / "there", films=60, genres=("War", "N/A", "Comedy"))
        named = {"data__dataset": "multimodal_imdb", "data__data_dir": str(here)}
        run = run_variant("poster", tmp_path / "run", cache, **named)
        out = ("--out", tmp_path / "out")
        assert command(evaluate.main, monkeypatch, run.folder, "--data-dir", there, *out) == 0
        seen = len(run.split["train"]) + len(run.split["validation"])
        assert f"{seen} of 60 films were trained or tuned on" in capsys.readouterr().out
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert report["films"] == 60 - seen
        assert [row["genre"] for row in report["genres"]] == ["Comedy", "N/A", "War"]
        assert [row["ap"] is None for row in report["genres"]] == [False, True, False]
        films = ["--show", run.split["train"][0], run.split["test"][0]]
        assert command(evaluate.main, monkeypatch, run.folder, *films) == 0
        assert (run.figures_folder / "films.png").stat().st_size > 0

        other = write_folder(tmp_path / "other", genres=("Comedy", "Drama", "War"))
        assert command(evaluate.main, monkeypatch, run.folder, "--data-dir", other) == 0
        said = capsys.readouterr().out
        assert f"Not scored: only {run.folder} knows N/A\n" in said
        assert "Not scored: only the films have Drama\n" in said

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["nowhere"], "nowhere is not a run folder"),
            (["poster", "poster"], "two runs have one name"),
            (["poster", "--split", "all"], "--split all goes with --data-dir"),
            (["poster", "--show", "tt9"], "tt9 not among the 60 films"),
            (["poster", "--skip-bad"], "--skip-bad goes with --data-dir"),
            (["poster", "--split", "train"], "invalid choice: 'train'"),
            (["poster", "joint", "--out", "late"], "is a run's own folder"),
            (["poster", "joint", "--show", "tt9"], "needs --out"),
            (
                ["poster", "--films", "tt0001"],
                "--films tt0001: this is no file; the flag that draws films is now --show",
            ),
            (["poster", "--films", "poster/config.json", "poster/split.json"], "is now --show"),
            (["poster", "--films", "poster/config.json"], "config.json, line 1: not valid JSON"),
        ],
    )
    def test_a_wrong_call_gets_one_line(self, runs, monkeypatch, capsys, args, said):
        monkeypatch.chdir(runs["poster"].folder.parent)
        assert command(evaluate.main, monkeypatch, *args) == 2
        assert said in one_line(capsys.readouterr().err)

    def test_runs_on_other_films_are_not_put_side_by_side(self, runs, trained):
        other = trained("poster", seed=1)
        with pytest.raises(UserError, match="has other test films than"):
            scoring.check_comparable([scoring.score(r, "test") for r in (runs["poster"], other)])

    def test_predictions_with_a_pickle_or_of_other_genres_are_refused(self, runs, tmp_path):
        shutil.copytree(runs["poster"].folder, tmp_path / "run")
        run = Run.open(tmp_path / "run")
        np.savez(run.predictions_file, ids_test=np.array([{"a": 1}], object))
        run.seal()
        with pytest.raises(UserError, match="cannot be read"):
            run.predictions("test")
        run.write_predictions({"test": Predictions(("a",), np.zeros((1, 2)), np.zeros((1, 2)))})
        run.seal()
        with pytest.raises(UserError, match=r"does not fit genres\.json"):
            run.predictions("test")


class TestPredict:
    def test_prints_a_table_or_json(self, runs, monkeypatch, capsys):
        run = runs["joint"]
        poster = next(run.films_folder.glob("*.jpg"))
        args = [run.folder, "--poster", poster, "--overview", "A detective"]
        assert command(predict.main, monkeypatch, *args) == 0
        table = capsys.readouterr().out
        assert all(genre in table for genre in run.genres)
        assert command(predict.main, monkeypatch, *args, "--json") == 0
        rows = json.loads(capsys.readouterr().out)["genres"]
        assert sorted(row["genre"] for row in rows) == sorted(run.genres)
        assert all(0 <= row["probability"] <= 1 for row in rows)

    @pytest.mark.parametrize("variant", ["early", "joint", "late"])
    def test_decides_from_the_modality_that_is_given_and_says_so(self, runs, monkeypatch, capsys, variant):
        run, found = runs[variant], {}
        poster = next(run.films_folder.glob("*.jpg"))
        for given, missing, args in (
            ("poster", "overview", ["--poster", poster]),
            ("overview", "poster", ["--overview", "A detective"]),
        ):
            assert command(predict.main, monkeypatch, run.folder, *args, "--json") == 0
            said = capsys.readouterr()
            assert said.err == f"No --{missing}: {run.folder} decides from the {given} alone\n"
            found[given] = [row["probability"] for row in json.loads(said.out)["genres"]]
        assert found["poster"] != found["overview"]

    @pytest.mark.parametrize(
        ("variant", "args", "said"),
        [
            ("poster", ["--overview", "x"], "is a run of poster (resnet) and reads the poster: add --poster"),
            ("overview", [], "is a run of overview (bag) and reads the overview: add --overview"),
            ("late", ["--overview", " "], "reads the poster and the overview: add --poster or --overview"),
            ("poster", ["--poster", "nowhere.jpg"], "nowhere.jpg cannot be read: No such file"),
            ("poster", ["--poster", __file__], "not a readable picture"),
        ],
    )
    def test_says_what_is_missing(self, runs, monkeypatch, capsys, variant, args, said):
        assert command(predict.main, monkeypatch, runs[variant].folder, *args) == 2
        assert said in capsys.readouterr().err


class TestTrainCommand:
    @pytest.mark.parametrize(
        ("args", "said"),
        [
            ([], "--variant is missing"),
            (["--variant", "poster", "--data-dir", "nowhere"], "nowhere: there is no such folder"),
            (["--variant", "poster", "--set", "training.epoch=1"], "did you mean training.epochs?"),
            (["--variant", "poster", "--set", "training.epochs"], "write KEY=VALUE"),
            (["--variant", "poster", "--parts", "a", "b"], "--parts goes with --variant late"),
            (["--resume", "nowhere"], "nowhere is not a run folder"),
            (["--resume", "a", "--epochs", "0"], "leave out --epochs"),
            (["--variant", "poster", "--recipe", "best"], "invalid choice: 'best'"),
            (
                ["--variant", "poster", "--combiner", "mean"],
                "--combiner does nothing here: late.combiner is not read by poster",
            ),
            (["--variant", "poster", "--epochs", "0"], "the command line: training.epochs must be from 1 to"),
            (["--variant", "poster", "--config", "nowhere.toml"], "cannot read the config file"),
        ],
    )
    def test_a_wrong_call_gets_one_line(self, tmp_path, monkeypatch, capsys, args, said):
        monkeypatch.chdir(tmp_path)
        assert command(train.main, monkeypatch, *args) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
        assert list(tmp_path.iterdir()) == []

    def test_a_run_folder_that_exists_is_left_alone(self, runs, monkeypatch, capsys):
        before = {path: path.stat().st_mtime_ns for path in runs["poster"].folder.rglob("*")}
        assert command(train.main, monkeypatch, "--variant", "poster", "--out", runs["poster"].folder) == 2
        assert "exists already" in capsys.readouterr().err
        assert command(train.main, monkeypatch, "--resume", runs["poster"].folder) == 2
        assert "is finished" in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in runs["poster"].folder.rglob("*")} == before

    def test_skipped_films_are_written_down(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", seed=5)
        (folder / "Images" / "tt0001.jpg").write_bytes(b"")
        named = {"data__dataset": "multimodal_imdb", "data__data_dir": str(folder)}
        run = run_variant("poster", tmp_path / "run", cache, data__skip_bad=True, **named)
        lines = (run.folder / "skipped.csv").read_text().splitlines()
        assert lines == ["id,reason", "tt0001,not a readable picture (0 bytes)"]
