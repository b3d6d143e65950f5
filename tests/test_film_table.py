"""Films as people have them: what a table's columns are taken for, where posters are found, what is refused."""

import io

import pandas as pd
import pytest
from conftest import write_folder
from PIL import Image
from tables import OVERVIEWS, PIPED, expected, films_in, read, table, understood

from mmfusion import train
from mmfusion.config import DataConfig
from mmfusion.config.flags import columns_of, configure, keys_of, other_films, words_of_films
from mmfusion.data.film_table import make_builder
from mmfusion.data.film_table.pictures import in_folder
from mmfusion.data.film_table.unlabelled import FilmReader
from mmfusion.data.films import load_films
from mmfusion.data.posters import BadPoster, NoPoster
from mmfusion.errors import UserError


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
