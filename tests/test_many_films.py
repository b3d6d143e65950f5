"""Runs asked about all films of a table: labelled or not, with one modality, with other genres."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from conftest import command, write_folder

import mmfusion
from mmfusion import evaluate, inference, predict, train
from mmfusion.data.synthetic.films import draw_poster, write_film
from mmfusion.errors import UserError
from mmfusion.files import inert
from mmfusion.runs import Run


@pytest.fixture(scope="module")
def run(trained) -> Run:
    return trained("joint")


@pytest.fixture
def films(tmp_path) -> pd.DataFrame:
    """Twelve films without labels; 3 has no poster, 4 no overview as it says, 5 neither, and 6 a broken poster."""
    folder = tmp_path / "films"
    (folder / "posters").mkdir(parents=True)
    rows = []
    for number in range(12):
        overview, _ = write_film(7, number + 1)
        rows.append(
            {"id": f"new{number}", "plot": {4: "No overview found.", 5: ""}.get(number, overview), "budget": number}
        )
        if number not in (3, 5):
            (folder / "posters" / f"new{number}.JPG").write_bytes(draw_poster(7, number + 1))
    (folder / "posters" / "new6.JPG").write_bytes(b"\xff\xd8\xff broken")
    frame = pd.DataFrame(rows)
    frame.to_csv(folder / "new.csv", index=False)
    return frame


def predicted(run: Run, films: pd.DataFrame, folder) -> np.ndarray:
    """The run's probabilities (12, G), film by film."""
    broken_or_none = (3, 5, 6)
    files = [
        b"" if n in broken_or_none else (folder / f"posters/new{n}.JPG").read_bytes() for n in range(len(films))
    ]
    overviews = ["" if n == 4 else text for n, text in enumerate(films["plot"])]
    return inference.predict(run, {"poster": files, "overview": overviews})


READ = ["poster + overview"] * 3 + ["overview", "poster", "", "overview"] + ["poster + overview"] * 5


