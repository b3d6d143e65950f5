"""What an exported folder says of itself to whoever has nothing else: `export.json` and a `README.md`.

The README's code is made of pieces, for each format and for each modality with a preset and without.
"""

import json
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from mmfusion import inputs
from mmfusion.files import write_atomically
from mmfusion.machine import machine
from mmfusion.models import presets
from mmfusion.reports.metrics import tune_thresholds
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, OUT_OF_VOCABULARY, OVERVIEW, PADDING, POSTER

DESCRIPTION = "export.json"
VOCABULARY = "vocabulary.txt"
TOKENIZER = "tokenizer"  # the folder of a preset's words
MODELS = {"savedmodel": ".", "onnx": "model.onnx", "litert": "model.tflite"}  # below the exported folder
_WRITERS = {  # packages, beside those that every run is made with
    "savedmodel": ("pillow",),
    "onnx": ("pillow", "tf2onnx", "onnxruntime"),
    "litert": ("pillow", "ai-edge-litert"),
}
_RESIZING = ("interpolation", "antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio")


def write(run: Run, form: str, folder: Path) -> None:
    """Writes both files, and the words that a network's tokens are the numbers of, into an exported folder.

    Args:
        run: a finished run.
        form: "savedmodel", "onnx" or "litert".
        folder: it holds the model already.

    Raises:
        UserError: a file cannot be written, or the run's preset cannot be had.
    """
    found = inputs.presets_of(run.config)
    said = _description(run, form, found)
    if form != "savedmodel":
        if OVERVIEW in found:
            (folder / TOKENIZER).mkdir()
            found[OVERVIEW].preprocessor.tokenizer.save_assets(str(folder / TOKENIZER))
        else:
            write_atomically(folder / VOCABULARY, "\n".join(run.vocabulary))
    write_atomically(folder / DESCRIPTION, json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_atomically(folder / "README.md", _readme(said, form))


def _description(run: Run, form: str, found: dict[str, inputs.Preset]) -> dict:
    validation = run.predictions("validation")
    thresholds = tune_thresholds(validation.y_true, validation.y_prob)  # NaN for a genre that none of them has
    poster, overview = _poster(run, found), _overview(run, form, found)
    return {
        "format": form,
        "model": MODELS[form],
        "run": run.name,
        "variant": run.config.variant,
        "reads": run.facts["reads"],
        "seed": run.config.seed,
        "trained_with": run.facts["versions"],
        "written_with": _versions(form, found),
        "genres": list(run.genres),
        "thresholds": [None if np.isnan(threshold) else float(threshold) for threshold in thresholds],
        "threshold_where_null": 0.5,
        "inputs": _inputs(form, poster),
        "output": {"name": "probabilities", "shape": [None, len(run.genres)], "dtype": "float32"},
        "poster": poster,
        "overview": overview,
        "presets": {
            modality: {"name": run.config.encoders[modality], "fingerprint": one.fingerprint}
            for modality, one in found.items()
        },
    }


def _inputs(form: str, poster: dict) -> dict:
    if form == "savedmodel":
        return {
            "posters": {"shape": [None], "dtype": "string", "holds": "files' bytes", "absent": "no bytes"},
            "overviews": {"shape": [None], "dtype": "string", "holds": "texts in UTF-8", "absent": "an empty text"},
        }
    shape = [None, poster["height"], poster["width"], CHANNELS]
    return {
        POSTER: {"shape": shape, "dtype": "float32", "holds": "RGB from 0 to 1", "absent": "zeros"},
        OVERVIEW: {
            "shape": [None, None],
            "dtype": "int32",
            "holds": "numbers of words, shorter rows padded at their end; at least one column",
            "absent": "padding alone",
        },
    }


def _poster(run: Run, found: dict[str, inputs.Preset]) -> dict:
    """How a poster's file becomes what the network reads."""
    if POSTER in found:
        height, width = run.config.poster_encoder.preset.image_size
        reading = presets.reading_of(presets.image_converter(run.config))
        return {
            "height": height,
            "width": width,
            "resizing": {name: reading[name] for name in _RESIZING},
            "by": "keras.layers.Resizing, of the whole picture in float32",
            "then": "rounded to whole numbers from 0 to 255, and divided by 255",
        }
    size = run.config.data.poster_size
    return {
        "height": size,
        "width": size,
        "resizing": dict(zip(_RESIZING, ("bilinear", True, False, False))),
        "by": "Pillow, in 8 bits; a JPEG is read at the smallest of 1, 1/2, 1/4 and 1/8 of its size that leaves no "
        "less than these on either side",
        "then": "divided by 255",
    }


def _overview(run: Run, form: str, found: dict[str, inputs.Preset]) -> dict:
    """How an overview becomes what the network reads."""
    said = {"longest": run.config.data.max_tokens}
    if OVERVIEW in found:
        said |= {"padding": found[OVERVIEW].padding, "words": "cut and numbered by the preset's own tokenizer"}
        if form != "savedmodel":
            preprocessor = keras.saving.serialize_keras_object(found[OVERVIEW].preprocessor)
            said |= {"preprocessor": preprocessor, "vocabulary": TOKENIZER}
        return said
    known = len(run.vocabulary) > 2
    said |= {
        "padding": PADDING,
        "out_of_vocabulary": OUT_OF_VOCABULARY if known else PADDING,  # without words there is nothing to look up
        "words": "what stands between ASCII white space or NULs, ASCII letters in lower case, ASCII punctuation "
        "left out; a longer overview is cut",
    }
    return said if form == "savedmodel" else {**said, "vocabulary": VOCABULARY}


def _versions(form: str, found: dict[str, inputs.Preset]) -> dict[str, str]:
    more = (*_WRITERS[form], *(("keras-hub",) if found else ()))
    return {**machine()["versions"], **{name: version(name) for name in more}}


def _readme(said: dict, form: str) -> str:
    reads_by = said["presets"]
    if form == "savedmodel":
        code, needs = _SAVEDMODEL, ["tensorflow"]
        if OVERVIEW in reads_by:
            needs.append("tensorflow-text")
            code = code.replace("as tf\n", "as tf\nimport tensorflow_text  # before the model is loaded\n")
    else:
        package, package_import, network = _NETWORKS[form]
        posters = _PRESET_POSTERS if POSTER in reads_by else _POSTERS
        tokens = _PRESET_TOKENS if OVERVIEW in reads_by else _TOKENS
        more = ["tensorflow", "keras"] if reads_by else []
        more += ["tensorflow-text", "keras-hub"] if OVERVIEW in reads_by else []
        needs = ["numpy", "pillow", package, *more]
        standard = ["import io", "import json", *(["import string"] if OVERVIEW not in reads_by else [])]
        imports = ["import numpy as np", "from PIL import Image, ImageOps", package_import]
        imports += [f"import {name}" for name in ("keras", "keras_hub") if name.replace("_", "-") in more]
        imports.sort(key=lambda line: (line.startswith("from"), line.lower()))
        code = "\n".join([*standard, "", *imports, _OPEN]) + posters + tokens + network
    return _TEXT.format(
        run=said["run"],
        variant=said["variant"],
        form=form,
        genres=len(said["genres"]),
        inputs=" and ".join(f"`{name}`" for name in said["inputs"]),
        needs=" ".join(needs),
        limits=_LIMITS[form],
        code=code + _PREDICTED,
    )


_TEXT = """# {run}, a film's genres from its poster and its overview

The model of an mmfusion run of the variant `{variant}`, as {form}. It takes {inputs} and gives
`probabilities`, one for each of {genres} genres. `export.json` says the rest: genres in their order, thresholds,
how a poster and an overview become what the model reads, and versions.

No mmfusion is needed; this is, in this folder:

    pip install {needs}

```python
{code}```

`predict` takes posters' files, `b""` where there is none, and overviews, `""` where there is none. A genre is
predicted where its probability reaches its threshold, which was tuned on validation films, or 0.5 where that is
undefined.

```python
with open("poster.jpg", "rb") as file:
    probabilities, predicted = predict([file.read()], ["Two sisters inherit a lighthouse."])
print([genre for genre, yes in zip(about["genres"], predicted[0]) if yes])
```

{limits}
"""

_LIMITS = {
    "savedmodel": "Posters: upright JPEG, PNG, GIF and BMP without transparency. Others end the call with an error "
    "that says why.",
    **dict.fromkeys(
        ("onnx", "litert"), "Posters: what Pillow reads, of 8 bits a channel; `written_with` has Pillow's version."
    ),
}

_SAVEDMODEL = """import json

import numpy as np
import tensorflow as tf

with open("export.json", encoding="utf-8") as file:
    about = json.load(file)
model = tf.saved_model.load(about["model"]).signatures["serving_default"]


def probabilities_of(posters, overviews):
    return model(posters=tf.constant(posters), overviews=tf.constant(overviews))["probabilities"].numpy()


"""

_OPEN = """
with open("export.json", encoding="utf-8") as file:
    about = json.load(file)
size = about["poster"]["width"], about["poster"]["height"]


def upright_rgb(picture):
    picture = ImageOps.exif_transpose(picture).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


"""

_POSTERS = """def pixels(file):
    if not file:
        return np.zeros((size[1], size[0], 3), np.float32)
    picture = Image.open(io.BytesIO(file))
    picture.draft("RGB", size)  # a large JPEG is read at a half, a quarter or an eighth
    return np.asarray(upright_rgb(picture).resize(size, Image.Resampling.BILINEAR), np.float32) / 255


"""

_PRESET_POSTERS = """resize = keras.layers.Resizing(size[1], size[0], **about["poster"]["resizing"])


def pixels(file):
    if not file:
        return np.zeros((size[1], size[0], 3), np.float32)
    picture = np.asarray(upright_rgb(Image.open(io.BytesIO(file))), np.float32)
    return np.clip(np.round(np.asarray(resize(picture))), 0, 255).astype(np.float32) / 255


"""

_TOKENS = """with open(about["overview"]["vocabulary"], encoding="utf-8") as file:
    numbers = {word.encode(): number for number, word in enumerate(file.read().split("\\n"))}


def tokens(overview):
    text = overview.replace("\\0", " ").encode().lower()  # of bytes: letters of ASCII alone
    words = text.translate(None, string.punctuation.encode()).split()[: about["overview"]["longest"]]
    return [numbers.get(word, about["overview"]["out_of_vocabulary"]) for word in words]


"""

_PRESET_TOKENS = """preprocessor = keras.saving.deserialize_keras_object(about["overview"]["preprocessor"])
preprocessor.tokenizer.load_assets(about["overview"]["vocabulary"])


def tokens(overview):
    found = np.asarray(preprocessor([overview])["token_ids"])[0] if overview.strip() else np.array([], int)
    return found[found != about["overview"]["padding"]].tolist()


"""

_BATCH = """
def probabilities_of(posters, overviews):
    rows = [tokens(overview) for overview in overviews]
    read = np.full((len(rows), max(1, *map(len, rows))), about["overview"]["padding"], np.int32)
    for padded, row in zip(read, rows):
        padded[: len(row)] = row
"""

_NETWORKS = {
    "onnx": (
        "onnxruntime",
        "import onnxruntime",
        f"""session = onnxruntime.InferenceSession(about["model"])

{_BATCH}    poster = np.stack([pixels(file) for file in posters])
    return session.run(["probabilities"], {{"poster": poster, "overview": read}})[0]


""",
    ),
    "litert": (
        "ai-edge-litert",
        "from ai_edge_litert.interpreter import Interpreter",
        f"""model = Interpreter(about["model"]).get_signature_runner("serving_default")

{_BATCH}    poster = np.stack([pixels(file) for file in posters])
    return model(poster=poster, overview=read)["probabilities"]


""",
    ),
}

_PREDICTED = """def predict(posters, overviews):
    probabilities = probabilities_of(posters, overviews)  # (films, genres)
    thresholds = [about["threshold_where_null"] if one is None else one for one in about["thresholds"]]
    return probabilities, probabilities >= np.array(thresholds)
"""
