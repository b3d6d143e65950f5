"""A run folder from a stranger: what is not as a run writes it is refused, and nothing in it is obeyed.

Whoever changes a file can write a new `manifest.json` as well, so most faults here are sealed again: what
refuses them is their form, not their hash.
"""

import io
import json
import os
import shutil
import struct
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import command, run_variant
from PIL import Image

from mmfusion import evaluate, inference, predict
from mmfusion.errors import UserError
from mmfusion.evaluation import scoring
from mmfusion.models.overview_encoders import BagEncoder
from mmfusion.models.weights import check_weights
from mmfusion.runs.folder import SEALED, Run

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of joint fusion."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    return run_variant("joint", tmp_path_factory.mktemp("finished") / "run", cache, training__epochs=1)


@pytest.fixture
def run(finished, tmp_path) -> Run:
    """A copy of it that a test may spoil."""
    return Run(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def read_by_keras(monkeypatch) -> list:
    """The files that Keras was given to read."""
    given, real = [], keras.Model.load_weights
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path, **k: (given.append(path), real(self, path)))
    monkeypatch.setattr(keras.saving, "load_model", lambda path, **k: given.append(path))
    return given


def members(run: Run) -> dict[str, bytes]:
    with zipfile.ZipFile(run.model_file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(run: Run, content: dict[str, bytes], method=zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(run.model_file, "w", method) as archive:
        for name, value in content.items():
            archive.writestr(name, value)


def change_weights(run: Run, change) -> None:
    """Rebuilds the archive, checksums included, after `change(the HDF5 file)`."""
    content, path = members(run), run.folder.parent / "weights.h5"
    path.write_bytes(content[WEIGHTS])
    with h5py.File(path, "r+") as file:
        change(file)
    rewrite(run, {**content, WEIGHTS: path.read_bytes()})


def film(run: Run) -> list:
    """Flags that name a film to predict."""
    return ["--poster", next(run.films_folder.glob("*.jpg")), "--overview", "A detective"]


def refused(run: Run, said: str, read=inference.load_model) -> None:
    with pytest.raises(UserError) as error:
        read(run)
    assert said in str(error.value)
    assert str(run.folder) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def check(finished):
    """Looks at a run's weights as `load_model` does before anything else, for a model that is made once."""
    model = inference.load_model(finished)
    return lambda run: check_weights(model, run.model_file)


class TestHash:
    @pytest.mark.parametrize("name", [name for name in SEALED if name not in ("skipped.csv", "table.json")])
    def test_one_flipped_bit_in_any_file_is_noticed(self, run, name):
        content = bytearray((run.folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (run.folder / name).write_bytes(content)
        read = {
            "config.json": lambda: run.config,
            "split.json": lambda: run.split,
            "hashes.npz": lambda: run.hashes,
            "genres.json": lambda: run.genres,
            "vocabulary.txt": lambda: run.vocabulary,
            "history.csv": lambda: run.history,
            "model.keras": lambda: inference.load_model(run),
            "predictions.npz": lambda: run.predictions("test"),
        }[name]
        with pytest.raises(UserError, match=rf"{name} is not the file that this run wrote: its SHA-256 is .*"):
            read()

    def test_a_flipped_bit_in_the_weights_of_a_rebuilt_archive_is_noticed(self, run, read_by_keras):
        def flip(file):
            bits = file["head/vars/0"][:].view(np.uint32)
            bits[0, 0] ^= 1 << 20
            file["head/vars/0"][:] = bits.view(np.float32)

        change_weights(run, flip)
        refused(run, "is not the file that this run wrote")
        assert read_by_keras == []

    def test_a_model_of_another_run_is_noticed(self, run, trained, read_by_keras):
        shutil.copy(trained("joint").model_file, run.model_file)  # trained for longer
        read_by_keras.clear()
        refused(run, "is not the file that this run wrote")
        assert read_by_keras == []

    def test_a_finished_run_without_its_manifest_is_refused(self, run):
        run.manifest_file.unlink()
        refused(run, "has a report but no manifest.json")


class TestModelFile:
    def test_as_it_was_written_it_is_read(self, run, read_by_keras):
        run.seal()
        inference.load_model(run)
        assert read_by_keras == [run.model_file]

    @pytest.mark.parametrize("form", ["lambda", "get_file", "module", "vocabulary"])
    def test_what_its_own_config_names_is_not_run_or_read(self, run, tmp_path, monkeypatch, form):
        """The weights are as they should be and the file is sealed again: the configuration is not looked at."""
        reached = tmp_path / "reached"
        monkeypatch.setattr(keras.utils, "get_file", lambda *a, **k: reached.write_text(""))
        bad = {
            "lambda": keras.saving.serialize_keras_object(
                keras.layers.Lambda(lambda x, place=str(reached): (open(place, "w"), x)[1])  # noqa: PTH123, SIM115
            ),
            "get_file": {"module": "keras.utils", "class_name": "get_file", "config": {"origin": reached.as_uri()}},
            "module": {
                "module": "os",
                "class_name": "system",
                "config": f"touch {reached}",
                "registered_name": None,
            },
            "vocabulary": {
                "module": "keras.layers",
                "class_name": "TextVectorization",
                "config": {"vocabulary": "/etc/passwd"},
            },
        }[form]
        rewrite(run, {**members(run), "config.json": json.dumps(bad).encode()})
        refused(run, "is not the file that this run wrote")
        run.seal()
        inference.load_model(run)
        assert not reached.exists()

    def test_damaged_files_are_refused(self, run, check, read_by_keras):
        whole = run.model_file.read_bytes()
        bit = bytearray(whole)
        bit[len(bit) // 2] ^= 1
        for damaged, said in (
            (b"", "cannot be read"),
            (b"<html>not found</html>", "cannot be read"),
            (whole[: len(whole) // 2], "cannot be read"),
            (whole[:-30], "cannot be read"),
            (bytes(bit), "model.weights.h5 is damaged: its checksum is another"),
        ):
            run.model_file.write_bytes(damaged)
            run.seal()
            refused(run, said, check)
        refused(run, said)
        assert read_by_keras == []

    def test_archives_with_other_members_or_that_expand_are_refused(self, run, check, read_by_keras):
        good = members(run)
        for content, method, said in (
            ({**good, "assets/vocabulary.txt": b"a"}, zipfile.ZIP_STORED, "and nothing else"),
            ({**good, "../../outside": b"a"}, zipfile.ZIP_STORED, "and nothing else"),
            ({WEIGHTS: good[WEIGHTS]}, zipfile.ZIP_STORED, "and nothing else"),
            ({**good, "metadata.json": bytes(50_000_000)}, zipfile.ZIP_DEFLATED, "unpacks to more than it is"),
        ):
            rewrite(run, content, method)
            run.seal()
            refused(run, said, check)
        refused(run, said)
        assert read_by_keras == []

    def test_weights_that_lead_elsewhere_or_expand_are_refused(self, run, tmp_path, check, read_by_keras):
        outside = tmp_path / "outside.h5"
        with h5py.File(outside, "w") as file:
            file["secret"] = np.ones((8, 10), np.float32)
        (tmp_path / "raw").write_bytes(bytes(1000))
        place = "head/vars/0"

        def external_link(file):
            del file[place]
            file[place] = h5py.ExternalLink(str(outside), "secret")

        def soft_link(file):
            del file[place]
            file[place] = h5py.SoftLink("/head/vars/1")

        def external_storage(file):
            shape = file[place].shape
            del file[place]
            file.create_dataset(place, shape, "f4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])

        def virtual(file):
            shape = file[place].shape
            del file[place]
            layout = h5py.VirtualLayout(shape, "f4")
            layout[:] = h5py.VirtualSource(str(outside), "secret", shape=shape)
            file.create_virtual_dataset(place, layout)

        def compressed(file):
            del file[place]
            file.create_dataset(place, (1 << 14, 1 << 14), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")

        def never_written(file):
            del file[place]
            file.create_dataset(place, (1 << 20, 1 << 20), "f4")

        def text(file):
            del file[place]
            file[place] = "text"

        def attribute(file):  # Keras would read it, and one text can be there thousands of times
            file[place].attrs["dtype"] = "float32"

        def of_another_kind(kind):
            def change(file):
                shape = file[place].shape
                del file[place]
                file[place] = np.zeros(shape, kind)

            return change

        def countless(file):
            for number in range(10_001):
                file.create_group(f"more/{number}")

        def circle(file):
            file["head/head"] = file["/"]

        for change, said in (
            (external_link, "is a link"),
            (soft_link, "is a link"),
            (external_storage, "not a plain array"),
            (virtual, "not a plain array"),
            (compressed, "not a plain array"),
            (never_written, "not a plain array"),
            (text, "not a plain array"),
            (attribute, "not a plain array"),
            *((of_another_kind(kind), "not a plain array") for kind in (bool, np.complex64, np.float64, "S4")),
            (countless, "more than 10,000 groups and arrays"),
            (circle, "is there twice"),
        ):
            shutil.copy(run.model_file, tmp_path / "whole.keras")
            change_weights(run, change)
            run.seal()
            refused(run, said, check)
            if change in (external_link, circle):
                refused(run, said)
            shutil.copy(tmp_path / "whole.keras", run.model_file)
        assert read_by_keras == []

    def test_weights_that_lie_in_the_same_place_are_refused(self, run, read_by_keras):
        places = []

        def add(file):
            for name in "ab":
                file[f"more/{name}"] = np.ones(100, np.float32)
                places.append(struct.pack("<Q", file[f"more/{name}"].id.get_offset()))

        change_weights(run, add)
        content = members(run)
        rewrite(run, {**content, WEIGHTS: content[WEIGHTS].replace(places[1], places[0])})
        run.seal()
        refused(run, "its arrays overlap")
        assert read_by_keras == []

    def test_weights_that_are_not_finite_are_refused(self, run):
        def spoil(file):
            file["head/vars/1"][0] = np.nan

        change_weights(run, spoil)
        run.seal()
        refused(run, "is damaged: the weight joint/head/bias is not finite")

    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_a_temperature_that_cannot_be_is_refused(self, run, value):
        change_weights(run, lambda file: file["vars/0"].write_direct(np.float32([value])))
        run.seal()
        refused(run, "is damaged: the weight joint/temperature is not greater than 0")

    @pytest.mark.parametrize("name", ["model.keras", "config.json", "predictions.npz"])
    def test_a_link_or_a_pipe_in_place_of_a_file_is_not_followed(self, run, tmp_path, name):
        path = run.folder / name
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "moved")
        for said in ("it is a link", "it is not a plain file"):
            with pytest.raises(UserError, match=said):
                run.predictions("test") if name == "predictions.npz" else inference.load_model(run)
            path.unlink()
            os.mkfifo(path)  # nobody writes into it: who opens it as a file waits for ever


class TestConfiguration:
    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("colour", "red", "unknown key colour"),
            ("training.epoch", 3, "unknown key training.epoch; did you mean training.epochs?"),
            ("training.epochs", "3", "training.epochs must be a whole number, not '3'"),
            ("data", None, "data must be a table, not None"),
            ("recipe", "\x1b[2J", "recipe must be a text that can be printed"),
            ("early.max_tokens", 10**9, "early.max_tokens must be from 1 to 1,000,000"),
            ("joint.operator", "os.system", "unknown joint.operator 'os.system'"),
            ("variant", "tfidf", "'tfidf' is no variant with a model"),
            ("facts", 1, "the key facts is missing"),
            ("facts.payload", "x", "unknown key facts.payload"),
            ("facts.parameters", "many", "facts.parameters must be a whole number, not 'many'"),
            ("facts.genre_counts.train", [1, 2], "facts.genre_counts has 2 counts, genres.json 8 genres"),
            ("facts.genre_counts.train", [10**400] * 8, "a count that is not one of"),
            ("facts.films.train", 10**400, "facts.films.train must be from 1 to 1,000,000,000"),
            ("early.blocks", 1_000_000, "early.blocks must be from 1 to 100"),
            (
                "poster_encoder.cnn.filters",
                [4] * 20,
                "poster_encoder.cnn.filters has 20 entries, too many for posters of 64 pixels",
            ),
            ("facts.reads", ["smell"], "facts.reads must be a list of poster, overview"),
            ("facts.placeholders", {"smell": [1]}, "facts.placeholders"),
            ("facts.placeholders", {"poster": [2**64]}, "facts.placeholders"),
            ("facts.processor", "\x1b]0;mine\x07", "must be a text that can be printed"),
        ],
    )
    def test_unknown_keys_and_wrong_values_are_named(self, run, monkeypatch, capsys, key, value, said):
        values = json.loads(run.config_file.read_text())
        table, *rest = key.split(".")
        if rest:
            place = values.setdefault(table, {})
            for name in rest[:-1]:
                place = place.setdefault(name, {})
            place[rest[-1]] = value
        else:
            values[table] = value
        run.config_file.write_text(json.dumps(values))
        run.seal()
        main, args = (evaluate.main, []) if key.startswith("facts") else (predict.main, film(run))
        assert command(main, monkeypatch, run.folder, *args) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize(
        "content", [b"", b"[1, 2]", b"\xff", b"{" * 100_000, b'{"a":' * 100_000, b'{"seed": 1' + b"0" * 5000 + b"}"]
    )
    def test_what_is_no_configuration_is_one_line(self, run, monkeypatch, capsys, content):
        run.config_file.write_bytes(content)
        run.seal()
        assert command(predict.main, monkeypatch, run.folder, *film(run)) == 2
        error = capsys.readouterr().err
        assert "config.json" in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize("number", [None, 2, 4, "3"])
    def test_a_folder_of_another_format_is_refused_with_one_line(self, run, monkeypatch, capsys, number):
        values = json.loads(run.config_file.read_text())
        assert values.pop("format") == 3
        run.config_file.write_text(json.dumps(values if number is None else {"format": number, **values}))
        run.seal()
        assert command(evaluate.main, monkeypatch, run.folder) == 2
        error = capsys.readouterr().err
        assert "has another format than 3, of another version: train it again" in error
        assert error.count("\n") == 1

    def test_a_model_that_would_fill_the_memory_is_refused_before_it_is_made(self, run):
        values = json.loads(run.config_file.read_text())
        values["poster_encoder"] = {"name": "cnn", "cnn": {"poster_size": 16, "filters": [65536, 65536]}}  # 155 GB
        run.config_file.write_text(json.dumps(values))
        run.seal()
        refused(run, "only the run (3, 3, 3, 65536), (3, 3, 65536, 65536)")

    def test_other_genres_or_another_vocabulary_than_the_weights_name_both_sides(self, run, finished):
        genres = json.loads((run.folder / "genres.json").read_text())
        (run.folder / "genres.json").write_text(json.dumps(genres[:-1]))
        refused(run, "genres.json is not the file that this run wrote")
        run.seal()
        refused(run, "facts.genre_counts has 8 counts, genres.json 7 genres")
        (run.folder / "genres.json").write_text(json.dumps(genres))
        words = finished.vocabulary
        (run.folder / "vocabulary.txt").write_text("\n".join(words[:-1]))
        refused(run, "vocabulary.txt is not the file that this run wrote")
        run.seal()
        ours, theirs = (f"({n}, 6), ({n}, {BagEncoder.MOST})" for n in (len(words), len(words) - 1))
        refused(run, f"only the file has the shapes {ours}, only the run {theirs}")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("genres.json", '["War", "War"]', "different names that can be printed"),
            ("genres.json", '["\\u001b[31mWar"]', "different names that can be printed"),
            ("genres.json", "{}", "different names that can be printed"),
            ("genres.json", "[]", "different names that can be printed"),
            ("vocabulary.txt", "\n[UNK]\nwar\nwar", "and then different words"),
            ("vocabulary.txt", "\n[UNK]\n" + "\n".join(map(str, range(20_000))), "words, config.json allows 20000"),
            ("vocabulary.txt", "war\npeace", "must hold an empty line, [UNK]"),
        ],
    )
    def test_genres_and_words_that_cannot_be(self, run, name, content, said):
        (run.folder / name).write_text(content)
        run.seal()
        refused(run, said)


class TestPredictions:
    @pytest.fixture
    def arrays(self, run):
        with np.load(run.predictions_file) as found:
            return dict(found)

    def refused(self, run, said):
        run.seal()
        with pytest.raises(UserError) as error:
            run.predictions("test")
        assert said in str(error.value)
        assert str(run.folder) in str(error.value)

    def test_a_pickle_is_not_opened(self, run, arrays, tmp_path):
        class Payload:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "reached"),)

        np.savez(run.predictions_file, **{**arrays, "y_prob_test": np.array([Payload()], object)})
        self.refused(run, "not numbers or text")
        assert not (tmp_path / "reached").exists()

    def test_what_expands_or_claims_more_than_it_has_is_refused(self, run, arrays):
        np.savez_compressed(run.predictions_file, **{**arrays, "more": np.zeros(10_000_000)})
        self.refused(run, "unpacks to more than it is")
        claim = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 8)}
        np.lib.format.write_array_header_1_0(claim, header)
        with zipfile.ZipFile(run.predictions_file, "w") as archive:
            archive.writestr("y_prob_test.npy", claim.getvalue())
        self.refused(run, "has another size than it says")
        run.predictions_file.write_bytes(b"PK\x03\x04")
        self.refused(run, "cannot be read")

    def test_other_values_films_and_genres_are_refused(self, run, arrays):
        ids, y_true, y_prob = (arrays[f"{name}_test"] for name in ("ids", "y_true", "y_prob"))
        for name, value, said in (
            ("y_prob_test", np.full_like(y_prob, np.nan), "no probabilities"),
            ("y_prob_test", y_prob + 1, "no probabilities"),
            ("y_true_test", y_true + 2, "no labels"),
            ("y_prob_test", y_prob.astype(np.float64), "float64"),
            ("y_prob_test", y_prob[:, 1:], "does not fit genres.json"),
            ("ids_test", np.array("x"), "does not hold a list of ids"),
            ("ids_test", ids[::-1], "holds other test films than split.json"),
        ):
            np.savez(run.predictions_file, **{**arrays, name: value})
            self.refused(run, said)
        for value in (0.0, -1.0, np.inf, np.nan, np.ones(2), np.array("1"), np.float32(1)):
            np.savez(run.predictions_file, **{**arrays, "temperature": value})
            run.seal()
            with pytest.raises(UserError, match="the temperature must be a number greater than 0, and finite"):
                scoring.score(run, "test")
        del arrays["ids_test"]
        np.savez(run.predictions_file, **arrays)
        self.refused(run, "it has no ids_test")

    @pytest.mark.parametrize(
        "hashes", [np.zeros((60, 2)), np.zeros((59, 2), np.uint64), np.zeros(60, np.uint64), np.full((60, 2), "a")]
    )
    def test_hashes_of_another_form_are_refused(self, run, hashes):
        assert run.hashes.shape == (60, 2)
        np.savez(run.hashes_file, hashes=hashes)
        run.seal()
        with pytest.raises(UserError, match=r"hashes.npz must hold two hashes for each film"):
            print(run.hashes)

    def test_ids_that_leave_the_folder_are_refused(self, run):
        split = run.split
        (run.folder / "split.json").write_text(json.dumps({**split, "test": []}))
        self.refused(run, "the test split is empty")
        for film in ("../../x", "/etc/passwd", "a\0b", "", "."):
            (run.folder / "split.json").write_text(json.dumps({**split, "test": [film]}))
            self.refused(run, "is not made of letters, digits")


