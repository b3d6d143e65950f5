"""What a notebook does: it starts commands, trains from Python, and draws pictures of its own."""

import json
import os
import subprocess
import sys
import textwrap

import nbclient
import nbformat
import pytest
from conftest import command, write_tiny

from benchmarks import run as benchmark

# Each cell by what it is for. `!` starts a command as a shell does, and `_exit_code` is what came of it.
CELLS = {
    "before": """
        import json, os, sys
        import matplotlib
        import matplotlib.pyplot as plt
        plt.close(plt.figure())  # the backend is there from now on, and has settled what it wants
        backend, before = matplotlib.get_backend(), dict(matplotlib.rcParams)
        flags = "--config tiny.toml --epochs 1 --cache-dir cache"
        codes = {}
    """,
    "command that trains": """
        !{sys.executable} -m mmfusion.train --variant poster {flags} --out trained
        codes["train"] = _exit_code
    """,
    "training": """
        from pathlib import Path
        from mmfusion.startup import cache_folder, import_tensorflow
        import_tensorflow()
        from mmfusion.reports import report
        from mmfusion.training import experiment
        from mmfusion.config import resolve
        config = resolve("overview", file=Path("tiny.toml"), overrides={"training.epochs": 1})
        run = experiment.train(config, Path("from_python"), cache_folder("cache"))
        print(report.finish(run).report["films"])
    """,
    "command that compares": """
        !{sys.executable} -m mmfusion.evaluate trained from_python --out compared
        codes["evaluate"] = _exit_code
    """,
    "drawing": """
        plt.plot([1, 2, 1])
        plt.show()
    """,
    "after": """
        changed = sorted(key for key, value in matplotlib.rcParams.items() if value != before[key])
        print(json.dumps({
            "codes": codes, "environment": os.environ["MPLBACKEND"],
            "backends": [backend, matplotlib.get_backend()], "changed": changed,
        }))
    """,
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook's folder, and by cell what it showed, after a kernel has gone through it."""
    folder = tmp_path_factory.mktemp("notebook")
    write_tiny(folder / "tiny.toml")
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(code)) for code in CELLS.values()]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MPLBACKEND")  # the kernel names its own
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
            patch.setenv(name, str(folder / "jupyter"))
        client = nbclient.NotebookClient(
            nbformat.v4.new_notebook(cells=cells), timeout=120, resources={"metadata": {"path": str(folder)}}
        )
        done = client.execute()
    return folder, {name: cell.outputs for name, cell in zip(CELLS, done.cells)}


def said(outputs) -> str:
    return "".join(one.text for one in outputs if one.output_type == "stream")


def pictures(outputs) -> int:
    return sum("image/png" in one.get("data", ()) for one in outputs)


def test_commands_and_python_train_and_write_their_pictures(notebook):
    folder, shown = notebook
    assert json.loads(said(shown["after"]))["codes"] == {"train": 0, "evaluate": 0}
    for name in ("trained", "from_python", "compared"):
        assert (folder / name / "figures" / "curves.png").stat().st_size
    assert pictures(shown["training"]) == 0  # they are in the run's folder, and not in everybody's notebook


def test_the_notebooks_own_backend_is_left_alone(notebook):
    _, shown = notebook
    found = json.loads(said(shown["after"]))
    assert found["environment"] == "module://matplotlib_inline.backend_inline"
    assert found["backends"] == [found["environment"]] * 2
    assert pictures(shown["drawing"]) == 1


def test_the_notebooks_own_style_is_left_alone(notebook):
    _, shown = notebook
    assert json.loads(said(shown["after"]))["changed"] == []


def test_a_backend_that_is_not_installed_stops_no_command(tmp_path, monkeypatch):
    """As a notebook's is not where the package has an environment of its own: matplotlib refuses to be imported."""
    sweep, tiny = tmp_path / "sweep", write_tiny(tmp_path / "tiny.toml")
    flags = ["--config", tiny, "--variants", "frequencies", "--out", sweep]
    assert command(benchmark.main, monkeypatch, *flags) == 0
    calls = (
        ["mmfusion.train", "--variant", "poster", "--config", tiny, "--epochs", 1, "--out", tmp_path / "run"],
        ["mmfusion.evaluate", tmp_path / "run", "--out", tmp_path / "report"],
        ["benchmarks.table", sweep],
    )
    for call in calls:
        words = [sys.executable, "-m", *map(str, call)]
        named = {**os.environ, "MPLBACKEND": "no_such_backend"}
        done = subprocess.run(words, env=named, capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if not line.startswith(("60 films;", "genres:"))]
        assert (done.returncode, said) == (0, [])
    for folder in (tmp_path / "run", tmp_path / "report", sweep):
        assert list((folder / "figures").glob("*.png"))
