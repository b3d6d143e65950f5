"""The comparison of all models: a sweep over seeds, and its report from the run folders alone."""

import contextlib
import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sketches
from conftest import TINY, command, folder_of, row_of, write_folder

from benchmarks import run as benchmark
from benchmarks import sweep as sweep_of
from benchmarks import table
from benchmarks.baselines import BASELINES, SECTIONS_READ
from benchmarks.collect import collect
from benchmarks.readme import NAME
from benchmarks.readme import table as readme_table
from benchmarks.run import COMMANDS
from mmfusion import predict
from mmfusion.config import resolve
from mmfusion.config.idle import acts_nowhere
from mmfusion.errors import UserError
from mmfusion.evaluation.metrics import overall
from mmfusion.runs import Run

SEEDS = 2
REPOSITORY = Path(__file__).parent.parent
BEGIN, END = f"<!-- {NAME}: begin -->", f"<!-- {NAME}: end -->"


NETWORKS = ("poster", "overview", "early", "joint", "late")  # what is trained unless others are asked for


def settings(values=TINY, *, variants=NETWORKS, **named) -> list[str]:
    """Flags that make every run on a folder of films as small as it can be: those settings that act in one."""
    of_films = {"data.dataset": "multimodal_imdb", **named}
    configs = [resolve(variant, overrides={**values, **of_films}) for variant in variants]
    acting = [key for key in values if not acts_nowhere(key, configs, SECTIONS_READ)]
    return [f"--set={key}={json.dumps(values[key])}" for key in acting]


SHORT = TINY | {"training.epochs": 1}
WITHOUT_POSTER = [f"tt{number:04d}" for number in range(20)]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A data folder in which nobody has the genre "N/A", and the first films have no poster."""
    folder = write_folder(tmp_path_factory.mktemp("data") / "films", films=130)
    for film in WITHOUT_POSTER:
        (folder / "Images" / f"{film}.jpg").unlink()
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, films):
    """The folder of a sweep over everything, with its report; tests do not change it."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    cache = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(cache))
        args = ["--data-dir", films, "--seeds", SEEDS, "--out", out, *settings(SHORT)]
        assert command(benchmark.main, patch, *args) == 0
        try:
            sketches.sketch(False)  # the pictures of its report are real
            assert command(table.main, patch, out) == 0
        finally:
            sketches.sketch()
    return out


OF_PRESETS = [name for name, one in BASELINES.items() if one.of_presets]  # there is no preset
NAMES = [row_of(name) for name in (*BASELINES, *NETWORKS) if name not in OF_PRESETS]


@pytest.fixture
def copy(sweep, tmp_path):
    """A sweep that a test may change."""
    return Path(shutil.copytree(sweep, tmp_path / "copy"))


def rows(file: Path) -> list[dict]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def contents(folder: Path) -> dict:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


PRESETS = ["--poster-encoder", "preset:pictures", "--overview-encoder", "preset:texts"]


@pytest.mark.parametrize(
    ("flags", "networks"),
    [
        ([], NETWORKS),
        (PRESETS, ("poster", "overview", "early_features", "joint", "late")),
        (PRESETS[:2], ("poster", "overview", "joint", "late")),  # early's words would be compared with a preset
        ([*PRESETS, "--fine-tune"], ("poster", "overview", "joint", "late")),
        (["--variants", "joint", "cnn"], ("cnn", "joint")),
    ],
)
def test_trains_what_the_same_encoders_read_unless_others_are_asked_for(flags, networks):
    names = sweep_of.names_of(benchmark.parser().parse_args([*flags, "--out", "results"]))
    assert tuple(name for name in names if name not in BASELINES) == networks


