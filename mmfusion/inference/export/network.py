"""A run's network alone, from tensors to probabilities, its weights as constants."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmfusion import inference
from mmfusion.models.recurrent import portable
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, FIELDS, OVERVIEW, POSTER, TABLE
from mmfusion.training import features, inputs

# Some films as `inference.predict` takes them -> probabilities (N, G), from an exported folder.
Predict = Callable[[Mapping[str, Sequence]], np.ndarray]


def probabilities_of(
    model: keras.Model, presets: dict[str, features.Preset], read: dict[str, tf.Tensor]
) -> tf.Tensor:
    """Of pictures in [0, 1] and tokens, whether a frozen preset or the model itself reads them."""
    found = {
        modality: tf.cast(preset.features(read[modality]), tf.float32)
        for modality, preset in presets.items()
        if preset.frozen
    }
    return tf.sigmoid(model({**read, **found}, training=False))


def network_of(run: Run) -> Any:
    """Makes a `tf.function`: what `inputs.encoded` gives -> {"probabilities" (B, G)}, the weights as constants."""
    model, presets = inference.load_model(run), features.presets_of(run.config)
    networks = [model, *(preset.backbone for preset in presets.values() if preset.frozen)]
    # The converters would leave variables out, and the model would say NaN.
    constants = [(v, v.numpy()) for network in networks for v in network.variables]
    size, columns = run.config.poster_size, len(run.fitted.columns)
    specs = {
        POSTER: tf.TensorSpec([None, size, size, CHANNELS], tf.float32),
        OVERVIEW: tf.TensorSpec([None, None], tf.int32),
        TABLE: tf.TensorSpec([None, columns, FIELDS], tf.float32),
    }
    specs |= {modality: preset.spec for modality, preset in presets.items()}
    names = run.config.in_batches

    @tf.function(input_signature=[tf.TensorSpec(specs[one].shape, specs[one].dtype, str(one)) for one in names])
    def network(*films):
        with keras.StatelessScope(state_mapping=constants):
            return {"probabilities": probabilities_of(model, presets, dict(zip(names, films, strict=True)))}

    with portable():
        network.get_concrete_function()
    return network


def of_tensors(run: Run, network: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Predict:
    """Gives what makes the network's inputs, and then calls it."""
    config, fitted = run.config, run.fitted

    def predict(films):
        read = inputs.encoded(config, fitted, films).films
        pixels = {name for name, of in read.items() if of.kind == "pixels"}
        values = {name: np.asarray(of.values) for name, of in read.items()}
        return network({name: of.astype(np.float32) / 255 if name in pixels else of for name, of in values.items()})

    return predict
