"""The promise: an idea of one's own is one file and one line, and every command knows it."""

import csv
import functools
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_tiny

REPOSITORY = Path(__file__).parents[1]

OPERATOR = '''
import keras

from mmfusion.models.operators import Operator


@keras.saving.register_keras_serializable(package="own")
class Greatest(Operator):
    """The greatest of each unit, of features that are equally many."""

    @classmethod
    def of(cls, units, count):
        return cls()

    def call(self, features):
        least = min(one.shape[1] for one in features)
        return keras.ops.max(keras.ops.stack([one[:, :least] for one in features]), axis=0)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], min(shape[1] for shape in input_shape))
'''
ENCODER = '''
import keras


@keras.saving.register_keras_serializable(package="own")
class MeanColour(keras.Layer):
    """The mean of each colour of a poster: (B, H, W, 3) -> (B, 3)."""

    def __init__(self, as_sequence=False, **kwargs):
        super().__init__(**kwargs)

    def call(self, posters, training=False):
        return keras.ops.mean(posters, axis=(1, 2))
'''
METRIC = '''
def share_of_right(of):
    """The share of films and genres that are told rightly at 0.5."""
    return float(((of.y_prob > 0.5) == (of.y_true > 0)).mean())
'''
BASELINE = '''
import numpy as np


def coin(prepared, parts, config):
    """Every film may have every genre."""
    genres = len(prepared.films.genres)
    return lambda split: np.full((len(prepared.rows[split]), genres), 0.5), 0
'''
QUESTION = """
from mmfusion.files import write_atomically


def is_asked(run):
    return (run.folder / "weights.txt").is_file()


def ask(run, cache):
    from mmfusion import inference

    write_atomically(run.folder / "weights.txt", str(len(inference.load_model(run).weights)))


def read(run):
    return float((run.folder / "weights.txt").read_text())


def scores(weights):
    return {"weights": weights}
"""
# What is of one's own: the file, its content, the file that gets the line, what the line follows, and the line.
VARIANTS = "mmfusion/config/variants.py"
OWN = (
    ("mmfusion/models/greatest.py", OPERATOR, VARIANTS, "OPERATORS = {", '"greatest": "greatest.Greatest",'),
    ("mmfusion/models/colour.py", ENCODER, VARIANTS, "    POSTER: {", '"colour": "colour.MeanColour",'),
    (
        "mmfusion/evaluation/right.py",
        METRIC,
        "mmfusion/evaluation/metrics.py",
        "METRICS = (",
        'Metric("right", "right", imported("right.share_of_right"), "overall", True, "max"),',
    ),
    ("benchmarks/coin.py", BASELINE, "benchmarks/baselines.py", "BASELINES = {", '"coin": Baseline("coin.coin"),'),
    ("benchmarks/weights.py", QUESTION, "benchmarks/questions.py", "QUESTIONS = {", '"weights": "",'),
)


