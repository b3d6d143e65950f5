"""Films made for the tests: nothing is downloaded, and nothing outside the test's folder is written."""

import csv
import gc
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from filelock import FileLock
from PIL import Image

from mmfusion.startup import import_tensorflow

# Two processes of tests share two cores, and what they train is too small for threads.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
import_tensorflow()
os.environ["MPLBACKEND"] = "Agg"  # as every command: there may be a screen

import sketches  # noqa: E402

from benchmarks import probe  # noqa: E402
from mmfusion import inference  # noqa: E402
from mmfusion.config import VARIANTS, Config, resolve  # noqa: E402
from mmfusion.data.mmimdb.mmimdb_dataset_builder import ARCHIVE  # noqa: E402
from mmfusion.errors import run_command  # noqa: E402
from mmfusion.reports import report  # noqa: E402
from mmfusion.runs import Run  # noqa: E402
from mmfusion.training import experiment  # noqa: E402

# A training waits some seventy times until a disk has written what is in memory, most of a second in all. That is
# for a machine that loses its power, which no test is about.
os.fsync = lambda file: None

# What is imported stays: half a million objects that need not be looked through for garbage again and again. Nor
# need what a tracing makes, hundreds of thousands that are needed for as long as it lasts.
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 100)

# Of what a finished network is asked, more than one of each is enough; each question is a data set to trace.
probe.EXCHANGES, probe.PAIRED = 2, 9  # of films eight are asked together

# The files of tests that take longest, in this order: begun last, one of them would be left to one process alone.
LONGEST = (
    "test_documents test_export test_cluster test_faults test_runs test_benchmark test_disks test_presets "
    "test_search test_synthetic_truth test_tutorial test_table test_own_variant test_models"
).split()
PARTS = resolve("late").parts
# Of posters and overviews, without presets; `test_table.py` has the rest.
FROM_FILMS = tuple(name for name, one in VARIANTS.items() if name != "table" and not one.joins_features)

_READERS = {
    "poster_size": ("poster_encoder.cnn", "poster_encoder.resnet", "early"),
    "augment": ("poster_encoder.cnn", "poster_encoder.resnet", "poster_encoder.preset", "early"),
    "vocabulary_size": ("overview_encoder.bilstm", "overview_encoder.bag", "early"),
    "max_tokens": ("overview_encoder.bilstm", "overview_encoder.bag", "overview_encoder.preset", "early"),
}


def for_all(**settings) -> dict[str, object]:
    """Settings of whatever reads posters or overviews, by dotted key with `__` for the dot."""
    found = {f"{section}.{name}": value for name, value in settings.items() for section in _READERS[name]}
    return {key.replace(".", "__"): value for key, value in found.items()}


# Every dimension as small as it can be while every layer still has work: most of a tiny training is tracing.
TINY = {
    "data.films": 60,
    "data.batch_size": 16,
    "poster_encoder.cnn.filters": [4, 4],
    "poster_encoder.cnn.dense_units": [8],
    "poster_encoder.resnet.filters": [4],
    "poster_encoder.resnet.dense_units": [8],
    "overview_encoder.bilstm.embedding_dim": 6,
    "overview_encoder.bilstm.lstm_units": [5],
    "overview_encoder.bilstm.dense_units": [8],
    "overview_encoder.bag.embedding_dim": 6,
    "overview_encoder.bag.pairs": 50,
    "overview_encoder.bag.ngrams": 50,
    "table_encoder.mlp.embedding_dim": 4,
    "table_encoder.mlp.dense_units": [8],
    "early.patch_size": 8,
    "early.width": 8,
    "early.heads": 2,
    "early.blocks": 1,
    "joint.units": 8,
    "training.epochs": 3,
} | {key.replace("__", "."): value for key, value in for_all(poster_size=16, max_tokens=20).items()}


def tiny_config(variant: str, **overrides) -> Config:
    """A configuration that trains in seconds; overrides by dotted key with `__` for the dot."""
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return resolve(variant, overrides={**TINY, **named})


def folder_of(variant: str) -> str:
    """Where a sweep has its runs, with the default's encoders."""
    return resolve(variant).folder_name


def row_of(variant: str) -> str:
    """What a sweep's report calls it, with the default's encoders."""
    return resolve(variant).label


def part_configs(**overrides) -> dict[str, Config]:
    """How late fusion's two models are trained."""
    return {variant: tiny_config(variant, **overrides) for variant in PARTS}


def run_variant(variant, folder, cache, **overrides) -> Run:
    """A finished run of `tiny_config`, with its report."""
    parts = part_configs(**overrides) if variant == "late" else None
    run = experiment.train(tiny_config(variant, **overrides), folder, cache, part_configs=parts)
    report.write_report(run)
    return run


