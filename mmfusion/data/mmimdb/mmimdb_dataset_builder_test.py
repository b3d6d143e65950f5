"""The builder as tensorflow-datasets tests it, and the archive read in place."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from mmfusion.config import resolve
from mmfusion.data.films import load_films
from mmfusion.data.mmimdb import mmimdb_dataset_builder as builder
from mmfusion.data.posters import NoPoster
from mmfusion.errors import UserError

DUMMY = Path(__file__).parent / "dummy_data"


class MmimdbTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builder.Builder
    SPLITS = {"train": 3, "validation": 1, "test": 2}


def data(folder, **overrides):
    named = {"data.dataset": "mmimdb", "data.data_dir": str(folder)}
    return resolve("poster", overrides={**named, **overrides}).data


def films(folder, cache, **overrides):
    return load_films(data(folder, **overrides), cache)


def account(folder, cache, **overrides):
    """Reads all films: the builder's account of them, and their genres by id."""
    made = builder.make_builder(data(folder, **overrides), cache)
    genres = {film.id: film.genres for film in made.films(None)}
    return made.account, genres


def write(folder, genres, split=("train", "dev", "test"), ending=".jpeg"):
    """Films with these genres, the last of them to test and the one before to validate."""
    (folder / "dataset").mkdir(parents=True)
    ids = [f"{number:07d}" for number in range(len(genres))]
    named = dict(zip(split, (ids[:-2], ids[-2:-1], ids[-1:]), strict=True))
    (folder / "split.json").write_text(json.dumps(named))
    for number, film in enumerate(ids):
        record = {"plot": f"Film {number}", "genres": genres[number]}
        (folder / "dataset" / f"{film}.json").write_text(json.dumps(record))
        Image.new("RGB", (20, 30), (number, 9, 9)).save(folder / "dataset" / f"{film}{ending}", "JPEG")
    return folder


def pack(folder):
    packed = folder.with_name(f"{folder.name}-packed")
    packed.mkdir()
    with tarfile.open(packed / builder.ARCHIVE, "w:gz") as archive:
        archive.add(folder, "mmimdb")
    return packed


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


def test_longest_plot_official_split_and_the_23_genres(cache_dir):
    found = films(DUMMY, cache_dir)
    assert len(found.genres) == 23
    assert found.official_split == {
        "train": ["0000001", "0000002", "0000003"],
        "validation": ["0000004"],
        "test": ["0000005", "0000006"],
    }
    assert found.overviews[0] == "The longer of the two plots of the first film."
    genres = [genre for genre, there in zip(found.genres, found.labels[0]) if there]
    assert genres == ["Drama", "Film-Noir"]  # its "News" is not among the 23


def test_the_archive_gives_the_same_films_and_nothing_is_unpacked(tmp_path, cache_dir):
    packed_dir = tmp_path / "packed"
    packed_dir.mkdir()
    with tarfile.open(packed_dir / builder.ARCHIVE, "w:gz") as archive:
        archive.add(DUMMY, "mmimdb")
        archive.add(DUMMY / "dataset" / "0000001.jpeg", "mmimdb/dataset/0000001.jpeg")  # a file twice
    packed, plain = films(packed_dir, cache_dir), films(DUMMY, cache_dir)
    assert [p.name for p in packed_dir.iterdir()] == [builder.ARCHIVE]
    assert (packed.ids, packed.overviews) == (plain.ids, plain.overviews)
    assert (packed.posters == plain.posters).all()
    assert (packed.labels == plain.labels).all()