# A modality of one's own: how long an overview is. What is there, and what stands before or after it then.
READING = """
import numpy as np

from mmfusion.data.encoded import Encoded


def lengths(overviews):
    return Encoded(np.array([[len(overview) / 100] for overview in overviews], np.float32), "features")
"""
RESCALED = """
import keras


@keras.saving.register_keras_serializable(package="own")
class Rescaled(keras.layers.Dense):
    def __init__(self, units=4, as_sequence=False, **kwargs):
        super().__init__(units, activation="relu", **kwargs)
"""
ALL = "MODALITIES = (POSTER, OVERVIEW, TABLE"
NEW_VARIANT = '    "length": Variant("unimodal.Unimodal", ("length",), ("length_encoder",)),\n'
NEW_SECTION = """class LengthEncoderConfig(Section):
    name: Literal["rescaled"] = "rescaled"


"""
NEW_READING = """    "length": Reading(
        "", lambda config, films, fitted: lengths(films.texts), lambda config, texts, fitted: lengths(texts)
    ),
"""
# A file, what its new lines stand before or after, and with them.
MODALITY = (
    ("mmfusion/schema.py", ALL, f'LENGTH = Modality("length", "lengths")\n{ALL}, LENGTH'),
    (VARIANTS, "VARIANTS = {\n", f"VARIANTS = {{\n{NEW_VARIANT}"),
    (VARIANTS, "    POSTER: {", '    "length": {"rescaled": "rescaled.Rescaled"},\n    POSTER: {'),
    ("mmfusion/config/sections.py", "class EarlyConfig", f"{NEW_SECTION}class EarlyConfig"),
    ("mmfusion/config/run.py", "    LateConfig,\n", "    LateConfig,\n    LengthEncoderConfig,\n"),
    (
        "mmfusion/config/run.py",
        "    fine_tuning: FineTuningConfig",
        "    length_encoder: LengthEncoderConfig = LengthEncoderConfig()\n    fine_tuning: FineTuningConfig",
    ),
    (
        "mmfusion/training/inputs.py",
        "READINGS = {\n",
        f"from mmfusion.data.lengths import lengths\n\nREADINGS = {{\n{NEW_READING}",
    ),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The packages with the README's variant in them, and one of each kind besides."""
    folder = tmp_path_factory.mktemp("own")
    for package in ("mmfusion", "tuning", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "results")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    code = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    line, file = re.search(r'Add `("gated": .*?)` to `VARIANTS` in `(.*?)`', readme).groups()
    for name, content, place, after, added in (
        ("mmfusion/models/gated.py", code, file, "VARIANTS = {", line),
        *OWN,
    ):
        (folder / name).write_text(content)
        text = (folder / place).read_text()
        assert text.count(after) == 1
        (folder / place).write_text(text.replace(after, f"{after}\n    {added}\n"))
    (folder / "mmfusion" / "data" / "lengths.py").write_text(READING)
    (folder / "mmfusion" / "models" / "rescaled.py").write_text(RESCALED)
    for place, before, after in MODALITY:
        text = (folder / place).read_text()
        assert text.count(before) == 1, (place, before)
        (folder / place).write_text(text.replace(before, after))
    write_tiny(folder / "tiny.toml")
    return folder


# All in one process: most of a command's time is the import of TensorFlow. Few questions, and no pictures.
COMMANDS = """
import sys
import importlib

import sketches
from benchmarks import probe

sketches.sketch()
probe.EXCHANGES, probe.PAIRED = 2, 9

own = ("--poster-encoder", "colour", "--fusion", "greatest")
three = ("--modalities", "poster", "overview", "length")
search = ("--max-trials", "1", "--budget-minutes", "0.01", "--objective", "right")
for module, *args in (
    ("benchmarks.run", "--variants", "coin", "overview", "gated", "joint", *own, "--out", "results"),
    ("benchmarks.run", "--variants", "length", "joint", *three, *own, "--out", "results"),
    ("benchmarks.table", "results"),
    ("tuning.search", "--variant", "gated", *search, "--out", "search"),
):
    sys.argv = [module, *args, *(() if "table" in module else ("--config", "tiny.toml", "--epochs", "1"))]
    importlib.import_module(module).main()
"""


@pytest.fixture(scope="module")
def said(copy) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), str(REPOSITORY / "tests")])}
    command = [sys.executable, "-c", COMMANDS]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_they_are_trained_compared_and_searched_like_the_others(copy, said):
    assert "seed 0, gated (colour + bag): run" in said
    results = (copy / "results" / "RESULTS.md").read_text()
    assert all(row in results for row in ("| coin ", "| gated (colour + bag) ", "| joint (colour + bag) "))
    assert "--variant gated" in (copy / "search" / "best.toml").read_text()
    assert "overview_encoder.bag.embedding_dim" in (copy / "search" / "trials.csv").read_text()


def test_a_score_and_an_answer_stand_in_every_table(copy, said):
    with (copy / "results" / "results.csv").open(newline="") as file:
        rows = {(row["model"], row["metric"]): row["value"] for row in csv.DictReader(file)}
    assert 0 <= float(rows["coin", "right"]) <= 1
    assert float(rows["joint (colour + bag)", "weights"]) > 0
    head = (copy / "results" / "RESULTS.md").read_text().split("## Scores")[1].splitlines()[2]
    assert [cell.strip() for cell in head.split("|")[2:4]] == ["right", "BCE"]
    assert "right 0." in (copy / "search" / "best.toml").read_text()


def test_a_modality_is_read_fused_and_asked_for_its_share(copy, said):
    fused = "joint (colour + bag + rescaled)"
    with (copy / "results" / "modalities.csv").open(newline="") as file:
        (whole,) = [row for row in csv.DictReader(file) if row["model"] == fused and not row["genre"]]
    assert float(whole["length_shapley"]) < 1
    results = (copy / "results" / "RESULTS.md").read_text()
    assert "| length (rescaled) " in results
    assert f"| {fused} " in results.split("## Gains")[1]
    assert " over joint (colour + bag)" in results or " than joint (colour + bag)" in results
    lines = [READING, RESCALED, *(after.replace(before, "") for _, before, after in MODALITY)]
    assert sum(one.strip().count("\n") + 1 for one in lines) < 100


class TestWhereToLook:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8").split("## Where to look")[1]

    @pytest.mark.parametrize(("name", "file"), re.findall(r"`([\w.]+)`\s+(?:in |\()`([\w/]+\.py)`", text))
    def test_what_it_names_is_there(self, name, file):
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        found = functools.reduce(getattr, name.split("."), module)
        if name.endswith(("Fusion.call", "Features.call")):
            assert "here the modalities meet" in inspect.getsource(found)

    def test_it_names_all_of_the_three(self):
        names = re.findall(r"`([\w.]+)`\s+(?:in |\()`[\w/]+\.py`", self.text)
        assert {"decode_poster", "JointFusion.call", "LateFusion.call", "EarlyFusion.call", "METRICS"} <= set(names)

    @pytest.mark.parametrize(("room", "lines"), re.findall(r"\| `([\w/*.]+)` \| ([\d,]+) \|", text))
    def test_a_room_has_about_so_many_lines(self, room, lines):
        files = REPOSITORY.glob(room) if room.endswith(".py") else (REPOSITORY / room).rglob("*.py")
        found = sum(
            len(file.read_text("utf-8").splitlines()) for file in files if not file.name.endswith("_test.py")
        )
        assert found == pytest.approx(int(lines.replace(",", "")), rel=0.05)
