"""Films without a poster or an overview are films; what stands for none in many films is none."""

import csv
import dataclasses
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import command, tiny_config, write_folder
from PIL import Image

from mmfusion import evaluate, predict
from mmfusion.data import films as films_module
from mmfusion.data import prepared
from mmfusion.data.film_table import Builder
from mmfusion.data.films import load_films
from mmfusion.data.placeholders import frequent, is_listed
from mmfusion.data.posters import NoPoster
from mmfusion.data.records import FilmRecord, FilmsConfig
from mmfusion.data.splits import content_hash
from mmfusion.errors import UserError
from mmfusion.reports import panels, report
from mmfusion.training import experiment, preparation

pytestmark = pytest.mark.pictures

CSV = "IMDB_overview_genres.csv"


def of(folder, variant="joint", **overrides):
    return tiny_config(
        variant, data__dataset="multimodal_imdb", data__data_dir=str(folder), training__epochs=1, **overrides
    )


def load(folder, cache, **overrides):
    return load_films(of(folder, **overrides).data, cache, poster_size=16)


def change(folder, overview_of):
    """Gives films other overviews, by their number."""
    with (folder / CSV).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, text in overview_of.items():
        rows[number]["Overview"] = text
    with (folder / CSV).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def poster(folder, number):
    return folder / "Images" / f"tt{number:04d}.jpg"


@pytest.fixture
def gaps(folder):
    """40 films, of which 0 to 9 have no poster, 5 to 14 no overview, and so 5 to 9 neither."""
    for number in range(10):
        poster(folder, number).unlink()
    change(folder, dict.fromkeys(range(5, 15), " "))
    return folder


