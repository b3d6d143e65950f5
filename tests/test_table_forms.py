"""How tables of films and their genres are written: usual forms are read, and what would be misread is refused."""

import gzip
import io
import json
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from tables import GENRES, OVERVIEWS, PIPED, expected, read, table, understood

from mmfusion.data.film_table import reading
from mmfusion.data.film_table.frames import keep_frame
from mmfusion.errors import UserError

HALF = pd.Series(["a", "b\ud800", "c"], dtype=object)  # of a character


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
        large, map_of = lists.cast(pa.large_list(pa.string())), pa.MapArray.from_arrays(lists.offsets, texts, texts)
        for column in (texts, lists, large, map_of, pa.StructArray.from_arrays([lists], ["name"])):
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