def test_faults_are_named(tmp_path, cache_dir):
    folder = shutil.copytree(DUMMY, tmp_path / "mmimdb")
    (folder / "dataset" / "0000002.jpeg").write_bytes(b"no picture")
    (folder / "dataset" / "0000003.json").unlink()
    with pytest.raises(UserError, match=r"2 of 6 films .*0000003 \(its JSON is missing\)"):
        films(folder, cache_dir)
    assert set(films(folder, cache_dir, **{"data.skip_bad": True}).skipped) == {"0000002", "0000003"}
    (folder / "split.json").write_text(json.dumps({"train": [], "dev": [], "test": []}))
    with pytest.raises(UserError, match="holds no film"):
        films(folder, cache_dir)
    (folder / "split.json").write_text(json.dumps({"train": []}))
    with pytest.raises(UserError, match=r"split\.json must hold train, dev, test, not train"):
        films(folder, cache_dir)
    (folder / "dataset" / "0000001.json").write_text("{")
    with pytest.raises(UserError, match=r"0000001\.json is not valid JSON"):
        films(folder, cache_dir)
    (tmp_path / builder.ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(UserError, match="cannot be read"):
        films(tmp_path, cache_dir)


OWN = [["Drama", "anime"], ["Anime", "giallo "], ["Telenovela", "Anime"], ["sci fi", "drama"], [], ["DRAMA", "War"]]


class TestGenresOfOnesOwn:
    def test_case_does_not_matter_and_what_falls_out_is_counted(self, tmp_path, cache_dir):
        said, genres = account(write(tmp_path / "own", OWN), cache_dir)
        assert said == (
            "genres that are not among MM-IMDb's 23 are left out: Anime 3, Telenovela 1, giallo 1, sci fi 1 "
            "(--all-genres keeps all)",
        )
        assert list(genres.values()) == [("Drama",), (), (), ("Drama",), (), ("Drama", "War")]

    def test_nothing_is_said_where_nothing_falls_out(self, tmp_path, cache_dir):
        assert account(write(tmp_path / "own", [["drama"], ["WAR"], ["Film-noir"]]), cache_dir)[0] == ()

    @pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
    def test_all_are_kept_on_request_the_23_first(self, tmp_path, cache_dir, packed):
        folder = write(tmp_path / "own", OWN)
        folder = pack(folder) if packed else folder
        loaded = films(folder, cache_dir, **{"data.all_genres": True})
        assert loaded.genres == ("Drama", "War", "Anime", "Telenovela", "giallo", "sci fi")
        assert loaded.labels.sum(0).tolist() == [3, 1, 3, 1, 1, 1]
        assert account(folder, cache_dir, **{"data.all_genres": True})[0] == ()
        few = films(folder, cache_dir)
        assert few.genres == builder.GENRES
        assert few.fingerprint != loaded.fingerprint

    def test_films_that_were_read_once_are_not_read_again_for_their_genres(self, tmp_path, cache_dir, monkeypatch):
        folder = write(tmp_path / "own", OWN)
        first = films(folder, cache_dir, **{"data.all_genres": True})
        monkeypatch.setattr(builder, "_read", None)
        assert films(folder, cache_dir, **{"data.all_genres": True}).genres == first.genres
        monkeypatch.undo()
        (folder / "dataset" / "0000000.json").write_text('{"plot": "x", "genres": ["Western"]}')
        assert "Western" in films(folder, cache_dir, **{"data.all_genres": True}).genres

    def test_where_all_fall_out_the_message_names_the_option(self, tmp_path, cache_dir):
        folder = write(tmp_path / "own", [["Anime"], ["Anime"], ["\x1b[2J"]])
        said = r"no film has a genre .* MM-IMDb's 23, but Anime 2, '\\x1b\[2J' 1; --all-genres keeps all"
        with pytest.raises(UserError, match=said):
            films(folder, cache_dir)
        for option in (True, False):
            with pytest.raises(UserError, match=r"no film has a genre$"):
                films(write(tmp_path / f"none-{option}", [[]] * 3), cache_dir, **{"data.all_genres": option})

    @pytest.mark.parametrize("genre", ["", "\x1b[2J", "x" * 101])
    def test_a_name_that_cannot_be_shown_is_refused(self, tmp_path, cache_dir, genre):
        folder = write(tmp_path / "own", [["Drama", genre], [], []])
        with pytest.raises(UserError, match=r"printable characters|more than 100 characters"):
            films(folder, cache_dir, **{"data.all_genres": True})
        assert len(films(folder, cache_dir)) == 3

    def test_titles_are_not_taken_for_genres(self, tmp_path, cache_dir):
        folder = write(tmp_path / "own", [[f"title {number}" for number in range(1001)], [], []])
        with pytest.raises(UserError, match=r"1,001 different genres, more than 1,000; leave out --all-genres"):
            films(folder, cache_dir, **{"data.all_genres": True})

    def test_of_many_that_fall_out_the_most_frequent_are_named(self, tmp_path, cache_dir):
        many = [f"genre {number:02d}" for number in range(30)]
        said, _ = account(write(tmp_path / "own", [many, ["War", "genre 29"], []]), cache_dir)
        assert "left out: genre 29 2, genre 00 1, " in said[0]
        assert "genre 18 1, and 10 more (--all-genres" in said[0]


@pytest.mark.parametrize("name", ["dev", "val", "VALID", "Validation"])
def test_a_split_of_ones_own_may_call_it_otherwise(tmp_path, cache_dir, name):
    folder = write(tmp_path / "own", [["War"]] * 4, split=("Train", name, "TEST"))
    split = {"train": ["0000000", "0000001"], "validation": ["0000002"], "test": ["0000003"]}
    assert films(folder, cache_dir).official_split == split


def test_two_splits_to_validate_on_are_refused(tmp_path, cache_dir):
    folder = write(tmp_path / "own", [["War"]] * 3)
    (folder / "split.json").write_text(json.dumps({"train": [], "dev": [], "val": [], "test": []}))
    with pytest.raises(UserError, match="must hold train, dev, test, not train, dev, val, test"):
        films(folder, cache_dir)


class TestPosters:
    @pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
    @pytest.mark.parametrize("ending", [".jpg", ".JPG", ".Jpeg"])
    def test_end_in_jpg_too(self, tmp_path, cache_dir, packed, ending):
        folder = write(tmp_path / "own", [["War"]] * 3, ending=ending)
        loaded = films(pack(folder) if packed else folder, cache_dir)
        np.testing.assert_allclose(loaded.posters[:, 8, 8, 0], range(3), atol=3)

    @pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
    def test_of_two_the_one_is_taken_that_ends_as_in_mm_imdb(self, tmp_path, cache_dir, packed):
        folder = write(tmp_path / "own", [["War"]] * 3)
        for ending in (".jpg", ".JPG"):
            Image.new("RGB", (20, 30), "white").save(folder / "dataset" / f"0000001{ending}", "JPEG")
        loaded = films(pack(folder) if packed else folder, cache_dir)
        assert loaded.ids == ("0000000", "0000001", "0000002")
        assert loaded.posters[:, 8, 8, 0].max() < 9

    @pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
    def test_a_film_may_have_none(self, tmp_path, cache_dir, packed):
        folder = write(tmp_path / "own", [["War"]] * 3)
        (folder / "dataset" / "0000001.jpeg").unlink()
        made = builder.make_builder(data(pack(folder) if packed else folder), cache_dir)
        film = next(film for film in made.films(None) if film.id == "0000001")
        assert (film.overview, film.genres) == ("Film 1", ("War",))
        with pytest.raises(NoPoster, match="poster missing"):
            film.read_poster()
