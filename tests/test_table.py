"""The third modality: columns of a table, joined, read and fused like posters and overviews."""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import command, tiny_config, write_folder, write_tiny
from test_models import GENRES, WORDS, gradients, logits, make

from mmfusion import evaluate, inference, predict, train
from mmfusion.config import COMBINERS, resolve
from mmfusion.data.films import films_of
from mmfusion.data.preprocessing import columns_of_list, columns_to_list
from mmfusion.data.synthetic import films as synthetic
from mmfusion.data.table import EncodeTable, encode_table, fit_columns, read_table, texts_of
from mmfusion.data.texts import Texts
from mmfusion.errors import UserError
from mmfusion.inference.export import FORMATS, TOLERANCE, export
from mmfusion.models.late import Combiner
from mmfusion.runs import Run
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER, TABLE
from mmfusion.training import preparation

ALL = [str(modality) for modality in MODALITIES]
COLUMNS = ["Year", "Language"]


def write_table(path: Path, rows: dict, columns=COLUMNS, encoding="utf-8") -> Path:
    """A CSV with these cells by film."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(["Id", *columns])
        writer.writerows([film, *cells] for film, cells in rows.items())
    return path


class TestFile:
    def test_rows_are_joined_by_id_and_others_are_empty(self, tmp_path, capsys):
        rows = {"tt2": (" 1994 ", "French, Latin"), "tt9": ("1", "x"), "tt1": ("", "")}
        file = write_table(tmp_path / "more.csv", rows, encoding="utf-8-sig")
        table, content = read_table(file, ["tt1", "tt2", "tt3"])
        assert table == {"Year": ("", "1994", ""), "Language": ("", "French, Latin", "")}
        assert len(content) == 16
        assert "1 of 3 films" in capsys.readouterr().err

    def test_white_space_around_names_and_ids_and_rows_without_an_id_are_nothing(self, tmp_path):
        (tmp_path / "more.csv").write_text("Id , Year\n tt1 ,1994\n,\n,\n")
        assert read_table(tmp_path / "more.csv", ["tt1"])[0] == {"Year": ("1994",)}

    def test_cells_stay_texts(self, tmp_path):
        file = write_table(tmp_path / "more.csv", {"007": ("0090", "NA"), "7": ("nan", "None")})
        table, _ = read_table(file, ["007", "7"])
        assert table == {"Year": ("0090", "nan"), "Language": ("NA", "None")}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"film,Year\ntt1,1994\n", "has no column Id; it has 'film', 'Year'"),
            (b"Id,Year\ntt1,1994\ntt1,1995\n", "two rows of the film 'tt1'"),
            ("Id,Year\ntt1,é\n".encode("latin-1"), "not a CSV in UTF-8"),
            (b'Id,Year\ntt1,"1994\n', "not a CSV in UTF-8"),
            (b"", "not a CSV in UTF-8"),
            (b"Id,Title,Year\ntt1,Good, Bad,1966\n", "not a CSV in UTF-8.*Expected 3 fields in line 2, saw 4"),
            (b"Id,Year,Year\ntt1,1,2\n", "a column is called 'Year'"),
            (b",Id,Year\n0,tt1,2\n", "a column is called ''"),
            (b"Id;Year\ntt1;1\n", "has no column Id; it has 'Id;Year'"),
        ],
    )
    def test_what_cannot_be_joined_is_refused_in_one_line(self, tmp_path, content, said):
        file = tmp_path / "more.csv"
        file.write_bytes(content)
        with pytest.raises(UserError, match=said) as refused:
            read_table(file, ["tt1"])
        assert "\n" not in str(refused.value)

    def test_texts_of_columns_are_joined_in_the_order_that_is_asked_for(self):
        table = {"Title": Texts.of(["Alien", ""]), "Keywords": Texts.of(["space", ""])}
        overviews = Texts.of(["A ship.", "A house."])
        assert texts_of((), table, overviews) == overviews
        assert texts_of(("Title", "Overview", "Keywords"), table, overviews) == (
            "Alien\nA ship.\nspace",
            "A house.",
        )
        with pytest.raises(UserError, match=r"overview.columns: there is no column 'Plot'; the films have 'Title'"):
            texts_of(("Plot",), table, overviews)


TABLE_OF_FIVE = {"Year": ("1990", "2000", "2010", "", "9999"), "Language": ("en", "fr", "en", "", "tlh")}


class TestColumns:
    columns = fit_columns(COLUMNS, TABLE_OF_FIVE, np.array([0, 1, 2, 3]), 50)

    def test_they_are_settled_by_training_films_alone(self):
        year, language = self.columns
        assert (year.values, year.mean) == (None, 2000)
        assert year.deviation == pytest.approx(np.std([1990, 2000, 2010]))
        assert language.values == ("en", "fr")

    def test_numbers_are_standardised_categories_numbered_and_empty_cells_are_zeros(self):
        found = encode_table(TABLE_OF_FIVE, self.columns)
        assert found.dtype == np.float32
        z = (1990 - 2000) / np.std([1990, 2000, 2010])
        np.testing.assert_allclose(found[0], [[z, 0, 1], [0, 1, 1]], rtol=1e-6)
        np.testing.assert_array_equal(found[1], [[0, 0, 1], [0, 2, 1]])
        assert not found[3].any()
        np.testing.assert_array_equal(found[4], [[5, 0, 1], [0, 0, 1]])  # far away, and another language

    def test_the_most_frequent_values_are_told_apart(self):
        (column,) = fit_columns(["Language"], TABLE_OF_FIVE, np.arange(5), 1)
        assert column.values == ("en",)

    @pytest.mark.parametrize(
        ("cells", "expected"),
        [
            (("1000000000", "1000000001", "1000000002"), (-1.2247449, 0, 1.2247449)),
            (("0.1", "0.1", "0.1"), (0, 0, 0)),
            (("-1e99", "0", "1e99"), (-1.2247449, 0, 1.2247449)),
        ],
    )
    def test_numbers_of_any_size_are_standardised(self, cells, expected):
        columns = fit_columns(["Year"], {"Year": cells}, np.arange(3), 9)
        found = encode_table({"Year": cells}, columns)[:, 0, 0]
        np.testing.assert_allclose(found, expected, atol=1e-6)

    @pytest.mark.parametrize("cell", ["[UNK]", "9" * 400, "\u00a0x", "a\nb"])
    def test_odd_cells_are_values_like_others(self, cell):
        columns = fit_columns(["Year"], {"Year": (cell, cell)}, np.arange(2), 9)
        assert columns[0].values == (cell,)
        np.testing.assert_array_equal(encode_table({"Year": (cell, "other")}, columns)[:, 0, 1], [1, 0])

    def test_films_without_a_column_of_the_run_are_refused(self):
        with pytest.raises(UserError, match="the run's columns: there is no column 'Year'; the films have 'year'"):
            encode_table({"year": ("1990",)}, self.columns)

    def test_a_column_with_one_word_in_it_is_a_category(self):
        (column,) = fit_columns(["Year"], {"Year": ("1990", "soon")}, np.arange(2), 9)
        assert set(column.values) == {"1990", "soon"}

    def test_a_word_among_other_films_numbers_is_said_and_counts_as_empty(self, capsys):
        found = encode_table({"Year": ("soon",), "Language": ("en",)}, self.columns)
        np.testing.assert_array_equal(found[0], [[0, 0, 0], [0, 1, 1]])
        assert "Year: 1 cells are no numbers" in capsys.readouterr().err

    def test_a_graph_reads_them_as_numpy_does(self):
        cells = [
            *zip(*TABLE_OF_FIVE.values(), strict=True),
            ("1e3", "EN"),
            (" 1", "fr "),
            ("+.5e-2", ""),
            ("nan", "x"),
        ]
        in_graph = tf.function(EncodeTable(self.columns).__call__)(tf.constant(cells)).numpy()
        table = dict(zip(COLUMNS, zip(*cells, strict=True), strict=True))
        np.testing.assert_array_equal(in_graph, encode_table(table, self.columns))

    def test_they_come_back_from_json(self):
        again = json.loads(json.dumps(columns_to_list(self.columns)))
        assert columns_of_list(again, "table.json") == self.columns

    @pytest.mark.parametrize(
        "values",
        [
            {},
            [1],
            [{"name": "Year", "mean": 0.0}] * 2,
            [{"name": "Year", "mean": float("nan")}],
            [{"name": "Year", "deviation": 0.0}],
            [{"name": "Year\x1b[2J"}],
            [{"name": "Year", "values": []}],
            [{"name": "Year", "values": ["a", "a"]}],
            [{"name": "Year", "values": [1]}],
            [{"name": "Year", "values": ["x\ud800"]}],
            [{"name": "Year", "values": [""]}],
            [{"name": "Year", "mean": 1e300}],
            [{"name": "Year", "deviation": 1e200}],
            [{"name": f"Year{n}"} for n in range(1001)],
            [{"name": "Year", "more": 1}],
        ],
    )
    def test_a_strangers_are_checked(self, values):
        with pytest.raises(UserError, match=r"^table.json"):
            columns_of_list(values, "table.json")

    @pytest.mark.parametrize(
        ("names", "table", "said"),
        [
            (["Length"], TABLE_OF_FIVE, "there is no column 'Length'; the films have 'Year', 'Language'"),
            (["Year"], {}, "these films have no table; name one with --table FILE"),
            (["Year"], {"Year": ("", "")}, "no training film has anything in the column 'Year'"),
        ],
    )
    def test_what_says_nothing_is_refused(self, names, table, said):
        with pytest.raises(UserError, match=said):
            fit_columns(names, table, np.array([0, 1]), 50)


def batch(films: int = 5) -> dict:
    """Films with all three modalities."""
    rng = np.random.default_rng(0)
    table = np.zeros((films, 2, 3), np.float32)
    table[:, 0] = np.stack([rng.normal(size=films), np.zeros(films), np.ones(films)], axis=1)
    table[:, 1] = np.stack([np.zeros(films), rng.integers(1, 4, films), np.ones(films)], axis=1)
    return {
        POSTER: rng.random((films, 16, 16, 3), np.float32),
        OVERVIEW: rng.integers(1, WORDS, (films, 7)).astype(np.int32),
        TABLE: table,
    }


def made(variant: str, **overrides):
    """A tiny model of all three modalities."""
    return make(variant, modalities=ALL, table__columns=COLUMNS, **overrides)


class TestModels:
    def test_a_table_alone_is_read_and_nothing_else(self):
        model, films = made("table"), batch()
        before = logits(model, films)
        np.testing.assert_array_equal(before, logits(model, {**films, POSTER: films[POSTER] * 0}))
        for cell in range(2):
            other = films[TABLE].copy()
            other[:, cell] = 0
            assert np.abs(before - logits(model, {**films, TABLE: other})).max() > 1e-6

    @pytest.mark.parametrize("variant", ["early", "joint"])
    def test_the_loss_reaches_what_reads_it(self, variant):
        _, found = gradients(made(variant), batch())
        of_table = [g for path, g in found.items() if "column" in path or "table_encoder" in path]
        assert of_table
        assert all(np.abs(gradient).max() > 0 for gradient in of_table)

    @pytest.mark.parametrize("variant", ["table", "early", "joint"])
    def test_an_empty_cell_is_not_read(self, variant):
        model, films = made(variant), batch()
        films[TABLE][0, 1] = 0
        before, rng = logits(model, films), np.random.default_rng(0)
        for weight in model.weights:
            if weight.path.endswith(("/scale", "/of_value")):
                of_second = np.arange(weight.shape[0]) >= weight.shape[0] // 2
                weight.assign(weight + of_second[:, None] * rng.normal(size=weight.shape).astype(np.float32))
        after = logits(model, films)
        np.testing.assert_allclose(after[0], before[0], atol=1e-6)
        assert np.abs(after[1:] - before[1:]).max(axis=1).min() > 1e-4

    @pytest.mark.parametrize("operator", ["concat", "sum", "gated", "low_rank"])
    def test_operators_of_any_number_take_three(self, operator):
        assert logits(made("joint", joint__operator=operator), batch()).shape == (5, GENRES)

    def test_one_for_two_is_refused_by_name(self):
        with pytest.raises(UserError, match="film is made for two modalities, not 3"):
            made("joint", joint__operator="film")

    @pytest.mark.parametrize("modalities", [[OVERVIEW, TABLE], [POSTER, TABLE]])
    @pytest.mark.parametrize("variant", ["early", "joint", "late"])
    def test_any_two_can_be_fused(self, variant, modalities):
        model = make(variant, modalities=modalities, table__columns=COLUMNS)
        films = {name: batch()[name] for name in modalities}
        assert logits(model, films).shape == (5, GENRES)
        nothing = {name: np.zeros_like(values) for name, values in films.items()}
        assert np.isfinite(logits(model, nothing)).all()


class TestCombinerOfThree:
    said = list(np.random.default_rng(1).normal(size=(3, 60, GENRES)).astype(np.float32))
    labels = (np.random.default_rng(2).random((60, GENRES)) < 0.4).astype(np.float32)

    def combined(self, kind, present):
        combiner = Combiner(kind)
        combiner.build([(None, GENRES)] * 3)
        combiner.fit(self.said, self.labels)
        has = [np.full((60, 1), one, np.float32) for one in present]
        return combiner, np.asarray(combiner(self.said, has))

    @pytest.mark.parametrize("kind", COMBINERS)
    def test_with_all_there_nothing_is_different(self, kind):
        combiner, found = self.combined(kind, (1, 1, 1))
        np.testing.assert_array_equal(found, np.asarray(combiner(self.said)))

    @pytest.mark.parametrize("kind", COMBINERS)
    def test_one_that_is_left_decides_alone(self, kind):
        _, found = self.combined(kind, (0, 1, 0))
        np.testing.assert_array_equal(found, self.said[1])

    @pytest.mark.parametrize("kind", COMBINERS)
    def test_two_that_are_left_are_combined(self, kind):
        combiner, found = self.combined(kind, (1, 0, 1))
        first, third = self.said[0], self.said[2]
        if kind in ("stacked", "confidence"):
            np.testing.assert_allclose(found, (first + third) / 2, rtol=1e-5)
        elif kind == "product":
            prior = np.log((61 - self.labels.sum(axis=0)) / (self.labels.sum(axis=0) + 1))
            np.testing.assert_allclose(found, first + third + prior, rtol=1e-4, atol=1e-5)
        else:
            w = np.asarray(combiner.model_weights)[[0, 2]]
            p = [1 / (1 + np.exp(-z)) for z in (first, third)]
            expected = (w[0] * p[0] + w[1] * p[1]) / (w[0] + w[1])
            np.testing.assert_allclose(1 / (1 + np.exp(-found)), expected, rtol=1e-4)


class TestSynthetic:
    def test_without_a_table_the_films_stay_as_they_were(self, cache):
        plain = films_of(tiny_config("joint"), cache)
        more = films_of(tiny_config("joint", modalities=ALL), cache)
        assert plain.table == {}
        assert plain.overviews == more.overviews
        assert more.genres == (*plain.genres, "table_1", "table_2", "xor_all")
        np.testing.assert_array_equal(plain.labels, more.labels[:, : len(plain.genres)])

    def test_its_genres_are_what_the_columns_say(self, cache):
        films = films_of(tiny_config("table", data__films=300), cache)
        labels = {genre: films.labels[:, column] > 0 for column, genre in enumerate(films.genres)}
        years = np.array(films.table["Year"], int)
        assert (labels["table_1"] == (years >= 1985)).all()
        north = np.isin(films.table["Country"], synthetic._COUNTRIES[True])
        assert (labels["table_2"] == north).all()
        assert (labels["xor_all"] == labels["poster_1"] ^ labels["overview_1"] ^ labels["table_1"]).all()


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> tuple[Path, Path]:
    """A folder of films, and a table of most of them."""
    folder = write_folder(tmp_path_factory.mktemp("films") / "films")
    rows = {f"tt{n:04d}": (1950 + n if n % 5 else "", ("English", "French", "")[n % 3]) for n in range(30)}
    return folder, write_table(folder.parent / "more.csv", rows)


@pytest.fixture(scope="module")
def runs(films, tmp_path_factory):
    """Finished runs of three modalities, from the command line."""
    folder, table = films
    out = tmp_path_factory.mktemp("runs")
    write_tiny(out / "tiny.toml")
    monkeypatch = pytest.MonkeyPatch()
    for variant in ("joint", "late", "early"):
        code = command(
            train.main,
            monkeypatch,
            *("--variant", variant, "--data-dir", folder, "--table", table, "--modalities", *ALL),
            *("--set", 'table.columns=["Year", "Language"]', "--config", out / "tiny.toml"),
            *("--epochs", "2", "--out", out / variant, "--cache-dir", tmp_path_factory.getbasetemp() / "cache"),
        )
        assert code == 0
    monkeypatch.undo()
    return {variant: Run.open(out / variant) for variant in ("joint", "late", "early")}


class TestRuns:
    def test_they_say_what_they_read(self, runs, films):
        joint, late = runs["joint"], runs["late"]
        assert joint.facts["reads"] == ALL
        assert joint.config.label == "joint (resnet + bag + mlp)"
        assert runs["early"].config.label == "early (poster + overview + table)"
        assert [part.name for part in late.parts] == ALL
        assert [column.name for column in joint.fitted.columns] == COLUMNS
        assert joint.config.table.file == str(films[1])

    def test_what_is_predicted_again_is_the_same(self, runs, films, cache):
        for run in runs.values():
            found = run.predictions("test")
            again = inference.predict_films(run, films_of(run.config, cache), found.ids)
            np.testing.assert_allclose(again.y_prob, found.y_prob, atol=1e-6)

    def test_a_table_that_changed_is_not_what_a_run_was_begun_with(self, runs, films, cache):
        before = films[1].read_text()
        try:
            films[1].write_text(f"{before}tt0039,1999,French\n")
            with pytest.raises(UserError, match="was started on other films"):
                preparation.prepare_again(runs["joint"], cache)
        finally:
            films[1].write_text(before)

    def test_a_film_is_predicted_from_its_columns_on_the_command_line(self, runs, monkeypatch, capsys):
        folder = runs["joint"].folder
        said = {}
        for year in ("1950", "1979"):
            assert command(predict.main, monkeypatch, folder, "--table", f"Year={year}", "Language=French") == 0
            said[year] = capsys.readouterr()
        assert "No --poster and no --overview" in said["1950"].err
        assert said["1950"].out != said["1979"].out

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("Year", "write COLUMN=VALUE"),
            ("Title=Alien", "knows no column 'Title'; it reads Year, Language"),
            ("Year=soon", "Year is a column of numbers"),
            ("Year=", "write COLUMN=VALUE"),
        ],
    )
    def test_a_wrong_column_is_refused_in_one_line(self, runs, monkeypatch, capsys, word, said):
        assert command(predict.main, monkeypatch, runs["joint"].folder, "--table", word) == 2
        assert said in capsys.readouterr().err

    def test_late_fusion_is_made_of_finished_runs_that_never_saw_the_table(
        self, runs, films, tmp_path, monkeypatch
    ):
        tiny, out = runs["joint"].folder.parent / "tiny.toml", []
        of = ["--data-dir", films[0], "--config", tiny]
        read = ["--table", films[1], "--set", 'table.columns=["Year", "Language"]']
        for variant, more in (("poster", []), ("overview", []), ("table", read)):
            out.append(tmp_path / variant)
            call = ["--variant", variant, *of, *more, "--epochs", 1, "--out", out[-1]]
            assert command(train.main, monkeypatch, *call) == 0
        late = ["--variant", "late", "--modalities", *ALL, *of, *read, "--parts", *out]
        assert command(train.main, monkeypatch, *late, "--out", tmp_path / "late") == 0
        assert [part.name for part in Run.open(tmp_path / "late").parts] == ALL
        wrong = ["--set", "table.values=9", "--out", tmp_path / "other"]
        assert command(train.main, monkeypatch, *late, *wrong) == 2
        assert not (tmp_path / "other").exists()

    def test_other_films_are_scored_with_a_table_of_their_own(self, runs, films, tmp_path, monkeypatch, capsys):
        other = write_folder(tmp_path / "other", films=12, seed=5)
        call = [runs["joint"].folder, "--data-dir", other, "--split", "all"]
        assert command(evaluate.main, monkeypatch, *call) == 2
        assert (
            "there is no column 'Year'; the films have no table; name one with --table" in capsys.readouterr().err
        )
        assert command(evaluate.main, monkeypatch, *call, "--table", films[1]) in (0, 2)
        assert "no table" not in capsys.readouterr().err

    @pytest.mark.usefixtures("asked_once")
    @pytest.mark.parametrize("form", list(FORMATS))
    @pytest.mark.parametrize("variant", ["joint", "late", "early"])
    def test_they_are_exported(self, runs, form, variant, tmp_path):
        assert export(runs[variant], form, tmp_path / "out") < TOLERANCE
        about = json.loads((tmp_path / "out" / "export.json").read_text())
        assert [column["name"] for column in about["table"]["columns"]] == COLUMNS


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--modalities", "poster"], "modalities must be two or more of poster, overview, table"),
        (["--modalities", "poster", "sound"], "modalities must be two or more of poster, overview, table"),
        (["--modalities", *ALL, "--variant", "poster", "--data-dir", "DIR"], "--modalities does nothing here"),
        (["--table", "none.csv"], "there is no such file"),
        (["--set", "table.values=9"], "table.values is not read by joint"),
        (["--table", "FILE", "--data-dir", "DIR"], "table.file is not read by joint"),
    ],
)
def test_flags_that_do_nothing_or_are_wrong_are_refused(flags, said, films, tmp_path, monkeypatch, capsys):
    flags = [{"DIR": films[0], "FILE": films[1]}.get(flag, flag) for flag in flags]
    flags = [*(["--variant", "joint"] if "--variant" not in flags else []), *flags]
    assert command(train.main, monkeypatch, *flags, "--out", tmp_path / "run") == 2
    assert said in capsys.readouterr().err


def test_the_text_may_be_made_of_several_columns(films, tmp_path, cache):
    folder, table = films
    config = resolve(
        "overview",
        overrides={
            "data.dataset": "multimodal_imdb",
            "data.data_dir": str(folder),
            "table.file": str(table),
            "overview.columns": ["Language", "Overview"],
        },
    )
    prepared = preparation.prepare(config, cache)
    film = prepared.films.rows(["tt0001"])[0]
    assert prepared.films.texts[film] == f"French\n{prepared.films.overviews[film]}"
    assert "french" in prepared.fitted.vocabulary


def test_the_encoder_is_saved_with_what_it_needs(tmp_path):
    model, films = made("joint"), batch()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(logits(again, films), logits(model, films), atol=1e-6)