class TestKeptFilms:
    """The posters and overviews that a run folder holds for its report's pictures."""

    def spoiled(self, run, monkeypatch, capsys) -> str:
        assert command(evaluate.main, monkeypatch, run.folder) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    def test_a_program_a_bomb_a_link_and_a_pipe_are_not_opened(self, run, tmp_path, monkeypatch, capsys):
        poster = next(run.films_folder.glob("*.jpg"))
        bomb = io.BytesIO()
        Image.new("1", (9000, 9000)).save(bomb, "PNG")
        for content, said in (
            (
                f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({tmp_path}/x) (w) file\n".encode(),
                "not a readable",
            ),
            (bomb.getvalue(), "more than 40,000,000 pixels"),
            (b"", "not a readable picture"),
        ):
            poster.write_bytes(content)
            assert said in (error := self.spoiled(run, monkeypatch, capsys))
            assert poster.stem in error
        poster.rename(tmp_path / "moved.jpg")
        poster.symlink_to(tmp_path / "moved.jpg")
        assert "it is a link" in self.spoiled(run, monkeypatch, capsys)
        poster.unlink()
        os.mkfifo(poster)
        assert "it is not a plain file" in self.spoiled(run, monkeypatch, capsys)

    def test_names_that_leave_the_folder_are_refused(self, run, monkeypatch, capsys):
        (run.films_folder / "overviews.json").write_text('{"../../x": "text"}')
        assert "the id '../../x'" in self.spoiled(run, monkeypatch, capsys)
        for overview in ("3", '"\\ud800"'):
            (run.films_folder / "overviews.json").write_text(f'{{"x": {overview}}}')
            assert "the overview of x is not a text" in self.spoiled(run, monkeypatch, capsys)


