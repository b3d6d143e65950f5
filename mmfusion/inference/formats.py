"""A run's model as files that need no mmfusion, each checked against what the run itself says."""

import io
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from mmfusion.data.in_graph import RawInputs
from mmfusion.data.preprocessing import Column
from mmfusion.errors import UserError, first_line
from mmfusion.files import HALF_WRITTEN, make_folder, move_into_place, write_atomically
from mmfusion.inference import manual
from mmfusion.models.recurrent import portable
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, FIELDS, OVERVIEW, POSTER, TABLE
from mmfusion.training import experiment, inputs

TOLERANCE = 1e-4  # of a probability
# A run keeps frozen presets' sequences in float16: summed in another order, a value becomes the next one there.
_TOLERANCE_OF_SEQUENCES = 1e-3
_OPSET = 18  # of ONNX; all that is needed is in it

# Some films as `experiment.predict` takes them -> probabilities (N, G), from an exported folder.
_Predict = Callable[[Mapping[str, Sequence]], np.ndarray]


def export(run: Run, form: str, out: Path) -> float:
    """Writes a run's model in another format, with all that is needed to use it; see `manual`.

    "savedmodel" is all of it, from files' bytes and texts: the signature `serving_default` takes `posters` and
    `overviews`, string (B,), and `tables`, string (B, C), those of them that the run's batches have, and gives
    `probabilities`, float32 (B, G); with a preset for overviews TensorFlow Text
    has to be imported before it is loaded. "onnx" (`model.onnx`) and "litert" (`model.tflite`) are the network
    alone, a frozen preset's too, and take `poster`, float32 (B, H, W, 3), `overview`, int32 (B, T), and `table`,
    float32 (B, C, 3), as `inputs.encoded` makes them.

    Args:
        run: a finished run.
        form: "savedmodel", "onnx" or "litert".
        out: the folder to write; it must not exist. It takes its place whole.

    Returns:
        The largest difference between its probabilities and those of `experiment.predict`, on a few made films.

    Raises:
        UserError: the folder exists or cannot be written, the model cannot be converted, or
            it says something else than the run afterwards.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; name another with --out, or delete it")
    if form != "savedmodel" and run.config.training.precision != "float32":
        raise UserError(
            f"{run.folder} was trained in {run.config.training.precision}, which only --format savedmodel can keep"
        )
    write, read = _FORMATS[form]
    make_folder(out.parent)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}{HALF_WRITTEN}", dir=out.parent))
        try:
            beside.chmod(0o755)  # mkdtemp makes folders that only their owner can read
            write(run, beside)
            manual.write(run, form, beside)
            difference = _difference(run, read(run, beside))
            if not difference <= tolerance_of(run):  # nor is NaN
                raise UserError(f"its probabilities differ from the run's by {difference:.2g}")
            move_into_place(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except Exception as error:  # the converters raise as they please, and not for disks alone
        raise UserError(f"{run.folder} cannot be exported as {form} to {out}: {first_line(error)}") from error
    return difference


class _Whole(tf.Module):
    """A run from bytes and texts to probabilities."""

    def __init__(self, run: Run):
        super().__init__()
        data, fitted = run.config.data, run.fitted
        self.raw = RawInputs(data.poster_size, fitted, data.max_tokens)
        self.presets = inputs.presets_of(run.config)
        self.model = experiment.load_model(run)
        self.frozen = [preset.backbone for preset in self.presets.values() if preset.frozen]  # to be saved too

        shapes = {POSTER: [None], OVERVIEW: [None], TABLE: [None, len(fitted.columns)]}
        self.specs = {
            one.plural: tf.TensorSpec(shapes[one], tf.string, one.plural) for one in run.config.in_batches
        }
        readers = {POSTER: self.raw.poster, OVERVIEW: self.raw.tokens, TABLE: self.raw.table}
        readers |= {modality: preset.encoded_in_graph for modality, preset in self.presets.items()}

        @tf.function
        def serve(**films):
            read = {one: readers[one](films[one.plural]) for one in run.config.in_batches}
            return {"probabilities": _probabilities(self.model, self.presets, read)}  # (B, G)

        self.serve = serve


def _probabilities(model: keras.Model, presets: dict[str, inputs.Preset], read: dict[str, tf.Tensor]) -> tf.Tensor:
    """Of pictures in [0, 1] and tokens, whether a frozen preset or the model itself reads them."""
    features = {
        modality: tf.cast(preset.features(read[modality]), tf.float32)
        for modality, preset in presets.items()
        if preset.frozen
    }
    return tf.sigmoid(model({**read, **features}, training=False))


def _network(run: Run) -> tf.types.experimental.PolymorphicFunction:
    """Makes a function: what `inputs.encoded` gives -> {"probabilities" (B, G)}, the weights as constants."""
    model, presets = experiment.load_model(run), inputs.presets_of(run.config)
    networks = [model, *(preset.backbone for preset in presets.values() if preset.frozen)]
    # The converters would leave variables out, and the model would say NaN.
    constants = [(v, v.numpy()) for network in networks for v in network.variables]
    size, columns = run.config.data.poster_size, len(run.fitted.columns)
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
            return {"probabilities": _probabilities(model, presets, dict(zip(names, films, strict=True)))}

    with portable():
        network.get_concrete_function()
    return network


def _write_savedmodel(run: Run, folder: Path) -> None:
    whole = _Whole(run)
    serve = whole.serve.get_concrete_function(**whole.specs)
    tf.saved_model.save(whole, folder, signatures={"serving_default": serve})


def _read_savedmodel(run: Run, folder: Path) -> _Predict:
    serve = tf.saved_model.load(folder).signatures["serving_default"]

    def predict(films):
        read = {one.plural: films[one] for one in run.config.in_batches}
        if TABLE in run.config.in_batches:
            names = [column.name for column in run.fitted.columns]
            read[TABLE.plural] = [[row.get(name, "") for name in names] for row in films[TABLE]]
        return serve(**{name: tf.constant(of) for name, of in read.items()})["probabilities"].numpy()

    return predict


def _write_onnx(run: Run, folder: Path) -> None:
    import tf2onnx

    network = _network(run)
    model, _ = tf2onnx.convert.from_function(
        network,
        input_signature=network.input_signature,
        opset=_OPSET,
        custom_op_handlers={"Erfc": (_erfc, []), "Log1p": (_log1p, [])},
    )
    write_atomically(folder / manual.MODELS["onnx"], model.SerializeToString())


def _erfc(context, node, name, args):
    """1 - erf(x), which tf2onnx does not know."""
    node.type = "Erf"
    minus = context.insert_new_node_on_output("Sub", node.output[0], name=f"{name}_from_one")
    context.replace_inputs(minus, [_one(context, name), node.output[0]])


def _log1p(context, node, name, args):
    """log(1 + x), which it does not know either."""
    node.type = "Log"
    more = context.make_node("Add", [node.input[0], _one(context, name)], name=f"{name}_and_one")
    context.replace_input(node, node.input[0], more.output[0], 0)


def _one(context, name):
    return context.make_const(f"{name}_one", np.array(1, np.float32)).output[0]


def _read_onnx(run: Run, folder: Path) -> _Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / manual.MODELS["onnx"], providers=["CPUExecutionProvider"])
    return _of_tensors(run, lambda read: session.run(["probabilities"], read)[0])


def _write_litert(run: Run, folder: Path) -> None:
    network = _network(run)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], tf.Module())
    # Its own operations only: the Python packages that run it have TensorFlow's beside them no more. They have no
    # slice that adds an axis where two are open, `mask[:, :, None]`; the models use `expand_dims`.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    write_atomically(folder / manual.MODELS["litert"], converter.convert())


def _read_litert(run: Run, folder: Path) -> _Predict:
    from ai_edge_litert.interpreter import Interpreter

    predict = Interpreter(str(folder / manual.MODELS["litert"])).get_signature_runner("serving_default")
    return _of_tensors(run, lambda read: predict(**read)["probabilities"])


_FORMATS = {
    "savedmodel": (_write_savedmodel, _read_savedmodel),
    "onnx": (_write_onnx, _read_onnx),
    "litert": (_write_litert, _read_litert),
}


def _of_tensors(run: Run, network: Callable[[dict[str, np.ndarray]], np.ndarray]) -> _Predict:
    """Gives what makes the network's inputs, and then calls it."""
    config, fitted = run.config, run.fitted

    def predict(films):
        read = inputs.encoded(config, fitted, films).films
        pixels = {name for name, of in read.items() if of.kind == "pixels"}
        return network(
            {name: of.values.astype(np.float32) / 255 if name in pixels else of.values for name, of in read.items()}
        )

    return predict


