"""The manual of an exported folder, for whoever has nothing else: `export.json` and a `README.md`.

The README is `templates/export.md`.
"""

import json
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from mmfusion.data.preprocessing import MOST_DEVIATIONS, NUMBER, columns_to_list
from mmfusion.data.scripts import patterns
from mmfusion.evaluation.metrics import tune_thresholds
from mmfusion.files import write_atomically
from mmfusion.models import presets
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, FIELDS, MODALITIES, OUT_OF_VOCABULARY, OVERVIEW, PADDING, POSTER, TABLE
from mmfusion.templates import render
from mmfusion.training import features
from mmfusion.training.machine import machine

DESCRIPTION = "export.json"
VOCABULARY = "vocabulary.txt"
TOKENIZER = "tokenizer"  # the folder of a preset's words
MODELS = {"savedmodel": ".", "onnx": "model.onnx", "litert": "model.tflite"}  # below the exported folder
_WRITERS = {  # packages, beside those that every run is made with
    "savedmodel": ("pillow",),
    "onnx": ("pillow", "tf2onnx", "onnxruntime"),
    "litert": ("pillow", "ai-edge-litert"),
}
_PACKAGES = {"onnx": "onnxruntime", "litert": "ai-edge-litert"}  # that run a format
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
    found = features.presets_of(run.config)
    said = _description(run, form, found)
    if form != "savedmodel":
        if isinstance(preset := found.get(OVERVIEW), features.OverviewPreset):
            (folder / TOKENIZER).mkdir()
            preset.preprocessor.tokenizer.save_assets(str(folder / TOKENIZER))
        else:
            write_atomically(folder / VOCABULARY, "\n".join(run.vocabulary))
    write_atomically(folder / DESCRIPTION, json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    write_atomically(folder / "README.md", _readme(said, form))


def _description(run: Run, form: str, found: dict[str, features.Preset]) -> dict:
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
        "inputs": _inputs(run, form, poster),
        "output": {"name": "probabilities", "shape": [None, len(run.genres)], "dtype": "float32"},
        "poster": poster,
        "overview": overview,
        **({"table": _table(run)} if TABLE in run.config.in_batches else {}),
        "presets": {
            modality: {"name": run.config.encoders[modality], "fingerprint": one.fingerprint}
            for modality, one in found.items()
        },
    }


def _inputs(run: Run, form: str, poster: dict) -> dict:
    columns, strings = len(run.fitted.columns), {"shape": [None], "dtype": "string"}
    if form == "savedmodel":
        said = {
            POSTER: {**strings, "holds": "files' bytes", "absent": "no bytes"},
            OVERVIEW: {**strings, "holds": "texts in UTF-8", "absent": "an empty text"},
            TABLE: {
                "shape": [None, columns],
                "dtype": "string",
                "holds": "cells as texts",
                "absent": "empty texts",
            },
        }
        return {one.plural: said[one] for one in run.config.in_batches}
    shape = [None, poster["height"], poster["width"], CHANNELS]
    said = {
        POSTER: {"shape": shape, "dtype": "float32", "holds": "RGB from 0 to 1", "absent": "zeros"},
        OVERVIEW: {
            "shape": [None, None],
            "dtype": "int32",
            "holds": "numbers of words, shorter rows padded at their end; at least one column",
            "absent": "padding alone",
        },
        TABLE: {
            "shape": [None, columns, FIELDS],
            "dtype": "float32",
            "holds": "of each column a number in standard deviations, a category's value from 1, and 1",
            "absent": "zeros, of a cell too",
        },
    }
    return {one: said[one] for one in run.config.in_batches}


def _table(run: Run) -> dict:
    """Describes how a row becomes what the network reads."""
    return {"columns": columns_to_list(run.fitted.columns), "most_deviations": MOST_DEVIATIONS, "number": NUMBER}


def _poster(run: Run, found: dict[str, features.Preset]) -> dict:
    """Describes how a poster's file becomes what the network reads."""
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
    size = run.config.poster_size
    return {
        "height": size,
        "width": size,
        "resizing": dict(zip(_RESIZING, ("bilinear", True, False, False))),
        "by": "Pillow, in 8 bits; a JPEG is read at the smallest of 1, 1/2, 1/4 and 1/8 of its size that leaves no "
        "less than these on either side",
        "then": "divided by 255",
    }


def _overview(run: Run, form: str, found: dict[str, features.Preset]) -> dict:
    """Describes how an overview becomes what the network reads."""
    said = {"longest": run.config.max_tokens}
    if isinstance(preset := found.get(OVERVIEW), features.OverviewPreset):
        said |= {"padding": preset.padding, "words": "cut and numbered by the preset's own tokenizer"}
        if form != "savedmodel":
            preprocessor = keras.saving.serialize_keras_object(preset.preprocessor)
            said |= {"preprocessor": preprocessor, "vocabulary": TOKENIZER}
        return said
    known = len(run.vocabulary) > 2
    said |= {
        "padding": PADDING,
        "out_of_vocabulary": OUT_OF_VOCABULARY if known else PADDING,  # without words there is nothing to look up
        "words": "what stands between ASCII white space or NULs, ASCII letters in lower case, ASCII punctuation "
        "left out; a longer overview is cut",
    }
    rules = run.fitted.rules
    if rules.fold == "on":
        said["folded"] = "before that, every character by Unicode's rules: its case, accents and width left out"
    if rules.split == "characters":
        said |= {"characters": patterns()._asdict()}
    return said if form == "savedmodel" else {**said, "vocabulary": VOCABULARY}


def _versions(form: str, found: dict[str, features.Preset]) -> dict[str, str]:
    more = (*_WRITERS[form], *(("keras-hub",) if found else ()))
    return {**machine()["versions"], **{name: version(name) for name in more}}


def _readme(said: dict, form: str) -> str:
    presets = said["presets"]
    plural = {one: one.plural for one in MODALITIES if one in said["inputs"] or one.plural in said["inputs"]}
    needs = ["tensorflow"] if form == "savedmodel" else ["numpy", "pillow", _PACKAGES[form]]
    needs += ["tensorflow", "keras"] if presets and form != "savedmodel" else []
    needs += ["tensorflow-text"] if OVERVIEW in presets else []
    needs += ["keras-hub"] if OVERVIEW in presets and form != "savedmodel" else []
    return render(
        "mmfusion",
        "export.md",
        run=said["run"],
        variant=said["variant"],
        form=form,
        inputs=" and ".join(f"`{name}`" for name in said["inputs"]),
        genres=len(said["genres"]),
        needs=" ".join(needs),
        overview=said["overview"],
        plural=plural,
        names=", ".join(plural.values()),
        presets=presets,
    )
