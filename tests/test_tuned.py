"""A sweep with a file for each variant, and what the README says that tuning brought."""

from pathlib import Path

import pytest
from conftest import command, folder_of, row_of, write_folder
from test_benchmark import rows, settings

from benchmarks import run as benchmark
from benchmarks import tuned
from mmfusion.config import resolve
from mmfusion.runs import Run

REPOSITORY = Path(__file__).parent.parent
OPEN = [flag for flag in settings(variants=("overview", "late")) if not flag.startswith("--set=training.decay")]


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """One sweep by the recipe, and one by a folder of files in which overview and late differ."""
    folder = tmp_path_factory.mktemp("sweeps")
    films = write_folder(folder / "films", films=130)
    best = folder / "best"
    best.mkdir()
    (best / "overview.toml").write_text("[training]\ndecay = 0.2\n")
    (best / "late.toml").write_text("[variants.poster.training]\ndecay = 0.3\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMFUSION_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        flags = ["--variants", "overview", "late", "--data-dir", films, *OPEN]
        assert command(benchmark.main, patch, *flags, "--out", folder / "default") == 0
        flags += ["--config-dir", best]
        assert command(benchmark.main, patch, *flags, "--out", folder / "tuned") == 0
    return folder


def test_each_variant_is_trained_by_its_own_file_and_late_fusions_parts_by_its(sweeps):
    tuned_run = {name: Run(sweeps / "tuned" / "seed-0" / folder_of(name)) for name in ("overview", "late")}
    assert tuned_run["overview"].config.training.decay == 0.2
    decays = {part.config.variant: part.config.training.decay for part in tuned_run["late"].parts}
    assert decays == {"poster": 0.3, "overview": 0.1}
    default = Run(sweeps / "default" / "seed-0" / folder_of("late"))
    assert {part.config.training.decay for part in default.parts} == {0.1}


def test_the_same_sweep_finds_its_runs_again_and_another_folder_of_files_is_refused(sweeps, monkeypatch, capsys):
    flags = ["--variants", "overview", "late", "--data-dir", sweeps / "films", *OPEN, "--out", sweeps / "tuned"]
    assert command(benchmark.main, monkeypatch, *flags, "--config-dir", sweeps / "best") == 0
    assert capsys.readouterr().out.count("finished already") == 2
    assert command(benchmark.main, monkeypatch, *flags) == 2
    assert "was trained with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("resnet", [], "holds resnet.toml; the variants are poster, overview"),
        (None, [], "holds no VARIANT.toml"),
        ("poster", ["--config", "mine.toml"], "give one of them"),
    ],
)
def test_a_folder_of_files_that_says_nothing_is_refused(name, flags, said, tmp_path, monkeypatch, capsys):
    if name:
        (tmp_path / f"{name}.toml").write_text("")
    args = ["--config-dir", tmp_path, "--out", tmp_path / "out", *flags]
    assert command(benchmark.main, monkeypatch, *args) == 2
    assert said in capsys.readouterr().err


def test_the_table_sets_default_and_tuned_runs_of_the_same_films_side_by_side(sweeps, monkeypatch, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"<!-- {tuned.NAME}: begin --><!-- {tuned.NAME}: end -->")
    args = [sweeps / "default", sweeps / "tuned", "--out", tmp_path, "--readme", readme]
    assert command(tuned.main, monkeypatch, *args) == 0
    found = {(row["model"], row["seed"]): row for row in rows(tmp_path / "tuned.csv")}
    assert list(found) == [(row_of(name), seed) for name in ("overview", "late") for seed in ("0", "mean")]
    for name in ("overview", "late"):
        row = found[row_of(name), "mean"]
        for what in ("default", "tuned"):
            report = Run(sweeps / what / "seed-0" / folder_of(name)).report["metrics"]
            assert float(row[f"test_ap_micro_{what}"]) == pytest.approx(report["ap_micro"])
            assert float(row[f"test_bce_{what}"]) == pytest.approx(report["bce"])
        gain = float(row["test_ap_micro_tuned"]) - float(row["test_ap_micro_default"])
        assert float(row["gain"]) == pytest.approx(gain)
        assert float(row["low"]) <= gain <= float(row["high"])
    assert tuned.table(tmp_path) in readme.read_text()


def test_the_readmes_table_agrees_with_the_csv_that_is_kept():
    text = (REPOSITORY / "tuning" / "README.md").read_text("utf-8")
    shown = text.split(f"<!-- {tuned.NAME}: begin -->")[1].split(f"<!-- {tuned.NAME}: end -->")[0].strip()
    assert shown == tuned.table(REPOSITORY / "benchmarks" / "results" / "tuned")


def test_the_files_that_are_kept_train_the_variants_that_were_searched():
    best = REPOSITORY / "tuning" / "best"
    searched = {"cnn", "bilstm", "early", "joint", "late"}
    assert {file.stem for file in best.glob("*.toml")} == searched
    for variant in searched:
        found = resolve(variant, file=best / f"{variant}.toml")
        assert found.training.epochs == resolve(variant).training.epochs