class TestSweep:
    def test_trains_everything_on_the_same_films_of_a_seed(self, sweep):
        results, _ = collect(sweep)
        assert list(results) == NAMES
        for seed in range(SEEDS):
            assert len({of_seed[seed].facts["split"] for of_seed in results.values()}) == 1
            assert len({of_seed[seed].test.ids for of_seed in results.values()}) == 1
        assert len({result.test.ids for result in results[row_of("poster")].values()}) == SEEDS

    def test_does_no_work_the_second_time(self, sweep, films, monkeypatch, capsys):
        before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
        args = ["--data-dir", films, "--seeds", SEEDS, "--out", sweep, *settings(SHORT)]
        assert command(benchmark.main, monkeypatch, *args) == 0
        assert capsys.readouterr().out.count("finished already") == SEEDS * len(NAMES)
        assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before

    def test_does_again_only_what_is_missing(self, copy, sweep, films, monkeypatch, capsys):
        """Killed between a run's decisions and its report, and between its report and what it is asked."""
        for name, file in (("tfidf", "report.json"), ("overview", "report.json"), ("joint", "probe.npz")):
            (copy / "seed-1" / folder_of(name) / file).unlink()
        args = ["--data-dir", films, "--seeds", SEEDS, "--out", copy, *settings(SHORT)]
        assert command(benchmark.main, monkeypatch, *args) == 0
        said = capsys.readouterr().out
        names = ["tfidf", "overview", "joint"]
        assert re.findall(r"seed \d, (.+): run", said) == [row_of(name) for name in names]
        for name in names:
            again, before = (Run(folder / "seed-1" / folder_of(name)) for folder in (copy, sweep))
            assert again.predictions_file.read_bytes() == before.predictions_file.read_bytes()
            assert again.report == before.report

    def test_late_fusion_takes_the_seeds_own_unimodal_runs(self, sweep):
        for seed in range(SEEDS):
            for part in ("poster", "overview"):
                alone = Run(sweep / f"seed-{seed}" / folder_of(part))
                inside = Run(sweep / f"seed-{seed}" / folder_of("late")).part(part)
                assert inside.model_file.read_bytes() == alone.model_file.read_bytes()

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--set=training.epochs=2"], "was trained with other settings"),
            (["--seeds", "0"], "--seeds must be at least 1"),
        ],
    )
    def test_a_wrong_call_gets_one_line(self, sweep, films, monkeypatch, capsys, args, said):
        call = ["--data-dir", films, "--out", sweep, *settings(SHORT), *args]
        assert command(benchmark.main, monkeypatch, *call) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    def test_takes_what_it_is_made_of_from_an_earlier_call(self, copy, films, monkeypatch, capsys):
        args = ["--data-dir", films, "--out", copy]
        for name in ("late", "tfidf_colours"):
            shutil.rmtree(copy / "seed-0" / folder_of(name))
            only = [*settings(SHORT, variants=[name]), "--variants", name]
            assert command(benchmark.main, monkeypatch, *args, *only) == 0
        assert "Part of late fusion" not in capsys.readouterr().out
        shutil.rmtree(copy / "seed-0" / "tfidf_colours")
        shutil.rmtree(copy / "seed-0" / "tfidf")
        assert command(benchmark.main, monkeypatch, *args, *only) == 2
        assert "averages tfidf and colours; add tfidf to --variants" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("--data-dir data --seeds 3 --out out", "--data-dir DIR --seeds 3 --out RESULTS_DIR"),
            ("--data-dir=/a/films --out r", "--data-dir=DIR --out RESULTS_DIR"),
            ("--set data.data_dir=/a --set early.width=8", "--set data.data_dir=DIR --set early.width=8"),
            ("--config /a/b.toml --cache-dir /c", "--config FILE --cache-dir CACHE_DIR"),
        ],
    )
    def test_keeps_its_command_without_this_machines_folders(self, words, said):
        assert benchmark.anonymous(words.split()) == said

    def test_a_baseline_cannot_predict_other_films(self, sweep, monkeypatch, capsys):
        call = [sweep / "seed-0" / "tfidf", "--overview", "x"]
        assert command(predict.main, monkeypatch, *call) == 2
        assert "'tfidf' is no variant with a model" in capsys.readouterr().err


