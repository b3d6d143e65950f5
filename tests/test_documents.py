"""Every command that a document shows runs: as it stands there, on a few made films, from top to bottom."""

import csv
import dataclasses
import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, command, write_folder
from documents import REPOSITORY, Shown, documents, flags, shown
from test_benchmark import settings
from tiny_presets import write_image_preset, write_text_preset

from benchmarks import options
from mmfusion.config import flags as flags_of_commands
from mmfusion.config import resolve

# What stands for the reader's own, after a flag or anywhere. `{place}` is where the tests keep their films.
PLACEHOLDERS = {
    "DIR": "{place}/films",
    "--poster FILE": "{place}/films/Images/tt0101921.jpg",
    "--table FILE": "{place}/more.csv",
    "--films FILE": "{place}/tmdb/movies.csv",
    "--split-file FILE": "{place}/split.json",
    "--config FILE": "{document}",  # a config file says how to train with it
    "--poster-encoder FOLDER": "{place}/pictures",
    "--overview-encoder FOLDER": "{place}/texts",
    "RESULTS_DIR": "results",
    "OUT": "out",
    "V": "poster",
}
# What a recipe is here; most of the time is tracing.
SMALL = TINY | {
    "poster_encoder.cnn.filters": [4],
    "poster_encoder.resnet.filters": [4],
    "poster_encoder.preset.image_size": [32, 32],
    "overview_encoder.preset.layers": 1,
}
# What makes a command small, added behind its own flags, for commands with all of these words.
NAMED = ["--poster-encoder", "preset:FOLDER", "--overview-encoder", "preset:FOLDER"]


def for_processes(variant: str) -> list[str]:
    """Flags that make a variant small in processes of their own."""
    return [*(flag for flag in settings(variants=[variant]) if "epochs" not in flag), "--epochs", "1"]


ADDED = {
    "mmfusion.train data.films=1000000": ["--set", "data.films=60", "--variant", "poster"],
    "mmfusion.train --recipe pretrained": [*NAMED, "--out", "runs/pretrained"],  # there is no network
    "mmfusion.train --recipe pretrained --poster-encoder": ["--out", "runs/presets"],
    "benchmarks.run": ["--seeds", "1", "--variants", "tfidf", "overview"],
    "benchmarks.run results/three --modalities": ["--variants", "overview", "early"],
    "benchmarks.run results/real": ["--variants", "tfidf", "poster", "overview", "late"],  # what others read
    "benchmarks.run results/start": ["--variants", "bilstm"],
    "benchmarks.run results/tuned": ["--variants", "bilstm"],
    "benchmarks.run --recipe pretrained": ["--variants", "features", "early_features"],
    "tuning.search": ["--max-trials", "1", "--budget-minutes", "0.01"],  # the first trial alone
    "tuning.search poster_encoder.cnn.poster_size=32": ["--variant", "cnn"],
    "tuning.search --on": [
        *for_processes("overview"),
        *"--variant overview --tuner random --max-trials 2 --budget-minutes 99".split(),
    ],
    "benchmarks.run --on": [*for_processes("overview"), "--variants", "overview"],
    "benchmarks.throughput": ["--repeats", "1", "--variants", "early"],
    "benchmarks.throughput --film-count": ["--film-count", "60", "--variants", "overview"],
    "benchmarks.options": ["--repeats", "1"],
}
# Commands of which no document has to say why they are not run, by their first word.
NOT_RUN = {
    "python3.11": "makes the environment that these tests run in",
    ".": "the same",
    "pip": "the same",
    "pytest": "these are its tests",
    "pip-audit": "needs a network",
}
COMMANDS = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for folder in ("mmfusion", "benchmarks", "tuning")
    for path in (REPOSITORY / folder).glob("*.py")
    if "run_command(main)" in path.read_text("utf-8")
)


def text_of(document: str) -> str:
    return (REPOSITORY / document).read_text("utf-8")