class TestFilmsWithout:
    def test_a_film_without_poster_is_kept_and_one_without_anything_is_left_out(self, gaps, cache, capsys):
        films_module._told.clear()
        films = load(gaps, cache)
        assert len(films) == 35
        assert films.skipped == {f"tt{number:04d}": "neither poster nor overview" for number in range(5, 10)}
        rows = films.rows([f"tt{number:04d}" for number in range(5)])
        assert not films.posters[rows].any()
        assert not films.hashes[rows, 0].any()
        assert films.encoded_posters(["tt0001", "tt0020"])["tt0001"] == b""
        assert films.encoded_posters(["tt0020"])["tt0020"] == poster(gaps, 20).read_bytes()
        assert films.overviews[films.rows(["tt0020"])[0]] == "A film about thing20 and war2"
        for row in films.rows(["tt0010", "tt0039"]):
            assert films.posters[row].any()
        assert len(set(films.groups)) == 35
        files = list(films.poster_files())
        assert files[:5] == [b""] * 5
        assert files[5:] == [poster(gaps, number).read_bytes() for number in range(10, 40)]
        said = capsys.readouterr().err
        for line in (
            "35 films; 30 with a poster, 30 with an overview, 25 with both",
            f"genres: {' '.join(map(str, counted(films)))}",
            "left out: 5 (skipped.csv says why), for example tt0005 (neither poster nor overview)",
        ):
            assert line in said
            assert line in "\n".join(films.account)
        load(gaps, cache)
        assert capsys.readouterr().err == ""

    def test_more_than_a_third_that_have_nothing_stop(self, folder, cache):
        for number in range(14):
            poster(folder, number).unlink()
        change(folder, dict.fromkeys(range(14), ""))
        with pytest.raises(UserError, match=r"14 of 40 films are left out, more than a third: tt0000 \(neither"):
            load(folder, cache)

    def test_a_film_whose_table_says_something_is_one(self, tmp_path):
        def none():
            raise NoPoster("poster missing")

        cells = {"a": ("", "1994"), "b": (" ", ""), "c": ("", "")}
        records = [FilmRecord(film, "A." * (film == "c"), (), none, cells=of) for film, of in cells.items()]
        source = FilmsConfig(name="made", genres=("War",), columns=("Month", "Year"))
        builder = SimpleNamespace(builder_config=source, SPLITS=("films",), account=(), left_out={})
        prepared.write(builder, records, tiny_config("table").data, 16, tmp_path)
        found = prepared.read(tmp_path, 16)
        assert found["ids"] == ("a", "c")
        assert found["table"] == {"Month": ("", ""), "Year": ("1994", "")}
        assert found["skipped"] == {"b": "neither poster nor overview"}

    def test_films_of_one_group_have_one_number(self, folder, tmp_path, monkeypatch):
        real = Builder.films

        def grouped(self, *args):
            for film in real(self, *args):
                yield dataclasses.replace(film, group="Ford" if film.id in ("tt0001", "tt0030") else "")

        monkeypatch.setattr(Builder, "films", grouped)
        groups = load(folder, tmp_path / "cache").groups
        assert groups[1] == groups[30]
        assert len(set(groups)) == 39

    def test_what_a_source_says_of_itself_and_leaves_out_is_kept(self, folder, tmp_path):
        with (folder / CSV).open("a", encoding="utf-8") as file:
            file.write(",[],0,0,1,A film without an id\n")
        for _ in range(2):
            films = load(folder, tmp_path / "cache")
            assert films.account[0].startswith(f"{CSV}: 41 rows")
            assert films.skipped == {"line 42": "no Id"}
        assert films.account[-1] == "left out: 1 (skipped.csv says why), for example line 42 (no Id)"

    def test_a_run_says_what_its_films_have_and_draws_those_without_poster(
        self, gaps, cache, tmp_path, monkeypatch
    ):
        drawn, real = [], panels.draw_panel
        monkeypatch.setattr(
            panels, "draw_panel", lambda title, films, *paths: drawn.extend(films) or real(title, films, *paths)
        )
        run = experiment.train(of(gaps, "overview"), tmp_path / "run", cache)
        report.write_report(run)
        account = run.facts["source"]
        assert account[2].startswith("35 films; 30 with a poster")
        assert f"- {account[2]}" in (run.folder / "report.md").read_text()
        assert len((run.folder / "skipped.csv").read_text().splitlines()) == 6
        shown = run.films()
        without = [film for film, (read_poster, _) in shown.items() if read_poster is None]
        assert {film.title.split()[0] for film in drawn} == set(shown)
        assert [film.title.split()[0] for film in drawn if film.poster is None] == without
        # Of all films some have no poster: they are drawn of a folder as well.
        args = (
            run.folder,
            "--data-dir",
            gaps,
            "--show",
            "tt0001",
            "tt0020",
            "--split",
            "all",
            "--out",
            tmp_path / "o",
        )
        drawn.clear()
        assert command(evaluate.main, monkeypatch, *args) == 0
        assert {film.title.split()[0] for film in drawn if film.poster is None} >= {"tt0001"}

    @pytest.mark.parametrize(("lost", "variant"), [("poster", "joint"), ("poster", "cnn"), ("overview", "late")])
    def test_a_variant_that_reads_what_no_film_has_is_refused(self, folder, cache, lost, variant):
        other = {"poster": "overview", "overview": "poster"}[lost]
        if lost == "poster":
            shutil.rmtree(folder / "Images")
        else:
            change(folder, dict.fromkeys(range(40), ""))
        said = rf"no training film has an? {lost}, which {variant} reads; --variant {other} reads {other}s alone"
        with pytest.raises(UserError, match=said):
            preparation.prepare(of(folder, variant), cache)
        preparation.prepare(of(folder, other), cache)


def counted(films):
    counts = films.labels.sum(axis=0)
    order = np.argsort(-counts.astype(int), kind="stable")
    words = [f"{films.genres[g]} {counts[g]}," for g in order]
    words[-1] = words[-1].removesuffix(",")
    if without := int((~films.labels.any(axis=1)).sum()):
        words.append(f"({without} films without a genre)")
    return words