class TestPredict:
    @pytest.mark.parametrize("form", ["csv", "parquet"])
    def test_every_film_has_probabilities_and_decisions(self, run, films, tmp_path, monkeypatch, capsys, form):
        monkeypatch.setattr("mmfusion.inference.many._AT_ONCE", 5)  # so that there are three batches
        out = tmp_path / f"out.{form}"
        assert (
            command(predict.main, monkeypatch, run.folder, "--films", tmp_path / "films/new.csv", "--out", out) == 0
        )
        found = pd.read_csv(out, keep_default_na=False) if form == "csv" else pd.read_parquet(out)
        assert list(found.columns) == ["id", "read", *(c for g in run.genres for c in (g, f"{g} decided"))]
        assert list(found["id"]) == list(films["id"])
        assert list(found["read"]) == READ
        expected = predicted(run, films, tmp_path / "films")
        there = [row for row in range(12) if READ[row]]
        probabilities = found.loc[there, list(run.genres)].to_numpy(float)
        np.testing.assert_allclose(probabilities, expected[there], atol=6e-5 if form == "csv" else 1e-6)
        nothing = found.loc[5, list(found.columns[2:])]
        assert (nothing.isna() | (nothing == "")).all()
        said = capsys.readouterr().out
        for line in ("2 films: by overview", "1 film: nothing that the run reads, no prediction", "12 films in "):
            assert line in said
        assert "posters that cannot be read and count as missing: 1, as new6's: not a readable picture" in said

    def test_the_same_from_python(self, run, films, tmp_path):
        found = mmfusion.predict(run, films=films, data_dir=tmp_path / "films")
        assert list(found.index) == list(films["id"])
        assert found.iloc[5].isna().all()
        there = [row for row in range(12) if READ[row]]
        expected = predicted(run, films, tmp_path / "films")
        np.testing.assert_allclose(found.to_numpy()[there], expected[there], atol=1e-6)

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (["--films", "nowhere.csv", "--out", "x.csv"], "--films nowhere.csv: there is no such file"),
            (["--films", ".", "--out", "x.csv"], "--films . is a folder; name the file"),
            (["--films", "{films}"], "--films needs --out FILE"),
            (["--films", "{films}", "--out", "x.txt"], "must end with .csv or .parquet"),
            (["--films", "{films}", "--out", "x.csv", "--overview", "A war."], "--overview is of one film"),
            (["--overview", "A war.", "--out", "x.csv"], "--out goes with --films FILE"),
            (["--overview", "A war.", "--encoding", "cp1251"], "--encoding goes with --films FILE"),
            (["--films", "{films}", "--out", "none/x.csv"], "cannot write none/x.csv"),
            (
                ["--films", "{films}", "--out", "x.csv", "--columns", "split=id"],
                "--columns split does nothing here",
            ),
            (["--films", "{films}", "--out", "x.csv", "--columns", "id=Name"], "has no such column; it has 'id'"),
        ],
    )
    def test_what_is_wrong_is_one_line(self, run, films, tmp_path, monkeypatch, capsys, more, said):
        monkeypatch.chdir(tmp_path)
        words = [word.format(films=tmp_path / "films/new.csv") for word in more]
        assert command(predict.main, monkeypatch, run.folder, *words) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
        assert not list(tmp_path.glob("*x.csv*"))

    def test_an_id_is_no_formula_in_the_file_and_nothing_that_a_terminal_obeys(
        self, run, tmp_path, monkeypatch, capsys
    ):
        ids = ['=HYPERLINK("http://x.y")', "-5+cmd", "\x1b[2Jone", "plain"]
        frame = pd.DataFrame({"id": ids, "overview": ["A ghost", "A war", "A train", "A king"], "poster": ""})
        frame.loc[2, "poster"] = "broken.jpg"
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
        frame.to_csv(tmp_path / "new.csv", index=False)
        out = tmp_path / "out.csv"
        words = ("--films", tmp_path / "new.csv", "--out", out)
        assert command(predict.main, monkeypatch, run.folder, *words) == 0
        with out.open(newline="", encoding="utf-8") as file:
            assert [row["id"] for row in csv.DictReader(file)] == [f"'{ids[0]}", f"'{ids[1]}", ids[2], "plain"]
        said = "".join(capsys.readouterr())
        assert "as \\x1b[2Jone's: not a readable picture" in said
        assert "\x1b" not in said

    def test_rows_without_an_id_and_with_that_of_another_are_counted(self, run, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr("mmfusion.inference.many._AT_ONCE", 2)
        file, out = tmp_path / "new.csv", tmp_path / "out.csv"
        file.write_text("id,overview\na,A ghost\n,A war\nb,A train\na,A king\n ,A dog\na,A ghost\n")
        for _ in range(2):
            assert command(predict.main, monkeypatch, run.folder, "--films", file, "--out", out) == 0
            assert list(pd.read_csv(out)["id"]) == ["a", "b", "a", "a"]
            said = capsys.readouterr().out
            assert "rows without an id, which are passed over: 2" in said
            assert "rows with the id of a row before them, which are predicted like others: 2" in said
            assert "4 films in " in said

    @pytest.mark.parametrize(
        ("rows", "said"),
        [
            (",A ghost\n ,A war\n", "new.csv: the column 'id' is empty; name another with --columns id=COLUMN"),
            ("a,\nb,No overview found.\n", "new.csv: no film has what {run} reads (poster or overview); name"),
        ],
    )
    def test_a_table_in_which_nothing_can_be_read_is_refused(self, run, tmp_path, monkeypatch, capsys, rows, said):
        file, out = tmp_path / "new.csv", tmp_path / "out.csv"
        file.write_text(f"id,overview\n{rows}")
        columns = ("--columns", "id=id", "overview=overview")
        assert command(predict.main, monkeypatch, run.folder, "--films", file, "--out", out, *columns) == 2
        assert said.format(run=run.folder) in capsys.readouterr().err.splitlines()[-1]
        assert not list(tmp_path.glob("*out.csv*"))
        with pytest.raises(UserError) as error:
            mmfusion.predict(run, films=file, columns={"id": "id", "overview": "overview"})
        assert said.format(run=run.folder) in str(error.value)

    def test_encoding_and_separator_can_be_named(self, run, tmp_path, monkeypatch, capsys):
        text = "id|overview\na|Две сестры наследуют маяк\nb|Вор в тумане\n"
        (tmp_path / "new.csv").write_text(text, encoding="cp1251")
        (tmp_path / "plain.csv").write_text(text.replace("|", ","), encoding="utf-8")
        for name, words in (("new", ("--encoding", "cp1251", "--separator", "|")), ("plain", ())):
            files = ("--films", tmp_path / f"{name}.csv", "--out", tmp_path / f"of-{name}.csv")
            assert command(predict.main, monkeypatch, run.folder, *files, *words) == 0
        assert (tmp_path / "of-new.csv").read_bytes() == (tmp_path / "of-plain.csv").read_bytes()
        assert "new.csv: 2 columns; cp1251, cells parted by '|'" in capsys.readouterr().err
        found = mmfusion.predict(run, films=tmp_path / "new.csv", encoding="cp1251", separator="|")
        assert list(found.index) == ["a", "b"]

    def test_no_cell_is_a_formula(self):
        assert [inert(cell) for cell in ("=1+1", "-x", "+1", "@a", "a", "", -1.5)] == [
            "'=1+1",
            "'-x",
            "'+1",
            "'@a",
            "a",
            "",
            -1.5,
        ]


class TestEvaluate:
    def labelled(self, folder, genres_of, films=30):
        rows = []
        for number in range(films):
            overview, genres = write_film(9, number + 1)
            rows.append({"id": f"other{number}", "overview": overview, "genres": "|".join(genres_of(genres))})
        folder.mkdir()
        pd.DataFrame(rows).to_csv(folder / "films.tsv", index=False, sep="\t")
        return folder / "films.tsv"

    def test_what_run_and_films_have_in_common_is_scored(self, run, tmp_path, monkeypatch, capsys):
        """Fewer genres, one written otherwise and one that the run does not know."""
        kept = ("poster_1", "overview_1", "both_1")
        file = self.labelled(
            tmp_path / "other",
            lambda of: [g.upper() if g == "both_1" else g for g in of if g in kept] + ["Western"],
        )
        out = tmp_path / "out"
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file, "--out", out) == 0
        report = json.loads((out / "report.json").read_text())
        assert [row["genre"] for row in report["genres"]] == ["poster_1", "overview_1", "both_1"]
        assert report["films"] == 30
        said = capsys.readouterr().out
        assert "Not scored: only the films have Western" in said
        assert f"Not scored: only {run.folder} knows poster_2, overview_2, both_2, xor_1, xor_2" in said
        sheet = list(csv.DictReader(io.StringIO((out / "predictions.csv").read_text())))
        assert len(sheet) == 30
        assert {"poster_1", "poster_1 decided", "xor_2"} <= sheet[0].keys()

    def test_nothing_is_written_into_the_runs_own_folder(self, run, tmp_path, monkeypatch, capsys):
        file = self.labelled(tmp_path / "other", lambda of: of)
        before = sorted(run.folder.rglob("*"))
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file, "--out", run.folder) == 2
        assert "is a run's own folder" in capsys.readouterr().err
        assert sorted(run.folder.rglob("*")) == before

    def test_without_a_folder_for_it_the_report_is_not_kept_and_the_runs_own_stays(
        self, run, tmp_path, monkeypatch, capsys
    ):
        file = self.labelled(tmp_path / "other", lambda of: of)
        state = lambda: {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}  # noqa: E731
        before = state()
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file) == 0
        said = capsys.readouterr().out
        assert said.endswith("\nNothing was written; --out DIR keeps this report, with figures\n")
        assert state() == before

    def test_encoding_and_separator_can_be_named(self, run, tmp_path, monkeypatch, capsys):
        file = self.labelled(tmp_path / "other", lambda of: of)
        frame = pd.read_csv(file, sep="\t").assign(overview=lambda of: of["overview"] + " Маяк.")
        frame.assign(genres=frame["genres"].str.replace("|", ";")).to_csv(
            file, sep="|", index=False, encoding="cp1251"
        )
        named = ("--encoding", "cp1251", "--separator", "|")
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file, *named) == 0
        assert "cp1251, cells parted by '|'" in capsys.readouterr().err
        assert command(evaluate.main, monkeypatch, run.folder, *named) == 2
        assert "--encoding goes with --data-dir or --films" in capsys.readouterr().err

    def test_a_split_of_the_other_films_does_not_matter(self, run, tmp_path, monkeypatch, capsys):
        file = self.labelled(tmp_path / "other", lambda of: of)
        pd.read_csv(file, sep="\t").assign(split="test").to_csv(file, sep="\t", index=False)
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file) == 0

    def test_films_of_other_genres_alone_are_refused(self, run, tmp_path, monkeypatch, capsys):
        file = self.labelled(tmp_path / "other", lambda of: ["Western"] if "both_1" in of else ["War"])
        assert command(evaluate.main, monkeypatch, run.folder, "--films", file) == 2
        assert "have no genre in common" in capsys.readouterr().err


