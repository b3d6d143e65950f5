"""A run in another format says what the run says, of files' bytes and texts as of tensors."""

import ast
import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import command, tiny_config
from pictures import RED_LEFT, encoded
from PIL import Image
from tiny_presets import write_image_preset, write_text_preset

from benchmarks.baselines import train_baseline
from mmfusion import export, inference, predict
from mmfusion.data.in_graph import RawInputs
from mmfusion.data.posters import decode_poster
from mmfusion.data.preprocessing import Preprocessing
from mmfusion.data.text import encode_overviews
from mmfusion.errors import UserError
from mmfusion.evaluation.metrics import tune_thresholds
from mmfusion.inference.export import export as export_run
from mmfusion.inference.export import savedmodel, tolerance_of
from mmfusion.models.recurrent import BidirectionalLSTM, portable
from mmfusion.models.weights import save_model
from mmfusion.runs import Predictions, Run
from mmfusion.training import preparation

pytestmark = pytest.mark.usefixtures("asked_once")

SIZE = 16  # of the tiny runs' posters
NO_POSTER = np.zeros((SIZE, SIZE, 3), np.uint8)
NETWORKS = ("onnx", "litert")
# Every variant; between them every encoder, stacked LSTMs and their last states, and operators of joint fusion.
RUNS = {
    "poster": {"poster_encoder__name": "cnn"},
    "overview": {
        "overview_encoder__name": "bilstm",
        "overview_encoder__bilstm__lstm_units": [5, 4],
        "overview_encoder__bilstm__recurrent_dropout": 0.2,
        "wide__units": "ngrams",
    },
    "early": {"early__ngrams": 50, "early__overlap": True},
    "joint": {"overview_encoder__name": "bag"},
    "late": {"late__combiner": "confidence"},
}


def picture(width, height, seed=0, mode="RGB"):
    """Smooth, with noise."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (5, 4, 3), np.uint8)).resize((width, height))
    noise = rng.integers(-30, 31, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)).convert(mode)


POSTERS = [
    encoded(picture(40, 60, 1), "JPEG"),  # read at 1/2
    encoded(picture(100, 70, 2), "JPEG"),  # 1/4
    encoded(picture(140, 300, 3), "JPEG", progressive=True),  # 1/8
    encoded(picture(17, 90, 4), "JPEG", subsampling=0),  # as it is
    encoded(picture(9, 11, 5, "L"), "JPEG"),
    encoded(picture(70, 140, 6, "L"), "JPEG"),
    encoded(picture(33, 50, 7)),
    b"",
]
OVERVIEWS = [
    "A film about poster_1, overview_2!",
    "",
    "Ünïcode 映画 🎬 – «a film»\tAbout\u2003things\x00and a  FILM's end.",
    "a word " * 500,
    " \n ",
    "film",
    "İstanbul ǅ ß",
    "the-end.\x0bfilm\x0cabout\x85a\x1cend [a] {film} a\\b ~`^|film",
]


def made_predictions(prepared, split):
    """Such that every genre has a threshold of its own, but for the first, which no film has."""
    y_true = prepared.films.labels[prepared.rows[split]].astype(np.uint8)
    y_true[:, 0] = 0
    y_prob = np.random.default_rng(1).random(y_true.shape, np.float32)
    return Predictions(tuple(prepared.split[split]), y_true, y_prob)


def make_run(folder, cache, variant, **settings):
    """A run with a report but without training: with random weights, none of which is 0 or 1 any more."""
    config = tiny_config(variant, poster_encoder__resnet__filters=[4, 4], **settings)
    prepared = preparation.prepare(config, cache)
    read = prepared.inputs(config)
    model = preparation.build(config, prepared, read)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = np.asarray(weight) + 0.2 * rng.normal(size=weight.shape)
        positive = any(name in weight.path for name in ("variance", "combiner", "squares", "share"))
        weight.assign(np.abs(value) if positive else value)
    with Run.create(folder) as new:
        preparation.write_decisions(new, config, prepared, preparation.facts_of(config, model, read))
        save_model(model, new.model_file)
        new.write_predictions({"validation": made_predictions(prepared, "validation")})
        new.seal()
        new.report_file.write_text("{}")
    return Run(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of every variant; tests do not change them."""
    folder, cache = tmp_path_factory.mktemp("runs"), tmp_path_factory.getbasetemp() / "cache"
    return {variant: make_run(folder / variant, cache, variant, **settings) for variant, settings in RUNS.items()}