def test_a_panel_has_an_empty_frame_for_a_film_without_poster(tmp_path):
    """The frame is dark at its edges, with grey words in the middle and white around them."""
    white = np.full((30, 20, 3), 255, np.uint8)
    for name, picture in (("with", white), ("without", None)):
        panels.draw_panel("Films", [panels.Film("one", picture, "A film.", (), {})], tmp_path / f"{name}.png")
    pixels = {name: np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("with", "without")}
    changed = np.argwhere(pixels["with"] != pixels["without"])
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    frame = pixels["without"][top : bottom + 1, left : right + 1]
    assert abs(frame.shape[0] / frame.shape[1] - 1.55 / 1.1) < 0.05
    for edge in (frame[1], frame[-2], frame[:, 1], frame[:, -2]):
        assert (edge < 128).mean() > 0.95
    height, width = frame.shape
    assert (frame[height // 3 : 2 * height // 3, width // 5 : 4 * width // 5] < 200).any()
    assert (frame[height // 10 : height // 3, width // 5 : 4 * width // 5] == 255).all()


class TestPlaceholders:
    @pytest.mark.parametrize(
        "text", ["No overview found.", " no  overview\nfound", "NaN", "N/A", "n/a.", "-", "None"]
    )
    def test_texts_that_are_known_to_stand_for_none(self, text):
        assert is_listed(text)

    @pytest.mark.parametrize(
        "text", ["", "No overview found in the attic.", "Nan", "A null.", "None of them", "--"]
    )
    def test_texts_that_do_not(self, text):
        assert is_listed(text) == (text == "Nan")

    def test_as_many_films_as_that_share_nothing_by_chance(self):
        own = np.arange(1, 5000, dtype=np.uint64)
        assert frequent(np.append(own[:200], [7] * 18).astype(np.uint64)).size == 0
        assert frequent(np.append(own[:200], [7] * 19).astype(np.uint64)).tolist() == [7]
        assert frequent(np.append(own, [7] * 23).astype(np.uint64)).size == 0  # of 0.5%
        assert frequent(np.append(own, [7] * 26).astype(np.uint64)).tolist() == [7]
        assert frequent(np.zeros(99, np.uint64)).size == 0

    @pytest.fixture
    def placeholders(self, tmp_path):
        """80 films: 0 to 21 share an overview, 20 to 44 a poster, 50 to 52 say that they have no overview."""
        folder = write_folder(tmp_path / "films", films=80)
        change(folder, {**dict.fromkeys(range(22), "Coming soon!"), 50: "nan", 51: "NAN", 52: "No overview found."})
        for number in range(20, 45):
            Image.new("RGB", (20, 30), "lightgray").save(poster(folder, number))
        return folder

    def test_they_count_as_missing_and_it_is_said(self, placeholders, cache):
        films = load(placeholders, cache)
        assert set(films.skipped) == {"tt0020", "tt0021"}
        assert len(films) == 78
        without = [row for row, film in enumerate(films.ids) if not films.overviews[row]]
        assert [films.ids[row] for row in without] == [f"tt{n:04d}" for n in (*range(20), 50, 51, 52)]
        grey = films.rows([f"tt{number:04d}" for number in range(22, 45)])
        assert not films.posters[grey].any()
        assert films.posters[films.rows(["tt0019"])[0]].any()
        assert films.encoded_posters(["tt0030"]) == {"tt0030": b""}
        assert len(set(films.groups)) == 78
        assert films.account[-1] == (
            "counted as missing: the overview 'Coming soon!' in 22 films, the overview 'nan' in 1 film, "
            "the overview 'NAN' in 1 film, another overview in 1 film, one picture in 25 films "
            "(--keep-placeholders reads them)"
        )

    def test_they_can_be_kept(self, placeholders, cache):
        films, kept = load(placeholders, cache), load(placeholders, cache, data__keep_placeholders=True)
        assert films.folder != kept.folder
        assert (len(kept), kept.skipped) == (80, {})
        assert kept.overviews[0] == "Coming soon!"
        assert kept.overviews[50] == "nan"
        assert kept.posters[30].any()
        assert len(set(kept.groups)) == 80 - 44  # 0 to 44 are one through others
        assert not any("missing" in line for line in kept.account)

    def test_each_of_several_columns_may_hold_one_and_a_group_too(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", films=40)
        lines = (folder / CSV).read_text("utf-8").splitlines()
        more = [f"Title {n},{'n/a' if n < 30 else 'Ford'},{'No plot.' if n < 3 else 'Plot'}" for n in range(40)]
        (folder / CSV).write_text("\n".join(map(",".join, zip(lines, ["title,director,plot", *more]))), "utf-8")
        named = {"data__columns": {"overview": ["title", "plot"], "group": "director", "genres": ["War"]}}
        films = load(folder, cache, **named)
        assert films.overviews[0] == "Title 0"
        assert films.overviews[3] == "Title 3\nPlot"
        assert len(set(films.groups)) == 30 + 1
        assert films.account[-1].startswith(
            "counted as missing: the overview 'No plot.' in 3 films, the group 'n/a' in 30 films (--keep"
        )
        kept = load(folder, cache, data__keep_placeholders=True, **named)
        assert kept.overviews[0] == "Title 0\nNo plot."
        assert len(set(kept.groups)) == 2

    def test_films_that_have_nothing_else_do_not_make_a_folder_the_wrong_one(self, folder, cache):
        for file in (folder / "Images").iterdir():
            file.unlink()
        change(folder, dict.fromkeys(range(20), "No overview found."))
        films = load(folder, cache)
        assert len(films) == 20
        assert films.account[-1].startswith("counted as missing: the overview 'No overview found.' in 20 films")

    def test_made_films_have_none(self, cache):
        films = load_films(tiny_config("joint", data__films=400).data, cache, poster_size=16)
        assert len(films) == 400
        assert not any("missing" in line for line in films.account)

    def test_a_run_knows_what_counted_as_missing_in_other_films_too(self, folder, cache, tmp_path, monkeypatch):
        """40 films, of which 0 to 24 share an overview, and 15 to 39 a poster."""
        change(folder, dict.fromkeys(range(25), "Coming soon!"))
        for number in range(15, 40):
            Image.new("RGB", (20, 30), "lightgray").save(poster(folder, number))
        run = experiment.train(of(folder, "joint"), tmp_path / "run", cache)
        report.write_report(run)
        assert run.facts["placeholders"] == {
            "overview": [content_hash("Coming soon!")],
            "poster": [content_hash(poster(folder, 30).read_bytes())],
        }

        (tmp_path / "new").mkdir()
        shutil.copy(poster(folder, 30), tmp_path / "new" / "b.jpg")
        for name, colour in (("a", "red"), ("c", "blue")):
            Image.new("RGB", (20, 30), colour).save(tmp_path / "new" / f"{name}.jpg")
        file = tmp_path / "new" / "films.csv"
        rows = ("Id,Overview,genres", "a, Coming soon! ,War", "b,A ghost,War|Comedy", "c,A train,", "d,A king,War")
        file.write_text("\n".join(rows))
        without = {"a": "poster", "b": "overview", "c": "poster + overview", "d": "overview"}
        kept = without | {"a": "poster + overview", "b": "poster + overview"}
        for words, expected in (([], without), (["--keep-placeholders"], kept)):
            sheet = tmp_path / "sheet.csv"
            assert command(predict.main, monkeypatch, run.folder, "--films", file, "--out", sheet, *words) == 0
            out = tmp_path / f"scored{len(words)}"
            assert command(evaluate.main, monkeypatch, run.folder, "--films", file, "--out", out, *words) == 0
            for one in (sheet, out / "predictions.csv"):
                with one.open(newline="", encoding="utf-8") as opened:
                    assert {row["id"]: row["read"] for row in csv.DictReader(opened)} == expected
            assert sheet.read_bytes() == (out / "predictions.csv").read_bytes()