def filled(one: Shown, words: list[str], place: Path) -> list[str]:
    """The words with something of the tests' own for each placeholder."""

    def fill(match: re.Match) -> str:
        name = match[0]
        for key in (f"{flag} {name}", name):
            if key in PLACEHOLDERS:
                return PLACEHOLDERS[key].format(place=place, document=REPOSITORY / one.document)
        pytest.fail(f"{one}: the placeholder {name} is not in PLACEHOLDERS")

    done, flag = [], ""
    for word in words:
        known = " " in word or word.startswith("--set=")  # a sentence, or a setting of ours
        done.append(word if known else re.sub(r"(?<![\w.-])[A-Z][A-Z_]*(?![\w.-])", fill, word))
        flag = word
    return done


def small(one: Shown, place: Path) -> tuple[str, list[str]]:
    """A command's module, and its flags with those that make it small."""
    if one.words[:2] != ("python", "-m"):
        pytest.fail(f"{one}: is no `python -m`; `<!-- not run: REASON -->` before its block says why it is not run")
    module, given = one.words[2], list(one.words[3:])
    more = [flag for key, added in ADDED.items() if {*key.split()} <= {*one.words} for flag in added]
    return module, filled(one, given + more, place)


def everything() -> dict[str, list[Shown]]:
    """By document what is to be run, each command once."""
    seen, found = set(), {}
    for document in documents():
        for one in shown(document, text_of(document)):
            key = one.words or one.code
            if not one.not_run and (one.code or one.words[0] not in NOT_RUN) and key not in seen:
                seen.add(key)
                found.setdefault(document, []).append(one)
    return found


EVERYTHING = everything()


