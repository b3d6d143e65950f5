"""What a user waits for before the first training step."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import tiny_config

from mmfusion import fitting
from mmfusion.models import build_model
from mmfusion.schema import POSTER, TOKENS

GENRES = 3


@pytest.mark.parametrize(
    "command", ["mmfusion.train", "mmfusion.predict", "mmfusion.export", "benchmarks.run", "benchmarks.table"]
)
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
    inputs = {POSTER: np.zeros((16, 16, 16, 3), np.float32), TOKENS: np.ones((16, 20), np.int32)}
    model.fit(inputs, np.zeros((16, GENRES), np.float32), batch_size=8, epochs=2, verbose=0)
    assert len(tracings) == 1
