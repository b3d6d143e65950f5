"""A run's model as files that need no mmfusion, each checked against what the run itself says."""

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from mmfusion import inference
from mmfusion.data.preprocessing import Column
from mmfusion.errors import UserError, first_line
from mmfusion.files import HALF_WRITTEN, make_folder, move_into_place
from mmfusion.inference.export import litert, manual, onnx, savedmodel
from mmfusion.inference.export.network import Predict
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, OVERVIEW, POSTER, TABLE
from mmfusion.training import features

TOLERANCE = 1e-4  # of a probability
# A run keeps frozen presets' sequences in float16: summed in another order, a value becomes the next one there.
_TOLERANCE_OF_SEQUENCES = 1e-3


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
        The largest difference between its probabilities and those of `inference.predict`, on a few made films.

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
    make_folder(out.parent)
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}{HALF_WRITTEN}", dir=out.parent))
        try:
            beside.chmod(0o755)  # mkdtemp makes folders that only their owner can read
            FORMATS[form].write(run, beside)
            manual.write(run, form, beside)
            difference = _difference(run, FORMATS[form].read(run, beside))
            if not difference <= tolerance_of(run):  # nor is NaN
                raise UserError(f"its probabilities differ from the run's by {difference:.2g}")
            move_into_place(beside, out)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except Exception as error:  # the converters raise as they please, and not for disks alone
        raise UserError(f"{run.folder} cannot be exported as {form} to {out}: {first_line(error)}") from error
    return difference


# Every format by its name, a file with `write` and `read`; what each needs is in `manual` and in the command.
FORMATS = {"savedmodel": savedmodel, "onnx": onnx, "litert": litert}


def tolerance_of(run: Run) -> float:
    """Tolerance of a probability of an export against the run's."""
    sequences = any(preset.frozen and preset.as_sequence for preset in features.presets_of(run.config).values())
    return _TOLERANCE_OF_SEQUENCES if sequences else TOLERANCE


def _difference(run: Run, exported: Predict) -> float:
    """The largest difference of a probability between an exported model and its run, on made films."""
    films = _made_films(run)
    expected = inference.predict(run, films)
    alone = exported({name: of[:1] for name, of in films.items()})
    return float(max(np.abs(exported(films) - expected).max(), np.abs(alone - expected[:1]).max()))


def _made_films(run: Run) -> dict[str, list]:
    """Posters for each scale at which a JPEG is read, and none; overviews of every length, and none; rows alike."""
    size, longest, words = run.config.poster_size, run.config.max_tokens, run.vocabulary[2:]
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