def write_tmdb(folder: Path, films: Path) -> None:
    """The same films as TMDB's tables have them, their posters below the table."""
    shutil.copytree(films / "Images", folder / "posters")
    with (films / "IMDB_overview_genres.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "imdb_id", "title", "overview", "genres", "poster_path", "director"])
        for number, row in enumerate(rows):
            genres = json.dumps([{"id": 7, "name": name} for name in ("Comedy", "War") if row[name] == "1"])
            path = f"/{row['Id']}.jpg"
            writer.writerow(
                [number, row["Id"], "A title", row["Overview"], genres, path, f"Director {number // 3}"]
            )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Films and presets."""
    place = tmp_path_factory.mktemp("place")
    films = write_folder(place / "films", films=60)
    rows = [f"tt{number:04d},{1950 + number},{'English' if number % 2 else 'French'},Title" for number in range(50)]
    (place / "more.csv").write_text("\n".join(["Id,Year,Language,Title", *rows]))
    split = {"train": range(2, 40), "test": range(40, 60)}
    named = {name: [f"tt{number:04d}" for number in numbers] for name, numbers in split.items()}
    (place / "split.json").write_text(json.dumps(named))
    table = films / "IMDB_overview_genres.csv"
    for number, name in ((0, "tt0101921"), (1, "tt0116493")):  # the README asks for these two
        (films / "Images" / f"tt{number:04d}.jpg").rename(films / "Images" / f"{name}.jpg")
        table.write_text(table.read_text().replace(f"tt{number:04d},", f"{name},"))
    write_tmdb(place / "tmdb", films)
    write_image_preset(place / "pictures")
    write_text_preset(place / "texts")
    return place


@pytest.fixture
def reader(request, place, monkeypatch) -> Path:
    """The folder in which somebody follows a document: with the files that documents name, and no code."""
    folder = place / request.param.replace("/", "-")
    folder.mkdir()
    shutil.copytree(REPOSITORY / "tuning", folder / "tuning", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(REPOSITORY / "README.md", folder)
    shutil.copy(place / "films" / "Images" / "tt0101921.jpg", folder / "poster.jpg")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return folder


def resolve_small(variant, *, recipe="default", file=None, overrides=None):
    """A recipe with small layers under what the command itself says, for one epoch."""
    return resolve(
        variant, recipe=recipe, file=file, overrides={**SMALL, **(overrides or {}), "training.epochs": 1}
    )


@pytest.mark.parametrize(("document", "reader"), [(name, name) for name in EVERYTHING], indirect=["reader"])
def test_what_a_document_shows_runs(document, reader, place, monkeypatch, capfd):
    # `benchmarks.options` has no flag for less: one of its options, for one of its two models.
    few = [option for option in options.OPTIONS if "steps_per_execution" in option.model]
    monkeypatch.setattr(options, "OPTIONS", few)
    monkeypatch.setattr(options, "VARIANTS", ["poster"])
    monkeypatch.setattr(flags_of_commands, "resolve", resolve_small)
    for one in EVERYTHING[document]:
        if one.code:
            exec(compile(one.code, str(one), "exec"), {"__name__": "shown"})
            continue
        module, args = small(one, place)
        if "--on" in args:  # `test_cluster.py` runs it, on the clusters that it has
            continue
        code = command(importlib.import_module(module).main, monkeypatch, *args)
        said, errors = capfd.readouterr()
        assert code == 0, f"{one}\n{errors}"
        assert "failed: " not in said, f"{one}\n{said}"  # as an option or a trial does


@pytest.mark.parametrize("document", documents())
def test_no_command_of_a_document_is_overlooked(document):
    text = text_of(document)
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"[#\s]*python -m \S+ \S", line):
            assert number in {one.line for one in shown(document, text)}, f"{document}:{number}: {line}"


@pytest.mark.parametrize("module", COMMANDS)
def test_every_command_says_what_it_does_and_a_document_shows_it(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert any(module in one.words for shown_there in EVERYTHING.values() for one in shown_there)


def test_every_flag_of_a_document_is_one_of_its_command():
    known = {module: set(importlib.import_module(module).parser()._option_string_actions) for module in COMMANDS}
    for document in documents():
        text = text_of(document)
        for module, flag in flags(text):
            assert flag in known[module], f"{document}: {module} has no {flag}"
        for flag in re.findall(r"`(--[a-z-]+)", text):  # in a sentence, of any command
            assert flag in set().union(*known.values()), f"{document}: no command has {flag}"


class TestReading:
    """What the tests above rely on."""

    def test_takes_commands_out_of_blocks_and_sentences(self):
        text = (
            "Say\n\n    cd x && python -m a.b --c D \\\n        --e 'f g'  # each\n\nor\n\n    box ──> box\n\n"
            "and `python -m a.c --d E`, not `python -m a.d` or `python -m a.e F ...`.\n\n"
            "<!-- not run: takes two machines -->\n\n    export A=1\n    A=2 python -m a.b\n\n"
            "```python\nimport os\n```\n"
        )
        found = shown("x.md", text)
        assert [(one.line, one.words, one.code, one.not_run) for one in found] == [
            (3, ("cd", "x"), "", ""),
            (3, ("python", "-m", "a.b", "--c", "D", "--e", "f g"), "", ""),
            (10, ("python", "-m", "a.c", "--d", "E"), "", ""),
            (14, ("export", "A=1"), "", "takes two machines"),
            (15, ("A=2", "python", "-m", "a.b"), "", "takes two machines"),
            (18, (), "import os", ""),
        ]
        assert flags(text) == [("a.b", "--c"), ("a.b", "--e"), ("a.c", "--d")]

    def test_takes_commands_out_of_a_config_files_comments(self):
        found = shown("x.toml", "# The best.\n#\n#   python -m a.b --config FILE\n\n[a]\nb = 1\n")
        assert [(one.line, one.words) for one in found] == [(3, ("python", "-m", "a.b", "--config", "FILE"))]

    def test_refuses_what_it_cannot_fill_in_or_run(self, tmp_path):
        one = Shown("x.md", 3, ("python", "-m", "mmfusion.predict", "RUNS", "--overview", "A HOUSE burns"))
        with pytest.raises(pytest.fail.Exception, match=r"x\.md:3: .*the placeholder RUNS is not in PLACEHOLDERS"):
            small(one, tmp_path)
        with pytest.raises(pytest.fail.Exception, match="make all: is no `python -m`"):
            small(dataclasses.replace(one, words=("make", "all")), tmp_path)

    def test_adds_to_a_command_only_behind_its_own_flags(self, tmp_path):
        words = (
            "python",
            "-m",
            "benchmarks.throughput",
            "--film-count",
            "5000",
            "--variants",
            "joint",
            "--out",
            "OUT",
        )
        module, args = small(Shown("x.md", 3, words), tmp_path)
        assert (module, args[:6]) == ("benchmarks.throughput", [*words[3:8], "out"])
        assert args[6:] == ["--repeats", "1", "--variants", "early", "--film-count", "60", "--variants", "overview"]