class TestReport:
    def test_is_made_again_to_the_same_bytes_without_tensorflow(self, sweep, copy):
        for path in copy.iterdir():
            if not path.name.startswith("seed-") and path.name != COMMANDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        code = (
            "import sys; sys.argv = ['table', sys.argv[1]]; from benchmarks.table import main; main(); "
            "assert not {'tensorflow', 'keras'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code, copy], check=True, capture_output=True)
        assert contents(copy) == contents(sweep)

    def test_has_a_row_for_every_variant_seed_and_metric(self, sweep):
        found = {
            (row["model"], int(row["seed"]), row["metric"], row["genre"]): row["value"]
            for row in rows(sweep / "results.csv")
        }
        for name, of_seed in collect(sweep)[0].items():
            for seed, result in of_seed.items():
                expected = overall(result.test.y_true, result.test.y_prob, result.thresholds)
                assert float(found[name, seed, "ap_micro", ""]) == expected["ap_micro"]
                assert float(found[name, seed, "tuned.f1_macro", ""]) == expected["tuned"]["f1_macro"]
                assert float(found[name, seed, "at_0.5.f1_samples", ""]) == expected["at_0.5"]["f1_samples"]
                assert found[name, seed, "ap", "N/A"] == ""

    def test_says_what_was_called_without_the_names_of_folders(self, sweep):
        text = (sweep / "RESULTS.md").read_text()
        assert f"python -m benchmarks.run --data-dir DIR --seeds {SEEDS} --out RESULTS_DIR --set" in text
        assert str(sweep) not in text

    def test_says_how_many_test_films_lack_a_poster(self, sweep):
        splits = [Run.open(run).split for run in sweep.glob(f"seed-*/{folder_of('poster')}")]
        found = sorted({len({*split["test"]} & {*WITHOUT_POSTER}) for split in splits})
        said = f"Scores are of the test films, of which {' to '.join(map(str, found))} have no poster."
        assert said in (sweep / "RESULTS.md").read_text()

    def test_names_an_undefined_genre_and_counts_it_nowhere(self, sweep):
        text = (sweep / "RESULTS.md").read_text()
        assert "No test film of these genres: N/A." in text
        assert all(row["genre"] != "N/A" for name in ("gains", "modalities") for row in rows(sweep / f"{name}.csv"))
        assert "nan" not in text.lower().replace("n/a", "")

    def test_compares_fusions_with_the_better_unimodal_model_and_networks_with_the_best_baseline(self, sweep):
        results, _ = collect(sweep)
        pairs = [(row["model"], row["over"]) for row in rows(sweep / "gains.csv") if not row["genre"]]
        fusions = [name for name, of_seed in results.items() if of_seed[0].modalities == 2]
        assert [name for name, _ in pairs] == [*fusions, *(row_of(name) for name in NETWORKS)]
        for name, over in pairs[: len(fusions)]:
            assert results[over][0].modalities == 1
            assert results[over][0].is_baseline == results[name][0].is_baseline
        for name, over in pairs[len(fusions) :]:  # else a gain would be that of another modality
            assert over in BASELINES
            assert set(BASELINES[over].reads) <= set(results[name][0].facts["reads"])

    def test_a_gain_is_the_difference_of_means_and_lies_in_its_interval(self, sweep):
        mean = {
            row["model"]: float(row["mean"]) for row in rows(sweep / "summary.csv") if row["metric"] == "ap_micro"
        }
        for row in rows(sweep / "gains.csv"):
            if not row["genre"]:
                assert float(row["gain"]) == pytest.approx(mean[row["model"]] - mean[row["over"]])
                assert float(row["low"]) <= float(row["gain"]) <= float(row["high"])

    def test_every_figure_is_there_as_png_and_svg_with_its_numbers(self, sweep):
        figures = sweep / "figures"
        for name in ("precision_recall", "genres", "gains", "heat_map", "reliability"):
            assert all((figures / f"{name}.{ending}").stat().st_size for ending in ("png", "svg", "csv"))
        assert list(figures.glob("*-repaired.png"))
        linked = re.findall(r"\]\((figures/[^)]+)\)", (sweep / "RESULTS.md").read_text())
        assert linked
        assert all((sweep / link).is_file() for link in linked)

    def test_the_page_needs_no_other_file(self, sweep):
        page = (sweep / "report.html").read_text()
        assert not re.findall(r"""(?:src|href)=["'](?!data:)""", page)
        assert "http" not in re.sub(r'src="data:[^"]*"', "", page).replace("http-equiv", "")


def _removed(run: Path) -> None:
    (run / "predictions.npz").unlink()


def _unfinished(run: Path) -> None:
    (run / "report.json").unlink()


def _change_config(run: Path, change) -> None:
    file = run / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


FAULTS = {
    "unfinished": (_unfinished, "is not finished"),
    "without predictions": (_removed, "predictions.npz cannot be read"),
    "empty": (lambda run: [shutil.rmtree(run), run.mkdir()], "is not finished"),
    "that was not asked": (lambda run: (run / "probe.npz").unlink(), "has no probe.npz"),
    "with a damaged answer": (lambda run: (run / "probe.npz").write_bytes(b"PK"), "probe.npz cannot be read"),
    "with an answer that is no number": (
        lambda run: np.savez(run / "probe.npz", ms_per_film=np.float64(np.nan)),
        "probe.npz cannot be read: a film took nan ms",
    ),
    "of another data set": (
        lambda run: _change_config(run, lambda c: c["facts"].update(fingerprint="other")),
        "has other films than",
    ),
    "of another split": (
        lambda run: _change_config(run, lambda c: c["facts"].update(split="other")),
        "has another split than",
    ),
    "with other genres": (
        lambda run: (run / "genres.json").write_text('["Comedy", "N/A", "Horror"]'),
        "has other genres than",
    ),
    "with other settings": (
        lambda run: _change_config(run, lambda c: c["training"].update(epochs=9)),
        "has other settings than",
    ),
    "of another seed": (lambda run: _change_config(run, lambda c: c.update(seed=7)), "holds a run of"),
    "of before": (lambda run: _change_config(run, lambda c: c["facts"].pop("reads")), "does not say reads"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_cannot_be_compared_is_refused_by_name_and_left_out_when_asked(copy, fault):
    spoil, said = FAULTS[fault]
    # The first run of all: it is the odd one and not what the others are measured by.
    bad = copy / "seed-0" / folder_of("overview")
    spoil(bad)
    if Run(bad).finished:
        Run(bad).seal()
    with pytest.raises(UserError, match=re.escape(said)) as error:
        collect(copy)
    assert str(bad) in str(error.value)
    assert "--keep-going" in str(error.value)
    results, left_out = collect(copy, keep_going=True)
    assert said in left_out[0]
    if fault == "with other settings":  # of two seeds either can be the odd one
        assert len(results[row_of("overview")]) == 1
    else:
        assert list(results[row_of("overview")]) == [1]
    assert sorted(results[row_of("poster")]) == [0, 1]


def test_the_rest_is_reported_when_runs_are_left_out(copy, monkeypatch, capsys):
    _unfinished(copy / "seed-0" / folder_of("overview"))
    shutil.rmtree(copy / "seed-1" / folder_of("joint"))
    assert command(table.main, monkeypatch, copy) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert command(table.main, monkeypatch, copy, "--keep-going") == 0
    text = (copy / "RESULTS.md").read_text()
    assert "Left out: the run seed-0/overview-bag is not finished." in text
    assert str(copy) not in text + (copy / "report.html").read_text()
    assert list((copy / "figures").glob("early-*.png"))  # of the first seed that both models have
    assert "Not every model has every seed" in text
    seeds = {(row["model"], row["seed"]) for row in rows(copy / "results.csv")}
    assert (row_of("joint"), "0") in seeds
    assert (row_of("joint"), "1") not in seeds
    assert (row_of("overview"), "0") not in seeds


@pytest.mark.parametrize(("folder", "said"), [("nowhere", "there is no such folder"), (".", "holds no run")])
def test_a_folder_without_runs_is_refused(tmp_path, monkeypatch, capsys, folder, said):
    assert command(table.main, monkeypatch, tmp_path / folder) == 2
    assert said in capsys.readouterr().err


class TestReadme:
    def test_gets_its_table_between_two_markers(self, copy, tmp_path, monkeypatch):
        readme = tmp_path / "README.md"
        readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
        assert command(table.main, monkeypatch, copy, "--readme", readme) == 0
        assert readme.read_text() == f"before\n{BEGIN}\n\n{readme_table(copy)}\n\n{END}\nafter\n"

    def test_without_markers_is_refused(self, copy, tmp_path, monkeypatch, capsys):
        (tmp_path / "README.md").write_text("nothing\n")
        assert command(table.main, monkeypatch, copy, "--readme", tmp_path / "README.md") == 2
        assert "must hold one line" in capsys.readouterr().err

    def test_of_this_repository_agrees_with_the_csv_that_is_kept(self):
        text = (REPOSITORY / "README.md").read_text("utf-8")
        kept = REPOSITORY / "benchmarks" / "results" / "real"
        assert text.split(BEGIN)[1].split(END)[0].strip() == readme_table(kept)


CHROMIUM = shutil.which("chromium")
CLICKS = """<script>
addEventListener("load", () => {
  const said = [];
  document.querySelectorAll("table").forEach((table) => {
    const column = (number) => [...table.tBodies[0].rows].map((row) => row.children[number].dataset.sort);
    table.querySelectorAll("th button").forEach((button, number) => {
      for (let click = 0; click < 2; click++) { button.click(); said.push(column(number)); }
    });
  });
  const broken = [...document.images].filter((image) => !image.naturalWidth).length;
  const told = document.createElement("pre");
  told.id = "told";
  told.textContent = JSON.stringify({ said, broken });
  document.body.append(told);
});
</script></body>"""


@pytest.mark.skipif(not CHROMIUM, reason="Debian's package chromium is not installed")
def test_the_page_renders_and_sorts_by_any_column_in_a_browser_without_an_error(sweep, tmp_path):
    file = tmp_path / "report.html"
    file.write_text((sweep / "report.html").read_text().replace("</body>", CLICKS))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    flags += (
        "--disable-component-update --disable-sync --virtual-time-budget=20000 --dump-dom --enable-logging=stderr"
    )
    done = subprocess.run(
        [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search(r'<pre id="told">(.*?)</pre>', done.stdout)[1]))
    assert found["broken"] == 0
    assert len(found["said"]) > 80  # four tables, twice a column
    for first, second in zip(found["said"][::2], found["said"][1::2], strict=True):
        orders = [[cell for cell in shown if cell] for shown in (first, second)]
        for shown, order in zip((first, second), orders, strict=True):
            assert shown == order + [""] * (len(shown) - len(order))  # what is undefined is last
        with contextlib.suppress(ValueError):
            orders = [[float(cell) for cell in order] for order in orders]
        expected = sorted(orders[0], key=None if orders[0] and isinstance(orders[0][0], float) else str.casefold)
        assert sorted(map(tuple, orders)) == sorted([tuple(expected), tuple(expected[::-1])])