class TestTrain:
    def test_check_says_what_is_read_and_trains_nothing(self, tmp_path, monkeypatch, capsys):
        folder = write_folder(tmp_path / "films")
        monkeypatch.chdir(tmp_path)
        named = ["--variant", "late", "--data-dir", folder]
        assert command(train.main, monkeypatch, *named, "--check") == 0
        out, err = capsys.readouterr()
        assert "28 train, 4 validation, 8 test films" in out
        assert "columns: id = Id, overview = Overview" in err
        assert not (tmp_path / "runs").exists()
        (folder / "Images" / "tt0001.jpg").write_bytes(b"<html>")
        assert command(train.main, monkeypatch, *named, "--check", "--fusion", "gated") == 2
        assert "--fusion does nothing here" in capsys.readouterr().err
        assert command(train.main, monkeypatch, *named, "--check") == 2
        assert "tt0001 (not a readable picture" in capsys.readouterr().err

    def test_a_frame_trains_and_films_of_one_group_stay_together(self, tmp_path, monkeypatch):
        frame = pd.DataFrame(
            [
                {
                    "number": n,
                    "plot": f"A film about thing{n} and war{n % 3}",
                    "tags": ["War"] * (n % 2),
                    "by": n // 4,
                }
                for n in range(40)
            ]
        )
        monkeypatch.chdir(tmp_path)
        columns = {"id": "number", "overview": "plot", "genres": "tags"}
        run = mmfusion.train(
            "overview", films=frame, columns=columns, group_by="by", epochs=1, settings=SMALL, out="run"
        )
        side = {film: name for name, films in run.split.items() for film in films}
        assert all(len({side[str(4 * group + i)] for i in range(4)}) == 1 for group in range(10))
        assert run.facts["source"][0].startswith("frame-")
        found = mmfusion.predict(run, films=frame)  # its columns are called as those that it was trained on
        assert list(found.index) == [str(n) for n in range(40)]
        assert found.notna().all().all()
        with pytest.raises(UserError, match="no training film has a poster"):
            mmfusion.train("poster", films=frame, columns=columns, epochs=1, settings={}, out="other")


SMALL = {"overview_encoder.bag.embedding_dim": 8, "overview_encoder.bag.ngrams": 0}