@pytest.fixture(scope="module")
def exports(runs, tmp_path_factory):
    """Gives the folder of an exported run, made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("exports"), {}

    def exported(name, form):
        if (name, form) not in made:
            made[name, form] = folder / f"{name}-{form}"
            assert export_run(runs[name], form, made[name, form]) < 1e-5
        return made[name, form]

    return exported


@pytest.fixture(scope="module")
def films(runs):
    """Posters' bytes, overviews, and what each run says of them."""
    posters, overviews = POSTERS + POSTERS[::-1], OVERVIEWS + OVERVIEWS
    return (
        posters,
        overviews,
        {name: inference.predict(run, {"poster": posters, "overview": overviews}) for name, run in runs.items()},
    )


@pytest.mark.parametrize("form", NETWORKS)
@pytest.mark.parametrize("name", RUNS)
def test_a_network_elsewhere_says_what_the_run_says_for_any_number_of_films_and_words(
    runs, exports, films, name, form
):
    for needed in export.FORMATS[form]:
        pytest.importorskip(needed)
    posters, overviews, said = films
    folder, run = exports(name, form), runs[name]
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")

        def network(**inputs):
            return session.run(["probabilities"], inputs)[0]
    else:
        from ai_edge_litert.interpreter import Interpreter

        signature = Interpreter(str(folder / "model.tflite")).get_signature_runner("serving_default")

        def network(**inputs):
            return signature(**inputs)["probabilities"]

    expected = said[name]
    tokens = encode_overviews(overviews, run.vocabulary, run.config.max_tokens)
    posters = np.stack([decode_poster(p, SIZE) if p else NO_POSTER for p in posters]).astype(np.float32) / 255
    np.testing.assert_allclose(network(poster=posters, overview=tokens), expected, atol=1e-5, rtol=0)
    for i, row in enumerate(tokens):
        short = row[None, : max(1, np.count_nonzero(row))]
        found = network(poster=posters[i : i + 1], overview=short)
        np.testing.assert_allclose(found, expected[i : i + 1], atol=1e-5, rtol=0)