def tolerance_of(run: Run) -> float:
    """Tolerance of a probability of an export against the run's."""
    sequences = any(preset.frozen and preset.as_sequence for preset in inputs.presets_of(run.config).values())
    return _TOLERANCE_OF_SEQUENCES if sequences else TOLERANCE


def _difference(run: Run, exported: _Predict) -> float:
    """The largest difference of a probability between an exported model and its run, on made films."""
    films = _made_films(run)
    expected = experiment.predict(run, films)
    alone = exported({name: of[:1] for name, of in films.items()})
    return float(max(np.abs(exported(films) - expected).max(), np.abs(alone - expected[:1]).max()))


def _made_films(run: Run) -> dict[str, list]:
    """Posters for each scale at which a JPEG is read, and none; overviews of every length, and none; rows alike."""
    size, longest, words = run.config.data.poster_size, run.config.data.max_tokens, run.vocabulary[2:]
    random = np.random.default_rng(0)
    posters = []
    for times, form in ((0.5, "PNG"), (1.3, "JPEG"), (2.2, "JPEG"), (4.1, "JPEG"), (8.2, "JPEG")):
        small = random.integers(0, 256, (9, 7, CHANNELS), np.uint8)
        side = int(times * size) + 1
        file = io.BytesIO()
        Image.fromarray(small).resize((side, 3 * side // 2)).save(file, form)
        posters.append(file.getvalue())
    lengths = (1, longest // 2, longest, longest + 9, 3)
    overviews = [", ".join(random.choice([*words, "Ünknown"], length)) for length in lengths]
    films = {POSTER: [*posters, b"", posters[0]], OVERVIEW: [*overviews, overviews[1], ""]}
    columns = run.fitted.columns
    rows = [
        {column.name: _made_cell(column, place) for column in columns} for place in range(len(films[POSTER]) - 1)
    ]
    return {**films, TABLE: [*rows, {}]}


def _made_cell(column: Column, place: int) -> str:
    """A number near the mean, a known value or another, or an empty cell."""
    known = column.values or [f"{column.mean + (step - 1) * column.deviation:.6g}" for step in range(3)]
    return [*known[:3], "Ünknown", ""][place % (min(len(known), 3) + 2)]