def pytest_collection_modifyitems(items):
    """Puts the longest files first; each file's tests stay together and in their order."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Gives a finished run of `tiny_config`, trained once for every file of tests; not to be changed.

    Runs of the same overrides lie in one folder, each with the name of its variant.
    """
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"

    def run_of(variant: str, **overrides) -> Run:
        folder = place / ("-".join(f"{key}={value}" for key, value in overrides.items()) or "plain")
        folder.mkdir(parents=True, exist_ok=True)
        run = Run(folder / variant)
        with FileLock(place / f"{folder.name}-{variant}.lock"):  # the other process of tests may need it too
            return run if run.finished else run_variant(variant, run.folder, base / "cache", **overrides)

    return run_of


@pytest.fixture(scope="module")
def asked_once():
    """Measures every export of a run against the same answer of it: to load its model takes a second or more."""
    real, answers = inference.predict, {}

    def predict(run, films):
        key = (run.folder, run.model_file.read_bytes(), repr(films))
        if key not in answers:
            answers[key] = real(run, films)
        return answers[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "predict", predict)
        yield


def command(main, monkeypatch, *args) -> int:
    """Runs a command's `main` with these arguments, and gives its exit code."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
    return run_command(main)


@pytest.fixture(scope="module", autouse=True)
def _pictures(request):
    """Draws pictures for files with the mark `pictures`, and dots for others."""
    sketches.sketch(not list(request.node.iter_markers("pictures")))
    yield
    sketches.sketch()


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory, monkeypatch):
    """A cache of the tests' own."""
    monkeypatch.setenv("MMFUSION_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def cache(tmp_path_factory) -> Path:
    """The cache that all tests share."""
    return tmp_path_factory.getbasetemp() / "cache"


def write_folder(folder: Path, films: int = 40, genres=("Comedy", "N/A", "War"), seed: int = 0) -> Path:
    """A data folder as `multimodal_imdb` reads it; nobody has the genre "N/A"."""
    rng = np.random.default_rng(seed)
    (folder / "Images").mkdir(parents=True)
    rows = []
    for number in range(films):
        film = f"tt{number:04d}"
        picture = Image.fromarray(rng.integers(0, 255, (30, 20, 3), np.uint8))
        picture.save(folder / "Images" / f"{film}.jpg")
        row = {"Id": film, "Genre": "[]", "Overview": f"A film about thing{number} and war{number % 3}"}
        rows.append({**row, **{genre: int(genre != "N/A" and rng.random() < 0.5) for genre in genres}})
    with (folder / "IMDB_overview_genres.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["Id", "Genre", *genres, "Overview"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A data folder with 40 films."""
    return write_folder(tmp_path / "films")


@pytest.fixture
def opened():
    """Paths that are opened while the test runs; the hook stays behind, silent."""
    paths, listening = [], True

    def hear(event, args):
        if listening and event in ("open", "os.listdir", "os.scandir"):
            paths.append(os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else "")

    sys.addaudithook(hear)
    yield paths
    listening = False


@pytest.fixture
def mm_folder(tmp_path) -> Path:
    """A folder as `mmimdb` reads it, of 30 films; every film has the same split."""
    folder = tmp_path / "mmimdb"
    (folder / "dataset").mkdir(parents=True)
    films = [f"{number:07d}" for number in range(30)]
    (folder / "split.json").write_text(json.dumps({"train": films, "dev": [], "test": []}))
    for number, film in enumerate(films):
        (folder / "dataset" / f"{film}.json").write_text(
            json.dumps({"plot": [f"Film {number}"], "genres": ["War"]})
        )
        Image.new("RGB", (20, 30), (number, 9, 9)).save(folder / "dataset" / f"{film}.jpeg")
    return folder


def pack(folder: Path) -> Path:
    """The same films as an archive, in a folder of its own."""
    packed = folder.parent / "packed"
    packed.mkdir()
    with tarfile.open(packed / ARCHIVE, "w:gz") as archive:
        archive.add(folder, "mmimdb")
    return packed


def write_tiny(file: Path) -> Path:
    """Writes `tiny_config` as a config file."""
    tables: dict = {}
    for key, value in TINY.items():
        *path, name = key.split(".")
        table = tables
        for part in path:
            table = table.setdefault(part, {})
        table[name] = value
    file.write_text(tomli_w.dumps(tables))
    return file


@pytest.fixture
def tiny_toml(tmp_path) -> Path:
    """`tiny_config` as a config file."""
    return write_tiny(tmp_path / "tiny.toml")


@pytest.fixture
def mounted():
    """Mounts a file system, as `mount` takes its arguments; it is gone after the test."""
    places = []

    def mount(place: Path, *args):
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *map(str, args), str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
        if not any("remount" in str(arg) for arg in args):
            places.append(place)
        return place

    yield mount
    for place in reversed(places):
        subprocess.run(["umount", "--lazy", str(place)], check=True)
