"""A run's network as ONNX."""

from pathlib import Path

import numpy as np

from mmfusion.files import write_atomically
from mmfusion.inference.export import manual
from mmfusion.inference.export.network import Predict, network_of, of_tensors
from mmfusion.runs import Run

_OPSET = 18  # of ONNX; all that is needed is in it


def write(run: Run, folder: Path) -> None:
    """Writes a run's network as an ONNX file into a folder."""
    import tf2onnx

    network = network_of(run)
    model, _ = tf2onnx.convert.from_function(
        network,
        input_signature=network.input_signature,
        opset=_OPSET,
        custom_op_handlers={"Erfc": (_erfc, []), "Log1p": (_log1p, [])},
    )
    write_atomically(folder / manual.MODELS["onnx"], model.SerializeToString())


def _erfc(context, node, name, args):
    """Gives 1 - erf(x), which tf2onnx does not know."""
    node.type = "Erf"
    minus = context.insert_new_node_on_output("Sub", node.output[0], name=f"{name}_from_one")
    context.replace_inputs(minus, [_one(context, name), node.output[0]])


def _log1p(context, node, name, args):
    """Gives log(1 + x), which it does not know either."""
    node.type = "Log"
    more = context.make_node("Add", [node.input[0], _one(context, name)], name=f"{name}_and_one")
    context.replace_input(node, node.input[0], more.output[0], 0)


def _one(context, name):
    return context.make_const(f"{name}_one", np.array(1, np.float32)).output[0]


def read(run: Run, folder: Path) -> Predict:
    """Opens what `write` has written."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / manual.MODELS["onnx"], providers=["CPUExecutionProvider"])
    return of_tensors(run, lambda given: np.asarray(session.run(["probabilities"], given)[0]))
