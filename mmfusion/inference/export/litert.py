"""A run's network as LiteRT."""

from pathlib import Path

import tensorflow as tf

from mmfusion.files import write_atomically
from mmfusion.inference.export import manual
from mmfusion.inference.export.network import Predict, network_of, of_tensors
from mmfusion.runs import Run


def write(run: Run, folder: Path) -> None:
    """Writes a run's network as a LiteRT file into a folder."""
    network = network_of(run)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], tf.Module())
    # Its own operations only: the Python packages that run it have TensorFlow's beside them no more. They have no
    # slice that adds an axis where two are open, `mask[:, :, None]`; the models use `expand_dims`.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    write_atomically(folder / manual.MODELS["litert"], converter.convert())


def read(run: Run, folder: Path) -> Predict:
    """Opens what `write` has written."""
    from ai_edge_litert.interpreter import Interpreter

    predict = Interpreter(str(folder / manual.MODELS["litert"])).get_signature_runner("serving_default")
    return of_tensors(run, lambda given: predict(**given)["probabilities"])
