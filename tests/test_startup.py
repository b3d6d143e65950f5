"""What a user waits for before the first training step."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config

import mmfusion
from mmfusion.models import build_model
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training import fitting, machine

GENRES = 3


COMMANDS = (
    "mmfusion.train mmfusion.evaluate mmfusion.predict mmfusion.export tuning.search "
    "benchmarks.run benchmarks.table benchmarks.tuned benchmarks.throughput benchmarks.options"
).split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_wait_for_large_libraries(command):
    code = f"import sys; from {command} import parser; parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"tensorflow", "keras", "matplotlib", "sklearn", "scipy"} & set(done.stdout.split())


def test_the_training_step_is_traced_once(monkeypatch):
    """A second tracing takes as long as the first, seconds with the recipes' layers."""
    config = tiny_config("joint")
    model = build_model(config, GENRES)
    fitting.compile_model(model, config)
    tracings = []
    step = model.train_step
    monkeypatch.setattr(model, "train_step", lambda data: tracings.append(1) or step(data))
    inputs = {POSTER: np.zeros((16, 16, 16, 3), np.float32), OVERVIEW: np.ones((16, 20), np.int32)}
    model.fit(inputs, np.zeros((16, GENRES), np.float32), batch_size=8, epochs=2, verbose=0)
    assert len(tracings) == 1


def run_python(code, folder, **environment):
    """Runs code in a fresh process in a folder; its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_commands_work_beside_folders_that_have_the_packages_names(tmp_path):
    """In the folder above the clone, for one; such a folder is a package for Python, and must not be the first."""
    for name in ("mmfusion", "tuning", "benchmarks"):
        (tmp_path / name).mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for name in ("mmfusion.train", "tuning.search", "benchmarks.run", "mmfusion"):
        call = [sys.executable, "-m", name, *(["--help"] if "." in name else [])]
        done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert name in done.stdout


def fake_tensorflow(folder, code):
    (folder / "tensorflow").mkdir()
    (folder / "tensorflow" / "__init__.py").write_text(f"import os\n{code}\n")
    return os.pathsep.join([str(folder), str(Path(mmfusion.__file__).parent.parent)])


@pytest.mark.parametrize("before", ["", "import mmfusion.startup as s; s.sys.stderr = None; "])
def test_what_tensorflow_says_while_it_starts_is_kept_to_itself(before, tmp_path):
    path = fake_tensorflow(tmp_path, "os.write(2, b'I0000 built with this and that'); x = 1")
    code = f"{before}import mmfusion, tensorflow; assert tensorflow.x; import os; os.write(2, b'after')"
    assert run_python(code, tmp_path, PYTHONPATH=path) == (0, "", "after")


@pytest.mark.parametrize("end", ["os.abort()", "raise ImportError('no libfoo')", "os._exit(3)"])
def test_why_tensorflow_ended_the_process_is_seen(end, tmp_path):
    path = fake_tensorflow(tmp_path, f"os.write(2, b'this processor has no AVX'); {end}")
    code, _, said = run_python("import mmfusion, tensorflow", tmp_path, PYTHONPATH=path)
    assert code != 0
    assert "this processor has no AVX" in said


def test_the_library_is_quiet_from_python_and_leaves_the_callers_figures_and_policies_alone(tmp_path):
    code = """
import logging, matplotlib
before = dict(matplotlib.rcParams), logging.getLogger("absl").level
import mmfusion
from pathlib import Path
from benchmarks import pictures as _
from tuning import pictures as _
from mmfusion.training import experiment
from mmfusion.reports import figures
import keras, tensorflow as tf
tf.constant(1.0) + 1
epoch = {"epoch": 1} | {a + b: 0.5 for a in ("", "val_") for b in ("loss", "precision", "recall")}
figures.draw_curves({"a": [epoch]}, Path("curves.png"))
after = dict(matplotlib.rcParams), logging.getLogger("absl").level
assert before[0] == after[0], [k for k in before[0] if before[0][k] != after[0][k]]
assert before[1] == after[1]
assert keras.config.dtype_policy().name == "float32"
assert Path("curves.png").stat().st_size
"""
    code, said, errors = run_python(code, tmp_path, MPLCONFIGDIR=str(tmp_path))
    assert (code, said, errors) == (0, "", "")


SAY = "from mmfusion.errors import UserError, run_command; import sys; sys.exit(run_command({}))"


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "* - <= ? ..."), ("cp1252", "* – <= ? …"), ("utf-8", "✓ – ≤ 两 …")]
)
def test_what_cannot_be_shown_is_replaced(encoding, shown, tmp_path):
    code = SAY.format("lambda: print('\\u2713 \\u2013 \\u2264 \\u4e24 \\u2026')")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout.decode(encoding).strip(), done.stderr) == (0, shown, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_has_nowhere_to_go_is_dropped(closed, tmp_path):
    """As under a service: no standard output, no standard error, and files keep what is written to them."""
    code = """
import sys
from mmfusion.errors import UserError, run_command
def main():
    print("said"); print("noted", file=sys.stderr)
    assert not sys.stdout.isatty()
    with open("file", "w") as file:
        print("kept", file=file)
    raise UserError("wrong")
sys.exit(run_command(main))
"""
    command = f'exec "{sys.executable}" -c "$CODE" {closed}'
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env={**os.environ, "CODE": code}, check=False)
    assert done.returncode == 2
    assert (tmp_path / "file").read_text() == "kept\n"


def test_without_standard_error_tensorflow_is_imported_all_the_same(tmp_path):
    path = fake_tensorflow(tmp_path, "x = 1")
    command = f'exec "{sys.executable}" -c "import mmfusion, tensorflow; assert tensorflow.x" 2>&-'
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_threads_are_those_that_tensorflow_has(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 7)
    assert machine.machine()["threads"] == 7
