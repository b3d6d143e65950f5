"""`import mmfusion` is all that Keras needs to load a run's `model.keras` by itself."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import FROM_FILMS, for_all, tiny_config
from tiny_presets import write_image_preset, write_text_preset

import mmfusion
from mmfusion.config import OPERATORS
from mmfusion.models import build_model
from mmfusion.models.weights import save_model
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training import fitting

WORDS = 30
# Between them every variant, encoder, operator, layer and metric.
MODELS = {
    **{variant: (variant, {}) for variant in FROM_FILMS},
    "wide": ("overview", {"wide__units": "words"}),
    "early with n-grams": ("early", {"early__ngrams": 20, "early__overlap": True}),
    "late by confidence": ("late", {"late__combiner": "confidence", "wide__units": "words"}),
    **{f"joint by {name}": ("joint", {"joint__operator": name}) for name in OPERATORS},
}
LOAD = """
import sys
{imports}
import numpy as np

for file in sys.argv[1:]:
    films = np.load(file + ".npz")
    model = keras.saving.load_model(file)
    found = model({{name: films[name] for name in ("poster", "overview")}})
    np.testing.assert_array_equal(found, films["logits"], err_msg=file)
"""


def saved(folder, name, variant, features=(), tokens=(5, 9), **settings):
    """A model as training saves it, with films and what it says of them beside it; gives its file."""
    config = tiny_config(
        variant, **for_all(vocabulary_size=WORDS), poster_encoder__resnet__filters=[4, 4], **settings
    )
    features = dict(features)
    model = build_model(config, 3, features)
    if variant != "late":  # which is fitted, and not trained
        fitting.compile_model(model, config)
    rng = np.random.default_rng(0)
    films = {POSTER: rng.random((5, 16, 16, 3), np.float32), OVERVIEW: rng.integers(1, 12, tokens, np.int32)}
    films |= {modality: rng.random((5, *shape), np.float32) for modality, shape in features.items()}
    file = folder / f"{name}.keras"
    save_model(model, file)
    np.savez(f"{file}.npz", **films, logits=np.asarray(model(films)))
    return file


def load_elsewhere(imports, files):
    """Loads them in a process that has imported nothing else of mmfusion."""
    code = LOAD.format(imports=imports)
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Of every kind of model, and of the encoders on presets, frozen and not."""
    folder = tmp_path_factory.mktemp("models")
    made = [saved(folder, name, variant, **settings) for name, (variant, settings) in MODELS.items()]
    presets = {
        "poster_encoder__name": write_image_preset(folder / "pictures"),
        "poster_encoder__preset__image_size": [16, 16],
        "overview_encoder__name": write_text_preset(folder / "texts"),
        "overview_encoder__preset__layers": 2,
    }
    read = {POSTER: [64], OVERVIEW: [16]}
    made += [
        saved(folder, f"frozen {variant}", variant, read, **presets) for variant in ("early_features", "joint")
    ]
    made.append(saved(folder, "fine-tuned", "joint", **presets, fine_tuning__fine_tune=True))
    return made


def test_keras_loads_every_model_and_it_gives_the_same_logits(files):
    done = load_elsewhere("import mmfusion\nimport keras", files)
    assert done.returncode == 0, done.stderr[-2000:]


def test_keras_may_be_there_before(files):
    done = load_elsewhere("import keras\nimport mmfusion", files[-1:])
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_class_that_keras_could_save_is_registered():
    registered = set(keras.saving.get_custom_objects().values())
    kinds = (keras.Layer, keras.metrics.Metric, keras.losses.Loss, keras.optimizers.Optimizer)
    # A variant of one's own that another test of this process has put beside them is not one of them.
    package = str(Path(mmfusion.__file__).parent)
    modules = [
        module
        for name, module in sys.modules.items()
        if name.startswith("mmfusion.") and str(module.__file__).startswith(package)
    ]
    found = {
        one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, kinds) and one.__module__ == module.__name__
    }
    bases = {base for one in found for base in one.__mro__[1:]}
    assert found - bases <= registered