def test_a_history_that_cannot_be_is_refused(run):
    lines = run.history_file.read_text().splitlines()
    for line, said in (
        (lines[1].replace("1,", "9" * 400 + ",", 1), "its epochs must be 1, 2, 3"),
        (lines[1].replace(lines[1].split(",")[1], "1e308", 1), "too great"),
        (lines[1].replace(lines[1].split(",")[1], "nan", 1), "not one, or is too great"),
        (lines[1].replace(lines[1].split(",")[1], "x", 1), "could not convert"),
    ):
        run.history_file.write_text(f"{lines[0]}\n{line}\n")
        run.seal()
        with pytest.raises(UserError, match=said):
            _ = run.history


def test_a_name_is_no_formula(run, monkeypatch):
    genres = json.loads((run.folder / "genres.json").read_text())
    (run.folder / "genres.json").write_text(json.dumps(["$\\frac{$", *genres[1:]]))
    run.seal()
    named = run.folder.rename(run.folder.with_name("a$x_{$b"))
    assert command(evaluate.main, monkeypatch, named) == 0


@pytest.mark.parametrize("name", ["films", "figures", "parts"])
def test_folders_that_lie_elsewhere_are_neither_read_nor_written_to(run, tmp_path, monkeypatch, capsys, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(run.folder / name, ignore_errors=True)
    (run.folder / name).symlink_to(elsewhere)
    assert command(evaluate.main, monkeypatch, run.folder) == 2
    assert f"{name} is a link" in capsys.readouterr().err
    assert list(elsewhere.iterdir()) == []


def test_links_in_a_part_of_late_fusion_are_not_followed_when_it_is_copied(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name in ("report.md", "notes.txt"):
        (run.folder / name).unlink(missing_ok=True)
        (run.folder / name).symlink_to(secret)
    with Run.create(tmp_path / "late") as late:
        late.copy_part(run, "joint")
    copied = Run(tmp_path / "late").part("joint").folder
    assert (copied / "report.md").is_symlink()
    assert not (copied / "notes.txt").is_symlink()  # no file of a run
