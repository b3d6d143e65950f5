"""The README's promise: a variant of one's own is one file and one line, and every command knows it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_tiny

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The packages with the README's variant in them."""
    folder = tmp_path_factory.mktemp("own")
    for package in ("mmfusion", "tuning", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    line, file = re.search(r'Add `("gated": .*?)` to `VARIANTS` in `(.*?)`', readme).groups()
    (folder / "mmfusion" / "models" / "gated.py").write_text(code)
    variants = folder / file
    text = variants.read_text().replace("VARIANTS = {\n", f"VARIANTS = {{\n    {line}\n")
    variants.write_text(text)
    write_tiny(folder / "tiny.toml")
    return folder


# All in one process: most of a command's time is the import of TensorFlow.
COMMANDS = """
import sys
import importlib

for module, *args in (
    ("benchmarks.run", "--variants", "overview", "gated", "--out", "results"),
    ("benchmarks.table", "results"),
    ("tuning.search", "--variant", "gated", "--max-trials", "1", "--budget-minutes", "0.01", "--out", "search"),
):
    sys.argv = [module, *args, *(() if "table" in module else ("--config", "tiny.toml", "--epochs", "1"))]
    importlib.import_module(module).main()
"""


def test_it_is_trained_compared_and_searched_like_the_others(copy):
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seed 0, gated (resnet + bag): run" in done.stdout
    assert "gated (resnet + bag)" in (copy / "results" / "RESULTS.md").read_text()
    assert "--variant gated" in (copy / "search" / "best.toml").read_text()
    assert "poster_encoder.resnet.dropout" in (copy / "search" / "trials.csv").read_text()
