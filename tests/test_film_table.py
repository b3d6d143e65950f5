"""Films as people have them: which tables are read, what their columns are taken for, and what is refused."""

import csv
import gzip
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import write_folder
from PIL import Image
from pyarrow import parquet
from tables import films_in, understood

from mmfusion import train
from mmfusion.config import DataConfig
from mmfusion.config.flags import columns_of, configure, keys_of, other_films, words_of_films
from mmfusion.data.film_table import make_builder, reading
from mmfusion.data.film_table.frames import keep_frame
from mmfusion.data.film_table.pictures import in_folder
from mmfusion.data.film_table.unlabelled import FilmReader
from mmfusion.data.films import load_films
from mmfusion.data.posters import BadPoster, NoPoster
from mmfusion.errors import UserError

OVERVIEWS = ("Zwei Schwestern erben einen Leuchtturm – für immer.", "Ein Dieb, ein Café; und Züge.", "Nebel.")
GENRES = (("Drama", "War"), ("Comedy",), ())


def table(genres, header=("id", "overview", "genres"), ids=("1", "2", "3"), **form) -> str:
    """A CSV of three films with these cells of genres."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n", **form)
    writer.writerow(header)
    writer.writerows(zip(ids, OVERVIEWS, genres))
    return out.getvalue()


HALF = pd.Series(["a", "b\ud800", "c"], dtype=object)  # of a character
PIPED = ("Drama|War", "Comedy", "")


def read(content, name="films.csv", **named):
    content = content.encode() if isinstance(content, str) else content
    genres, films = films_in(content, name, **named)
    return genres, [(film.id, film.overview, film.genres) for film in films]


def expected():
    return ("Comedy", "Drama", "War"), list(zip(("1", "2", "3"), OVERVIEWS, GENRES))


class TestForms:
    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("a.csv", table(PIPED).encode(), "UTF-8, cells parted by commas"),
            ("a.csv", table(PIPED).encode("utf-8-sig"), "UTF-8, cells parted by commas"),
            ("a.csv", table(PIPED, delimiter=";").encode("cp1252"), "Windows-1252, cells parted by semicolons"),
            ("a.csv", table(PIPED).encode("utf-16"), "UTF-16, cells parted by commas"),
            ("a.csv", table(PIPED).encode("utf-16-le"), "UTF-16, cells parted by commas"),
            ("a.tsv", table(PIPED, delimiter="\t").encode(), "UTF-8, cells parted by tabs"),
            ("a.csv", table(PIPED, delimiter="\t").encode("utf-16"), "UTF-16, cells parted by tabs"),
        ],
    )
    def test_encoding_and_separator_are_found_out_and_said(self, name, content, said):
        assert read(content, name) == expected()
        assert said in understood(content, name).account[0]

    def test_others_are_named(self):
        content = table(PIPED).replace("–", "-").encode("latin-1")
        assert read(content, form={"encoding": "latin-1"})[1][0][1] == OVERVIEWS[0].replace("–", "-")
        assert read(table(["Drama", "War", ""], delimiter="|"), form={"separator": "|"})[0] == ("Drama", "War")
        for form, said in (
            ({"encoding": "klingon"}, "no encoding 'klingon'"),
            ({"separator": "ab"}, "one character"),
        ):
            with pytest.raises(UserError, match=said):
                understood(table(PIPED).encode(), form=form)
        with pytest.raises(UserError, match=r"is not ascii .* --encoding NAME"):
            understood(table(PIPED).encode(), form={"encoding": "ascii"})

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_json_lines(self, end):
        rows = [
            {"id": film, "overview": text, "genres": [{"id": 7, "name": name} for name in names]}
            for film, text, names in zip((1, 2, 3), OVERVIEWS, GENRES)
        ]
        rows[2]["genres"] = None
        assert read(end.join(json.dumps(row) for row in rows), "films.jsonl") == expected()
        assert read(json.dumps(rows, indent=1), "films.json") == expected()
        with pytest.raises(UserError, match=r"films\.jsonl, line 2: not valid JSON"):
            read('{"id": 1}\n{"id": ', "films.jsonl")
        with pytest.raises(UserError, match=r"films\.jsonl, line 1: not an object"):
            read("7\n", "films.jsonl")

    def test_parquet_with_a_column_of_a_split(self):
        frame = pd.DataFrame({"id": [1, 2, 3], "overview": OVERVIEWS, "genres": [list(of) for of in GENRES]})
        frame["split"] = ["train", "Val", "test"]
        file = io.BytesIO()
        frame.to_parquet(file)
        assert read(file.getvalue(), "films.parquet") == expected()
        found = understood(file.getvalue(), "films.parquet")
        assert found.sides == ("train", "validation", "test")
        assert [film.split for film in found.films()] == ["train", "validation", "test"]

    def test_parquet_that_would_run_or_unpack_what_it_likes_is_refused(self):
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((3, 2)))
        file = io.BytesIO()
        parquet.write_table(pa.table({"id": ["1", "2", "3"], "x": tensors}), file)
        for content in (b"PAR1" * 9, file.getvalue()[:-9], b""):
            with pytest.raises(UserError, match=r"films\.parquet"):
                read(content, "films.parquet")
        with pytest.raises(UserError, match=r"the column 'x' is of the type extension.*; write it as a text"):
            read(file.getvalue(), "films.parquet")

    def test_parquet_that_grows_when_it_is_read_is_refused_before_it_has_grown(self):
        file = io.BytesIO()
        texts = pa.array(["x" * 200_000]).take(pa.array([0] * 10_000))
        lists = pa.ListArray.from_arrays(pa.array([0, *range(1, 10_001)], pa.int32()), texts)
        for column in (texts, lists):
            parquet.write_table(pa.table({"id": [str(i) for i in range(10_000)], "genres": column}), file)
            assert len(file.getvalue()) < 200_000
            tracemalloc.start()
            before = pa.total_allocated_bytes()
            with pytest.raises(UserError, match="row 1 or after it: texts that are too long"):
                read(file.getvalue(), "films.parquet")
            assert tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before < 50_000_000
            tracemalloc.stop()
            file = io.BytesIO()

    def test_more_rows_columns_or_bytes_than_anybody_has_are_refused(self, monkeypatch):
        file = io.BytesIO()
        parquet.write_table(pa.table({"id": ["1", "2"], "overview": ["A", "B"], "genres": ["War", "Drama"]}), file)
        contents = {"films.csv": table(PIPED).encode(), "films.parquet": file.getvalue()}
        for limit, value, said in (
            ("MAX_ROWS", 1, "more than 1 rows"),
            ("_MOST_COLUMNS", 2, "more than 2 columns"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(reading, limit, value)
                for name, content in contents.items():
                    with pytest.raises(UserError, match=said):
                        read(content, name)
        monkeypatch.setattr(reading, "_MOST_UNPACKED", 20)
        with pytest.raises(UserError, match="unpacks to more than"):
            read(contents["films.parquet"], "films.parquet")

    @pytest.mark.parametrize(
        ("content", "name", "said"),
        [
            (gzip.compress(table(PIPED).encode()), "films.csv.gz", "is packed, or a spreadsheet; unpack it"),
            (b"PK\x03\x04 and so on", "films.xlsx", "is packed, or a spreadsheet; unpack it"),
            (
                f"id,overview,genres\n1,{'两姐妹继承了一座灯塔。' * 9},剧情\n".encode("gb18030"),
                "films.csv",
                "gb18030",
            ),
            (f"id,overview,genres\n1,{'Две сестры и маяк. ' * 9},Драма\n".encode("cp1251"), "films.csv", "cp1251"),
        ],
    )
    def test_what_would_come_out_as_gibberish_is_refused(self, content, name, said):
        with pytest.raises(UserError, match=said):
            read(content, name)

    def test_a_named_encoding_drops_the_mark_too(self):
        assert read(table(PIPED).encode("utf-8-sig"), form={"encoding": "utf-8"}) == expected()

    def test_a_frame_is_kept_as_a_file(self, tmp_path):
        frame = pd.DataFrame({"overview": OVERVIEWS, "genres": [list(of) for of in GENRES]}, index=[1, 2, 3])
        frame.index.name = "id"
        file = keep_frame(frame, tmp_path)
        assert keep_frame(frame, tmp_path) == file
        assert read(file.read_bytes(), "films.parquet") == expected()
        with pytest.raises(UserError, match="must have a text for its name"):
            keep_frame(pd.DataFrame({7: [1]}), tmp_path)

    def test_what_has_a_name_of_a_frames_index_is_a_column(self, tmp_path):
        frame = pd.DataFrame({"id": [1, 2, 3], "overview": OVERVIEWS, "genres": [list(of) for of in GENRES]})
        file = keep_frame(frame.set_index(["id", "overview"]), tmp_path)
        assert read(file.read_bytes(), "films.parquet") == expected()

    def test_a_frozenset_is_written_as_a_set_is(self, tmp_path):
        for kind in (set, frozenset):
            frame = pd.DataFrame({"id": [1, 2, 3], "overview": OVERVIEWS, "genres": [kind(of) for of in GENRES]})
            assert read(keep_frame(frame, tmp_path).read_bytes(), "films.parquet") == expected()

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda of: of.set_index("id", drop=False), "index cannot become a column: cannot insert id"),
            (lambda of: of.set_axis(["id", "x", "x"], axis=1), "the frame's column 'x' is there twice"),
            (
                lambda of: of.set_axis(pd.Index(["id", "x", "\ud800"], dtype=object), axis=1),
                "must have a text for its name",
            ),
            (lambda of: of.assign(overview=HALF), r"'overview' holds '\ud800', half of"),
        ],
    )
    def test_a_frame_that_is_no_table_is_refused_in_one_line(self, tmp_path, change, said):
        frame = pd.DataFrame({"id": [1, 2, 3], "overview": OVERVIEWS, "genres": ["War"] * 3}, dtype=object)
        with pytest.raises(UserError) as error:
            keep_frame(change(frame), tmp_path)
        assert said in str(error.value)
        assert "\n" not in str(error.value)

    def test_chinese(self):
        content = "id,片名,overview,genres\n1,灯塔,两姐妹继承了一座灯塔。,剧情|战争\n2,雾,雾中的小偷。,喜剧\n"
        genres, films = read(content)
        assert set(genres) == {"剧情", "战争", "喜剧"}
        assert films[0] == ("1", "两姐妹继承了一座灯塔。", ("剧情", "战争"))


class TestGenres:
    @pytest.mark.parametrize(
        "cells",
        [
            PIPED,
            ("Drama, War", "Comedy", "(no genres listed)"),
            ("Drama;War", " Comedy ", "nan"),
            ("['Drama', 'War']", "['Comedy']", "[]"),
            ('["Drama", "War"]', '["Comedy"]', ""),
            ('[{"id": 1, "name": "Drama"}, {"id": 2, "name": "War"}]', '[{"name": "Comedy"}]', "[]"),
            ("[{'id': 1, 'name': 'Drama'}, {'id': 2, 'name': 'War'}]", "[{'id': 3, 'name': 'Comedy'}]", "None"),
            ('{"/m/1": "Drama", "/m/2": "War"}', '{"/m/3": "Comedy"}', "{}"),
            ("['Drama' 'War']", "['Comedy']", "[]"),  # NumPy's
            ("['Drama'\n 'War']", '["Comedy"]', "[]"),
            ("['Drama', 'War']", "Comedy", "N/A"),
            ("Drama|War", "['Comedy']", "-"),
            ("['Drama', 'War']", "Comedy", "['unknown']"),
        ],
    )
    def test_one_column_is_read_in_any_usual_form(self, cells):
        assert read(table(cells)) == expected()

    def test_texts_of_numpy_keep_their_apostrophes(self):
        cells = ("""["Children's" 'War' "The 'A' 'B'"]""", r"['It\'s' 'War']", "['War']")
        films = read(table(cells))[1]
        assert [film[2] for film in films] == [("Children's", "War", "The 'A' 'B'"), ("It's", "War"), ("War",)]

    def test_cells_of_several_forms_are_each_read_in_their_own_and_it_is_said(self):
        content = "id,genres\n1,Drama\n2,\"['War', 'Drama']\"\n3,\"Comedy, War\"\n4,War\n"
        found = understood(content.encode())
        assert [film.genres for film in found.films()] == [
            ("Drama",),
            ("War", "Drama"),
            ("Comedy", "War"),
            ("War",),
        ]
        assert "genres = genres (lists or parted by commas)" in found.account[1]

    def test_what_stands_for_none_is_a_genre_beside_others_or_if_a_column_has_its_name(self):
        cells = ("N/A", "Drama, Unknown", "['n/a']")
        assert [film[2] for film in read(table(cells))[1]] == [(), ("Drama", "Unknown"), ()]
        content = "Id,Genre,N/A,War\n1,['N/A'],1,0\n2,\"['War', 'N/A']\",1,1\n3,['War'],0,1\n"
        found = understood(content.encode())
        assert found.genres == ("N/A", "War")
        assert [film.genres for film in found.films()] == [("N/A",), ("N/A", "War"), ("War",)]

    def test_genres_that_differ_in_case_alone_stay_apart_and_it_is_said(self):
        found = understood(b"id,genres\n1,Drama|War\n2,drama\n3,DRAMA\n")
        assert found.genres == ("DRAMA", "Drama", "War", "drama")
        assert "genres that differ in case alone stay apart: DRAMA and Drama and drama" in found.account[1]
        assert "case" not in understood(b"id,genres\n1,Drama|War\n2,Drama\n").account[1]

    def test_many_columns_of_genres_are_not_all_named(self):
        names = [f"Genre {number}" for number in range(15)]
        found = understood(f"id,{','.join(names)}\n1{',1' * 15}\n".encode())
        assert found.genres == tuple(names)
        assert f"genres = the 15 columns of 0 and 1: {', '.join(names[:12])} and 3 more;" in found.account[1]

    def test_titles_are_no_genres_however_few_there_are(self):
        rows = [f"{number},Title {number}\n" for number in range(5)]
        with pytest.raises(UserError, match=r"5 different values in 5 films: no genres; it begins with 'Title 0'"):
            understood(("id,genres\n" + "".join(rows)).encode())
        assert len(understood(("id,genres\n" + "".join(rows[:4])).encode()).genres) == 4
        assert len(understood(("id,genres\n" + "".join(rows) + "9,Title 4\n").encode()).genres) == 5

    @pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "False"), ("1.0", "0.0"), ("true", "false")])
    def test_columns_of_0_and_1_are_genres_if_nothing_else_is_left(self, yes, no):
        rows = [[film, *(yes if g in of else no for g in ("Drama", "War"))] for film, of in zip("123", GENRES)]
        content = "\n".join(",".join(row) for row in [["Id", "Drama", "War"], *rows])
        found = understood(content.encode())
        assert found.genres == ("Drama", "War")  # in the order of their columns
        assert [film.genres for film in found.films()] == [("Drama", "War"), (), ()]
        assert "genres = the 2 columns of 0 and 1: Drama, War" in found.account[1]
        with_title = (
            content.replace("War", "War,Title", 1).replace("\n", ",A title\n").replace("Title,A title", "Title")
        )
        with pytest.raises(UserError, match=r"no column of genres; of 0 and 1 are Drama, War;"):
            understood((with_title + ",x").encode())
        named = understood((with_title + ",x").encode(), genres=("War", "Drama"))
        assert named.genres == ("War", "Drama")

    def test_columns_that_repeat_the_lists_keep_their_order_and_others_are_no_genres(self):
        content = (
            "Id,Genre,War,Sport,Drama,adult\n1,\"['Drama', 'War']\",1,0,1,1\n2,['War'],1,0,0,0\n3,[],0,0,0,0\n"
        )
        found = understood(content.encode())
        assert found.genres == ("War", "Sport", "Drama")  # nobody's genre is one too
        assert found.columns == ("adult",)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("id,genres\n" + "\n".join(f"{i},Title {i}" for i in range(30)), "30 different values in 30 films"),
            ("id,genres\n1,28|12\n2,28\n", "holds numbers, not genres; it begins with '28|12', '28'"),
            ("id,genres\n1,\n2,[]\n", "names no genre"),
            ("id,genres\n1,\"['War', 7\"\n2,\"['War']\"\n", "neither a list in JSON nor one in Python"),
            ("id,genres\n1,[[7]]\n2,\"['War']\"\n", "a list of something else than names"),
            ("id,genres\n1,\"[open('x')]\"\n2,\"['War']\"\n", "neither a list in JSON nor one in Python"),
            (f"id,genres\n1,{'[' * 9999}\n2,['War']\n", "neither a list in JSON nor one in Python"),
            (f"id,genres\n1,\"['{'x' * 10_001}']\"\n2,['War']\n", "a list of more than 10,000 characters"),
            ("id,genres\n1,W\x1b[2Jr\n2,W\n", "must have a name of printable characters"),
            (
                "id,genres\n1,War\n2,\"'Drama','War'\"\n",
                "of no known form (the genre \"'Drama'\" would keep a bracket or quote): \"'Drama','War'\"",
            ),
            ("id,genres\n1,Drama|['War']\n2,War\n", "the genre \"['War']\" would keep a bracket or quote"),
            ('id,genres\n1,"[Drama, War]"\n2,War\n', "neither a list in JSON nor one in Python: '[Drama, War]'"),
        ],
    )
    def test_what_cannot_be_genres_is_shown(self, content, said):
        with pytest.raises(UserError) as error:
            understood(content.encode())
        assert said in str(error.value)


class TestColumns:
    @pytest.mark.parametrize("film", ["id", "imdb_id", "imdbId", "IMDB ID", "movie_id", "movieId", "tconst"])
    @pytest.mark.parametrize("overview", ["overview", "Plot", "DESCRIPTION", "synopsis"])
    @pytest.mark.parametrize("genre", ["genre", "Genres"])
    def test_common_names_are_known(self, film, overview, genre):
        assert read(table(PIPED, (film, overview, genre))) == expected()

    def test_any_column_is_named(self):
        content = table(PIPED, ("Number", "What", "Tags"))
        with pytest.raises(
            UserError, match=r"no column that could be the id; it has 'Number', .* begins with \('1'"
        ):
            read(content)
        named = keys_of({"id": "Number", "overview": ["What", "Tags"], "genres": "tags"})
        named = {key.rpartition(".")[2]: value for key, value in named.items()}
        genres, films = read(content, **named)
        assert (genres, films[1][1]) == (expected()[0], f"{OVERVIEWS[1]}\nComedy")
        with pytest.raises(UserError, match=r"--columns id=Numer: films\.csv has no such column; it has 'Number'"):
            read(content, id="Numer")

    def test_the_index_of_pandas_and_other_columns_do_not_matter(self):
        frame = pd.read_csv(io.StringIO(table(PIPED))).assign(title="The Lamp", adult=0, budget=[1, 2, 3])
        assert read(frame.to_csv()) == expected()

    def test_of_two_ids_the_posters_names_decide_else_the_first_that_is_unique(self):
        content = "id,imdb_id,genres\n7,tt1,War\n7,tt2,War\n8,tt3,Drama\n"
        assert [film.id for film in films_in(content.encode())[1]] == ["tt1", "tt2", "tt3"]
        content = content.replace("\n7,tt2", "\n9,tt2")
        assert [film.id for film in films_in(content.encode())[1]] == ["7", "9", "8"]
        assert "id = id (the first that is unique; not imdb_id)" in understood(content.encode()).account[1]
        found = understood(content.encode(), pictures=[f"x/tt{i}.PNG" for i in (1, 2, 3)])
        assert [film.id for film in found.films()] == ["tt1", "tt2", "tt3"]
        assert "id = imdb_id (the posters are named by it; not id)" in found.account[1]

    def test_ids_that_were_taken_for_numbers_are_mended_and_blank_ones_are_left_out(self):
        found = understood(table(PIPED, ids=("1.0", "2.0", " ")).encode())
        assert [film.id for film in found.films()] == ["1", "2"]
        assert dict(found.left_out) == {"line 4": "no id"}

    @pytest.mark.parametrize(
        ("ids", "said"),
        [
            (("1", "2", "1"), "line 4: the id 1 is in line 2 already"),
            (("The Lamp (1995)", "2", "3"), "line 2: the id 'The Lamp (1995)' is not made of letters"),
            (("../x", "2", "3"), "line 2: the id '../x'"),
            (("", "", " "), "the column 'id' is empty"),
        ],
    )
    def test_ids_that_cannot_be_are_refused(self, ids, said):
        with pytest.raises(UserError) as error:
            read(table(PIPED, ids=ids))
        assert said in str(error.value)
        assert "--columns id=COLUMN" in str(error.value)

    def test_a_column_with_the_name_of_a_split_is_one_only_if_its_cells_are(self):
        content = "id,fold,genres\n1,1,War\n2,2,War\n"
        found = understood(content.encode())
        assert (found.sides, found.columns) == ((), ("fold",))
        assert "fold is no split: it has '1', '2'" in found.account[1]
        with pytest.raises(UserError, match="its cells must be of train, validation, test, not"):
            understood(content.encode(), split="fold")
        with pytest.raises(UserError, match=r"has no test film; .* --columns split=-"):
            understood(b"id,split,genres\n1,train,War\n2,dev,War\n")
        assert understood(b"id,split,genres\n1,train,War\n2,dev,War\n", split="-").sides == ()

    def test_a_split_with_other_words_beside_train_and_test_is_one_and_it_is_said(self):
        content = b"id,split,genres\n1,Train,War\n2,test,War\n3,unlabeled,War\n4,,War\n5,unlabeled,War\n"
        for named in ({}, {"split": "split"}):
            found = understood(content, **named)
            assert found.sides == ("train", "test")
            assert [film.split for film in found.films()] == ["train", "test", "", "", ""]
            assert "split = split (3 on no side: 'unlabeled')" in found.account[1]
        assert "split = split;" in understood(b"id,split,genres\n1,train,War\n2,test,War\n").account[1]

    def test_of_several_columns_with_the_name_of_a_split_the_first_that_is_one_is_taken(self):
        content = b"id,set,partition,fold,genres\n1,DVD,,train,War\n2,BD,,test,Drama\n"
        found = understood(content)
        assert (found.sides, found.columns) == (("train", "test"), ("set", "partition"))
        assert "split = fold" in found.account[1]
        assert "set is no split: it has 'BD', 'DVD'" in found.account[1]
        assert understood(content, split="-").sides == ()
        assert "partition is no split: it is blank" in understood(content.replace(b"fold", b"x")).account[1]
        with pytest.raises(UserError, match=r"--columns split=partition: .* not blank"):
            understood(content, split="partition")

    def test_of_two_columns_whose_names_differ_in_case_or_marks_one_is_named_exactly(self):
        content = b"id,Main Plot,main_plot,genres\n1,a,b,War\n"
        with pytest.raises(
            UserError, match=r"=mainplot: films\.csv has 'Main Plot' and 'main_plot'; write the one"
        ):
            understood(content, overview=["mainplot"])
        assert [film.overview for film in understood(content, overview=["main_plot"]).films()] == ["b"]

    def test_genres_are_needed(self):
        with pytest.raises(UserError, match=r"--columns genres=-: films without genres cannot train or score"):
            understood(b"id,genres\n1,War\n", genres=["-"])

    def test_no_id_is_called_unique_that_is_not(self, tmp_path):
        (tmp_path / "films.csv").write_text("id,imdb_id,overview\n1,tt1,a\n1,tt1,b\n")
        films = FilmReader(DataConfig(dataset="films", file=str(tmp_path / "films.csv")))
        assert "id = id (the first; none is unique; not imdb_id)" in films.account[1]

    def test_what_the_command_line_says_of_columns(self):
        assert columns_of(["id=tconst", "overview=title,plot", "table=Year"]) == {
            "data.columns.id": "tconst",
            "data.columns.overview": ["title", "plot"],
            "table.columns": ["Year"],
        }
        for words, said in (
            (["id"], "write WHAT=COLUMN"),
            (["name=x"], "one of id, overview"),
            (["id=a,b", "id=c"], "named twice"),
        ):
            with pytest.raises(UserError, match=said):
                columns_of(words)


class TestPosters:
    def find(self, pictures, cells=("", "", ""), ids=("1", "2", "3"), **named):
        content = table(PIPED, ids=ids).replace("\n", ",{}\n").format("poster_path", *cells)
        return understood(content.encode(), pictures=pictures, **named)

    @pytest.mark.parametrize(
        ("cells", "pictures"),
        [
            (("a/x.jpg", "b/x.jpg", ""), ("a/x.jpg", "b/x.jpg", "3.png")),
            (("/x.jpg", "/Y.JPG", "./z.jpg"), ("in/x.jpg", "in/y.jpg", "z.jpg")),  # as TMDB has them
            (("", "", ""), ("1.JPEG", "deep/er/2.webp", "Images/3.Png")),
        ],
    )
    def test_path_name_and_id_find_them_anywhere_below_the_folder(self, cells, pictures):
        assert self.find(pictures, cells).posters == tuple(pictures)

    def test_ids_that_lost_their_zeros_are_found_by_their_number_if_one_has_it(self):
        found = self.find(("0000001.jpg", "tt0000002.jpg", "0003.jpg", "tt03.jpg"))
        assert found.posters == ("0000001.jpg", "tt0000002.jpg", "")
        assert "2 by the id's number, zeros were lost" in found.account[1]

    def test_of_two_with_one_name_the_one_in_images_then_the_least_deep_is_taken(self):
        assert self.find(("a/1.jpg", "Images/1.jpg", "2.jpg", "a/2.jpg", "b/c/3.jpg", "b/3.png")).posters == (
            "Images/1.jpg",
            "2.jpg",
            "b/3.png",
        )

    def test_a_file_of_the_rows_name_in_another_folder_is_taken_only_if_there_is_no_doubt(self):
        assert self.find(("in/x.jpg", "in/y.jpg"), ("C:\\films\\x.jpg", "other/y.jpg", "")).posters[:2] == (
            "in/x.jpg",
            "in/y.jpg",
        )
        found = self.find(("1995/a.jpg", "1995/b.jpg"), ("1994/a.jpg", "1995/a.jpg", "1995/b.jpg"))
        assert found.posters == ("", "1995/a.jpg", "1995/b.jpg")  # it is that of the second film
        assert "1 may have one of several, or that of another film: none was taken" in found.account[1]
        found = self.find(("1995/a.jpg", "1996/a.jpg", "b.jpg"), ("1994/a.jpg", "b.jpg", ""))
        assert found.posters == ("", "b.jpg", "")
        assert self.find(("a.jpg", "b.jpg"), ("1994/a.jpg", "1995/a.jpg", "b.jpg")).posters == ("", "", "b.jpg")
        assert self.find(("in/a.jpg",), ("a.jpg", "a.jpg", "")).posters == ("in/a.jpg", "in/a.jpg", "")

    def test_where_several_are_called_by_an_id_it_is_said_which_is_taken(self):
        found = self.find(("backdrops/1.jpg", "posters/1.jpg", "posters/2.jpg", "posters/2.png", "posters/3.jpg"))
        assert found.posters == ("backdrops/1.jpg", "posters/2.jpg", "posters/3.jpg")
        said = "3 by id, 2 had several of that name, such as backdrops/1.jpg and posters/1.jpg: the first was taken"
        assert said in found.account[1]

    @pytest.mark.parametrize(
        ("ids", "pictures", "posters"),
        [
            (
                ("12", "tt13", "14"),
                ("00012.jpg", "tt0013.jpg", "tt14.jpg"),
                ("00012.jpg", "tt0013.jpg", "tt14.jpg"),
            ),
            (("00012", "12", "9"), ("12.jpg", "9.jpg"), ("", "12.jpg", "9.jpg")),  # it gained zeros
            (
                ("tt0862", "tt863", "9"),
                ("862.jpg", "000863.jpg", "9.jpg"),
                ("", "", "9.jpg"),
            ),  # of another numbering
            (("0862", "863", "9"), ("tt862.jpg", "863.jpg", "9.jpg"), ("", "863.jpg", "9.jpg")),
            (("12", "012", "9"), ("00012.jpg", "9.jpg"), ("", "", "9.jpg")),  # one picture, two films
            (("12", "00012", "9"), ("00012.jpg", "9.jpg"), ("", "00012.jpg", "9.jpg")),
        ],
    )
    def test_a_number_finds_a_poster_only_if_the_id_lost_something_and_no_other_film_has_it(
        self, ids, pictures, posters
    ):
        assert self.find(pictures, ids=ids).posters == posters

    def test_figures_of_runs_and_sweeps_below_the_table_are_no_posters(self, tmp_path):
        folder = write_folder(tmp_path / "films", films=2)
        for name, files in (
            ("runs/a", ("config.json", "manifest.json", "films/tt0001.jpg")),
            ("runs/sweep", ("RESULTS.md", "report.html")),
            ("scores", ("report.json", "report.md")),
            ("found", ("search.json", "trials.csv")),
            ("more", ("config.json", "seen.png")),  # somebody's own
        ):
            for file in (*files, "figures/roc.png"):
                path = folder / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
        found = ["Images/tt0000.jpg", "Images/tt0001.jpg", "more/seen.png", "more/figures/roc.png"]
        assert in_folder(folder).names == found
        assert in_folder(folder / "runs" / "a").names == ["films/tt0001.jpg", "figures/roc.png"]  # if it is named

    def test_where_hardly_any_picture_is_a_films_none_is_read_and_a_folder_that_was_named_is_refused(self):
        content = b"id,genres\n" + b"".join(b"%d,War\n" % number for number in range(1, 31))
        found = understood(content, pictures=("1.jpg", "x.jpg"), is_sure=False)
        assert found.posters == ("",) * 30
        assert "1 of 30 films have a poster below FOLDER: looked for '1.jpg'" in found.account[1]
        assert "; none is read" in found.account[1]
        with pytest.raises(UserError, match=r"or read no posters with --columns poster=-$"):
            understood(content, pictures=("1.jpg", "x.jpg"))
        assert understood(content, pictures=("1.jpg", "x.jpg"), poster="-").posters == ("",) * 30
        with pytest.raises(UserError) as error:
            self.find(("y.jpg",), (f"{'x' * 70}.jpg", "", ""))
        assert f"looked for '{'x' * 60}', among" in str(error.value)

    def test_nothing_is_downloaded(self):
        with pytest.raises(UserError, match=r"holds addresses, such as 'https://x/1\.jpg', .* --columns poster=-"):
            self.find((), ("", "https://x/1.jpg", ""))
        assert self.find(("1.jpg",), ("", "https://x/1.jpg", ""), poster="-").posters == ("1.jpg", "", "")

    def test_films_without_a_poster_are_films_but_a_folder_of_other_pictures_is_the_wrong_one(self):
        assert self.find(()).posters == ("", "", "")
        assert "no picture is below FOLDER (looked for '1.jpg')" in self.find(()).account[1]
        with pytest.raises(
            UserError, match=r"0 of 3 films have a poster below FOLDER: looked for 'x/7\.jpg', among 1"
        ):
            self.find(("y.jpg",), ("x/7.jpg", "", ""))

    def test_nothing_outside_of_the_folder_is_read(self, tmp_path):
        folder = write_folder(tmp_path / "films", films=3)
        secret = tmp_path / "secret.jpg"
        (folder / "Images" / "tt0000.jpg").rename(secret)
        (folder / "Images" / "tt0000.jpg").symlink_to(secret)
        (tmp_path / "other").mkdir()
        secret.with_name("other").joinpath("tt0009.jpg").write_bytes(b"x")
        (folder / "linked").symlink_to(tmp_path / "other")
        pictures = in_folder(folder)
        with pytest.raises(BadPoster, match="its link leads out of the folder"):
            pictures.read(pictures.find("tt0000"))
        for path in ("../secret.jpg", "/etc/passwd", str(secret), "linked/tt0009.jpg"):
            assert pictures.find("nobody", path) == ""
        with pytest.raises(NoPoster):
            pictures.read("")

    def test_a_folder_of_too_many_files_is_not_looked_through(self, tmp_path, monkeypatch):
        monkeypatch.setattr("mmfusion.data.film_table.pictures._MOST_FILES", 2)
        with pytest.raises(UserError, match="holds more than 2 files; name the posters' folder with --data-dir"):
            in_folder(write_folder(tmp_path / "films", films=3))


class TestFolder:
    def data(self, folder, **named):
        return DataConfig(dataset="films", data_dir=str(folder), **named)

    def test_the_only_table_is_taken_and_more_are_named(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", films=3)
        (folder / "metadata.csv").write_text("Id,Year\ntt0001,1999\n")
        assert make_builder(self.data(folder), cache).builder_config.genres == ("Comedy", "N/A", "War")
        (folder / "IMDB_overview_genres.csv").rename(folder / "films.csv")
        with pytest.raises(UserError, match=r"2 tables \(films\.csv, metadata\.csv\); name one with --films FILE"):
            make_builder(self.data(folder), cache)
        builder = make_builder(self.data(folder, file=str(folder / "films.csv")), cache)
        assert builder.account[0].startswith("films.csv: 3 rows, 6 columns")

    def test_films_on_no_side_of_the_tables_split_are_not_split(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", films=6)
        table = pd.read_csv(folder / "IMDB_overview_genres.csv", keep_default_na=False)
        table.assign(split=["train", "unused", "test"] * 2).to_csv(folder / "films.csv", index=False)
        (folder / "IMDB_overview_genres.csv").unlink()
        films = load_films(self.data(folder), cache, poster_size=16)
        assert films.official_split == {"train": ["tt0000", "tt0003"], "test": ["tt0002", "tt0005"]}
        assert len(films) == 6
        assert any("split = split (2 on no side: 'unused')" in line for line in films.account)

    def test_another_form_of_a_known_data_set_is_told(self, tmp_path, cache):
        (tmp_path / "split.json").write_text("{}")
        with pytest.raises(UserError, match="looks like MM-IMDb's: add --dataset mmimdb"):
            make_builder(self.data(tmp_path), cache)

    def test_what_is_said_of_columns_makes_other_films(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", films=3)
        name = make_builder(self.data(folder), cache).builder_config.name
        other = self.data(folder, columns={"genres": ("War", "Comedy")})
        assert make_builder(other, cache).builder_config.name != name
        assert make_builder(self.data(folder), cache).builder_config.name == name

    def test_posters_that_choose_another_id_make_other_films(self, tmp_path, cache):
        folder = tmp_path / "films"
        folder.mkdir()
        (folder / "movies.csv").write_text("id,imdb_id,overview,genres\n1,tt9,A thief.,War\n2,tt8,A rebel.,Drama\n")
        names = set()
        for posters in (("1.jpg", "2.jpg"), ("tt9.jpg", "tt8.jpg")):
            for poster in folder.glob("*.jpg"):
                poster.unlink()
            for number, poster in enumerate(posters):
                Image.new("RGB", (20, 30), (number, 9, 9)).save(folder / poster)
            names.add(make_builder(self.data(folder), cache).builder_config.name)
        assert len(names) == 2


def test_flags_that_name_films_name_the_same_films_again(tmp_path, monkeypatch):
    file = tmp_path / "films.csv"
    file.write_text("id,genres\n")
    words = ["--films", str(file), "--group-by", "by", "--skip-bad", "--columns", "id=tconst", "overview=a,b"]
    words += ["--separator", "\t", "--encoding", "latin-1", "--keep-placeholders"]
    config = configure(train.parser().parse_args(words), "overview", 0)
    again = configure(train.parser().parse_args(words_of_films(config)), "overview", 0)
    assert again == config
    assert (config.data.separator, config.data.encoding) == ("\t", "latin-1")
    # Other films may be written in another way: what is not said of them is found out.
    unsaid = {"data_dir": None, "named": {}, "labelled": True, "encoding": None, "separator": None}
    other = other_films(config.data, films=file, **unsaid, keep_placeholders=False)
    assert (other.separator, other.encoding, other.keep_placeholders) == ("", "", True)
    assert (other.columns.id, other.columns.overview) == ("tconst", ("a", "b"))