# What the saved model refuses, and Pillow reads.
UNLIKE = [
    encoded(picture(40, 60, 8), "WEBP"),
    encoded(picture(40, 60, 9, "CMYK"), "JPEG"),
    encoded(Image.new("RGBA", (20, 30), (9, 99, 9, 99))),
    encoded(picture(90, 70, 10), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"),
]

# The code of exported READMEs, where mmfusion cannot be imported.
AS_THE_READMES_SAY = """
import contextlib, io, json, os, pathlib, re, sys


class NoMmfusion:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mmfusion", "benchmarks", "tuning"):
            raise ImportError(name)


sys.meta_path.insert(0, NoMmfusion())
found = {}
for folder, posters, overviews in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    os.chdir(folder)
    posters = [bytes.fromhex(poster) for poster in posters]
    pathlib.Path("poster.jpg").write_bytes(posters[0])
    definitions, example = re.findall("```python(.*?)```", pathlib.Path("README.md").read_text("utf-8"), re.DOTALL)
    names = {}
    exec(definitions, names)
    assert "keras_hub" in definitions or "keras_hub" not in sys.modules
    probabilities, predicted = names["predict"](posters, overviews)
    alone = [names["predict"]([poster], [overview])[0][0].tolist() for poster, overview in zip(posters, overviews)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(example, names)
    found[folder] = [probabilities.tolist(), alone, predicted.tolist(), printed.getvalue()]
pathlib.Path(sys.argv[2]).write_text(json.dumps(found))
"""
EXAMPLE = "Two sisters inherit a lighthouse."  # of every exported README


def check_readmes(place, exported, overviews):
    """The code in exported READMEs gives the run's probabilities, and the genres that `predict` gives.

    Args:
        place: an empty folder.
        exported: runs, each with its exported folder; saved models come first.
        overviews: as many as `POSTERS`.
    """
    posters, overviews = [POSTERS[0], *POSTERS, *UNLIKE], [EXAMPLE, *overviews, *overviews[: len(UNLIKE)]]
    films, runs = {"poster": posters, "overview": overviews}, {run.folder: run for run, _ in exported}
    said = {folder: inference.predict(run, films) for folder, run in runs.items()}
    asked = []
    for _, folder in exported:
        count = len(posters) - (len(UNLIKE) if (folder / "saved_model.pb").exists() else 0)
        asked.append([str(folder), [poster.hex() for poster in posters[:count]], overviews[:count]])
    (place / "films.json").write_text(json.dumps(asked))
    # -I: without PYTHONPATH, and without the folder that we are in.
    words = [sys.executable, "-I", "-c", AS_THE_READMES_SAY, place / "films.json", place / "found.json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((place / "found.json").read_text())
    for run, folder in exported:
        several, alone, predicted, printed = found[str(folder)]
        expected, atol = said[run.folder][: len(several)], tolerance_of(run)
        np.testing.assert_allclose(several, expected, atol=atol, rtol=0, err_msg=folder.name)
        np.testing.assert_allclose(alone, expected, atol=atol, rtol=0, err_msg=folder.name)
        validation = run.predictions("validation")
        thresholds = tune_thresholds(validation.y_true, validation.y_prob)
        assert np.isnan(thresholds[0])
        limits = np.where(np.isnan(thresholds), 0.5, thresholds)
        sure = np.abs(expected - limits) > atol
        np.testing.assert_array_equal(np.array(predicted)[sure], (expected >= limits)[sure])
        assert ast.literal_eval(printed) == [genre for genre, yes in zip(run.genres, predicted[0]) if yes]


def test_the_code_in_exported_readmes_needs_no_mmfusion_and_says_what_the_run_says(runs, exports, tmp_path):
    forms = ("savedmodel", *NETWORKS)
    check_readmes(tmp_path, [(run, exports(name, form)) for form in forms for name, run in runs.items()], OVERVIEWS)


def test_the_exported_description_has_what_is_needed(runs, exports):
    run, folder = runs["joint"], exports("joint", "onnx")
    said = json.loads((folder / "export.json").read_text("utf-8"))
    assert said["genres"] == list(run.genres)
    assert said["thresholds"][0] is None
    assert (said["run"], said["variant"], said["seed"], said["format"]) == (
        "joint",
        "joint",
        run.config.seed,
        "onnx",
    )
    assert (said["poster"]["height"], said["poster"]["width"]) == (SIZE, SIZE)
    assert (said["overview"]["longest"], said["overview"]["padding"], said["overview"]["out_of_vocabulary"]) == (
        20,
        0,
        1,
    )
    assert said["inputs"]["poster"]["shape"] == [None, SIZE, SIZE, 3]
    assert said["inputs"]["overview"]["dtype"] == "int32"
    assert said["output"] == {"name": "probabilities", "shape": [None, len(run.genres)], "dtype": "float32"}
    assert said["trained_with"] == run.facts["versions"]
    assert (folder / "vocabulary.txt").read_text("utf-8").split("\n") == run.vocabulary
    assert {path.name for path in folder.iterdir()} >= {"model.onnx", "README.md"}


def test_predict_and_an_exported_readme_predict_the_same_genres(runs, exports, tmp_path, monkeypatch, capsys):
    (tmp_path / "poster.jpg").write_bytes(POSTERS[0])
    words = ["--poster", tmp_path / "poster.jpg", "--overview", OVERVIEWS[0], "--json"]
    assert command(predict.main, monkeypatch, runs["late"].folder, *words) == 0
    rows = {row["genre"]: row for row in json.loads(capsys.readouterr().out)["genres"]}
    said = json.loads((exports("late", "savedmodel") / "export.json").read_text("utf-8"))
    assert {genre: rows[genre]["threshold"] for genre in said["genres"]} == dict(
        zip(said["genres"], said["thresholds"])
    )


@functools.cache
def _raw(size=SIZE):
    raw = RawInputs(size, Preprocessing(["", "[UNK]", "film"]), 20)
    return tf.function(raw.poster, input_signature=[tf.TensorSpec([None], tf.string)])


@pytest.mark.parametrize("size", [16, 33])
def test_posters_have_the_pixels_that_pillow_gives_them(size):
    """Of every shape: Pillow begins with either side, and JPEGs are read at four scales."""
    posters = []
    rng = np.random.default_rng(size)
    for seed, (width, height) in enumerate(rng.integers(1, 12 * size, (120, 2))):
        form = ("JPEG", "JPEG", "JPEG", "PNG", "BMP", "GIF")[seed % 6]
        posters.append(encoded(picture(width, height, seed, "RGB" if seed % 4 else "L").convert("RGB"), form))
    posters += [encoded(picture(50, 40, mode=mode)) for mode in ("L", "P")]
    posters.append(encoded(Image.fromarray(rng.integers(0, 2**16, (40, 50), np.uint16))))
    posters.append(encoded(picture(90, 70), "JPEG", keep_rgb=True))
    posters.append(encoded(picture(50, 40).quantize(9), "GIF", interlace=True))
    posters.append(encoded(picture(50, 40), "GIF", save_all=True, append_images=[picture(50, 40, 1)]))
    posters.append(encoded(picture(90, 70), "JPEG") + b"more")
    found = np.rint(_raw(size)(tf.constant(posters)).numpy() * 255)
    for poster, pixels in zip(posters, found):
        np.testing.assert_array_equal(pixels, decode_poster(poster, size))


def _turned(order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = 6
    return exif


def _with_one_transparent():
    gif = picture(20, 30).quantize(8)
    return encoded(gif, "GIF", transparency=3)


REFUSED = {
    "big-endian": (encoded(RED_LEFT, "JPEG", exif=_turned(">")), "not upright"),
    "little-endian": (encoded(RED_LEFT, "JPEG", exif=_turned("<")), "not upright"),
    "turned PNG": (encoded(RED_LEFT, exif=_turned("<")), "not upright"),
    "CMYK": (encoded(picture(20, 30, mode="CMYK"), "JPEG"), "CMYK"),
    "alpha": (encoded(Image.new("RGBA", (20, 30), (9, 9, 9, 99))), "transparent"),
    "tRNS": (encoded(picture(20, 30).quantize(8), transparency=3), "transparent"),
    "one bit": (encoded(picture(20, 30, mode="1")), "one bit"),
    "GIF": (_with_one_transparent(), "transparent"),
    "BMP with a palette": (encoded(picture(20, 30).quantize(8), "BMP"), "24 bits"),
    "WebP": (encoded(RED_LEFT, "WEBP"), "not a JPEG"),
    "no picture": (b"<html>", "not a JPEG"),
    "cut short": (POSTERS[0][:-100], "JPEG"),
    "a header": (POSTERS[0][:10], "JPEG"),
    "a PNG's header": (encoded(RED_LEFT)[:20], "PNG"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_poster_that_the_graph_cannot_read_rightly_is_refused(what):
    poster, reason = REFUSED[what]
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        _raw()(tf.constant([POSTERS[0], poster]))


def test_an_upright_poster_may_say_so():
    exif = Image.Exif()
    exif[0x0112] = 1
    poster = encoded(RED_LEFT, "JPEG", exif=exif)
    found = np.rint(_raw()(tf.constant([poster])).numpy()[0] * 255)
    np.testing.assert_array_equal(found, decode_poster(poster, SIZE))


@pytest.mark.parametrize("vocabulary", [["", "[UNK]", "film", "a", "ünïcode", "films", "映画"], ["", "[UNK]"]])
def test_texts_become_the_tokens_that_training_gave_them(vocabulary):
    overviews = [*OVERVIEWS, *(f"a{chr(code)}film" for code in [*range(1, 256), 0x85, 0x2028, 0x3000])]
    tokens = tf.function(RawInputs(SIZE, Preprocessing(vocabulary), 20).tokens)
    expected = encode_overviews(overviews, vocabulary, 20)
    found = tokens(tf.constant(overviews)).numpy()
    assert found.dtype == np.int32
    np.testing.assert_array_equal(np.pad(found, ((0, 0), (0, 20 - found.shape[1]))), expected)
    for i, overview in enumerate(overviews):
        alone = tokens(tf.constant([overview])).numpy()[0]
        assert len(alone) == max(1, np.count_nonzero(expected[i]))
        np.testing.assert_array_equal(alone, expected[i, : len(alone)])


@pytest.mark.parametrize("return_sequences", [True, False])
def test_the_portable_recurrence_is_the_one_that_was_trained(return_sequences):
    from keras import layers

    layer = BidirectionalLSTM(layers.LSTM(5, recurrent_dropout=0.3, return_sequences=return_sequences))
    rng = np.random.default_rng(0)
    sequences = rng.normal(size=(4, 9, 3)).astype(np.float32)
    mask = np.arange(9) < np.array([[9], [4], [0], [1]])
    expected = layer(sequences, mask=mask)
    with portable():
        found = layer(sequences, mask=mask)
    np.testing.assert_allclose(found, expected, atol=1e-6)


class TestTheCommand:
    def test_writes_a_folder_and_leaves_the_run_alone(self, runs, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        before = {path: path.read_bytes() for path in runs["poster"].folder.rglob("*") if path.is_file()}
        assert command(export.main, monkeypatch, runs["poster"].folder, "--format", "savedmodel") == 0
        assert "exports/poster-savedmodel" in capsys.readouterr().out
        assert {path.name for path in (tmp_path / "exports").iterdir()} == {"poster-savedmodel"}
        assert {path: path.read_bytes() for path in runs["poster"].folder.rglob("*") if path.is_file()} == before

        assert command(export.main, monkeypatch, runs["poster"].folder, "--format", "savedmodel") == 2
        assert "exists already; name another with --out" in capsys.readouterr().err

    @pytest.mark.parametrize("form", NETWORKS)
    def test_names_what_has_to_be_installed(self, runs, tmp_path, monkeypatch, capsys, form):
        monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
        assert (
            command(export.main, monkeypatch, runs["poster"].folder, "--format", form, "--out", tmp_path / "x") == 2
        )
        error = capsys.readouterr().err
        assert all(name in error for name in export.FORMATS[form])
        assert '".[export]"' in error
        assert not (tmp_path / "x").exists()


def test_a_baseline_has_no_network_to_export(tmp_path, cache, monkeypatch, capsys):
    run = train_baseline(tiny_config("tfidf"), tmp_path / "tfidf", cache, {})
    run.report_file.write_text("{}")
    monkeypatch.setattr(export, "import_tensorflow", lambda: pytest.fail("TensorFlow is not needed to say so"))
    assert command(export.main, monkeypatch, run.folder, "--format", "onnx") == 2
    said = capsys.readouterr().err
    assert "is a run of tfidf, a baseline without a network" in said
    assert "name a run of poster, overview, table, cnn, bilstm, early, early_features, joint, late" in said
    assert len(said.splitlines()) == 1


def test_what_says_something_else_than_its_run_is_not_kept(runs, tmp_path, monkeypatch):
    other = savedmodel.read

    def wrong(run, folder):
        return lambda *films: other(run, folder)(*films) + 2e-4

    monkeypatch.setattr(savedmodel, "read", wrong)
    with pytest.raises(UserError, match=r"differ from the run's by 0\.0002"):
        export_run(runs["poster"], "savedmodel", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_kept_by_a_saved_model_only(tmp_path, cache):
    run = make_run(tmp_path / "run", cache, "overview", training__precision="mixed_bfloat16")
    assert export_run(run, "savedmodel", tmp_path / "out") < 1e-4
    with pytest.raises(UserError, match="only --format savedmodel can keep"):
        export_run(run, "onnx", tmp_path / "onnx")


PRESETS = {
    "frozen": {},
    "frozen, sequences": {"joint__operator": "cross_attention"},
    "fine-tuned": {"fine_tuning__fine_tune": True},
}


PRESET_OVERVIEWS = [
    "A film about WAR, and lóve!",
    "",
    " \u3000\x85\n",
    "\ufeff thing",
    *OVERVIEWS[:2],
    "of war " * 20,
    "the",
]


@pytest.fixture(scope="module")
def with_presets(tmp_path_factory):
    """By name runs of joint fusion with a preset for either modality."""
    folder, cache = tmp_path_factory.mktemp("presets"), tmp_path_factory.getbasetemp() / "cache"
    pictures, texts = write_image_preset(folder / "pictures"), write_text_preset(folder / "texts")
    return {
        name: make_run(
            folder / name,
            cache,
            "joint",
            poster_encoder__name=pictures,
            poster_encoder__preset__image_size=[32, 24],
            poster_encoder__preset__dense_units=[8],
            overview_encoder__name=texts,
            overview_encoder__preset__layers=2,
            overview_encoder__preset__dense_units=[8],
            **settings,
        )
        for name, settings in PRESETS.items()
    }


def test_exports_with_presets_say_what_the_run_says(with_presets, tmp_path):
    exported = []
    for form in ("savedmodel", *NETWORKS):
        for name, run in with_presets.items():
            folder = tmp_path / f"{name}-{form}"
            assert export_run(run, form, folder) < tolerance_of(run), folder.name
            exported.append((run, folder))
            if form in NETWORKS:  # its tokens are the preset's own
                assert not (folder / "vocabulary.txt").exists()
    check_readmes(tmp_path, exported, PRESET_OVERVIEWS)
