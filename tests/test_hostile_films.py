"""A data folder from a stranger harms nobody: each fault is really made, then named, or passed over and counted."""

import csv
import faulthandler
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import pack, tiny_config, write_folder
from pictures import RED_LEFT, encoded
from tables import films_in

from mmfusion.data import mmimdb
from mmfusion.data.film_table.film_table_dataset_builder import PRESENT as CSV_NAME
from mmfusion.data.film_table.reading import MAX_TABLE_BYTES
from mmfusion.data.films import load_films
from mmfusion.data.mmimdb.mmimdb_dataset_builder import ARCHIVE, MAX_JSON_BYTES
from mmfusion.data.posters import MAX_POSTER_BYTES
from mmfusion.data.text import encode_overviews, fit_vocabulary
from mmfusion.errors import UserError, run_command


@pytest.fixture(autouse=True)
def _nothing_hangs():
    """A thread that waits for a pipe cannot be stopped: the process ends, with a traceback."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def films_of(folder, cache, dataset="multimodal_imdb", **overrides):
    return load_films(
        tiny_config("poster", data__dataset=dataset, data__data_dir=str(folder), **overrides).data, cache
    )


# ---------------------------------------------------------------- 1: what is no poster

BAD_FILES = {
    "jpeg cut": encoded(RED_LEFT, "JPEG")[:400],
    "png cut": encoded(RED_LEFT)[:70],
    "gif cut": encoded(RED_LEFT, "GIF")[:-60],
    "webp cut": encoded(RED_LEFT, "WEBP")[:-20],
    "bmp cut": encoded(RED_LEFT, "BMP")[:-20],
    "html": b"<!DOCTYPE html><title>404 Not Found</title>",
    "empty": b"",
    "a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


class TestBadPosters:
    @pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
    def test_it_stops_with_the_films_name_or_is_left_out_and_counted(self, folder, cache, capsys, content):
        (folder / "Images" / "tt0007.jpg").write_bytes(content)
        with pytest.raises(UserError, match=r"1 of 40 films .* tt0007 \(not a readable picture \(.* --skip-bad"):
            films_of(folder, cache)
        capsys.readouterr()
        films = films_of(folder, cache, data__skip_bad=True)
        assert list(films.skipped) == ["tt0007"]
        assert "left out: 1 (skipped.csv says why), for example tt0007 (not a read" in capsys.readouterr().err
        films_of(folder, cache, data__skip_bad=True)
        assert "left out" not in capsys.readouterr().err

    def test_more_than_a_third_stops_whatever_was_asked(self, folder, cache):
        for number in range(13):
            (folder / "Images" / f"tt{number:04d}.jpg").write_bytes(b"<html>")
        assert len(films_of(folder, cache, data__skip_bad=True)) == 27
        (folder / "Images" / "tt0013.jpg").write_bytes(b"<html>")
        for asked in (True, False):
            with pytest.raises(UserError, match=r"14 of 40 .* 35% is more than the third .* looks wrong"):
                films_of(folder, cache, data__skip_bad=asked)
        for poster in (folder / "Images").iterdir():
            poster.write_bytes(b"<html>")
        with pytest.raises(UserError, match=r"40 of 40 .* no film is left"):
            films_of(folder, cache, data__skip_bad=True)


# ---------------------------------------------------------------- 3 and 4: what is no file, or lies elsewhere


def grow(path: Path, size: int) -> None:
    """A file of so many bytes that takes no room."""
    path.touch()
    os.truncate(path, size)


class TestFiles:
    def test_a_poster_that_is_a_link_out_of_the_folder_is_named_and_nothing_there_is_opened(
        self, folder, cache, opened
    ):
        outside = folder.parent / "outside"
        outside.mkdir()
        shutil.copy(folder / "Images" / "tt0000.jpg", outside / "secret.jpg")
        os.mkfifo(outside / "pipe")
        targets = [outside / "secret.jpg", Path("../../outside/secret.jpg"), outside / "pipe", outside / "nothing"]
        targets += [Path("/dev/zero"), Path("chain"), Path("/proc/self/environ")]
        (folder / "Images" / "chain").symlink_to(outside / "secret.jpg")
        for number, target in enumerate(targets):
            poster = folder / "Images" / f"tt{number:04d}.jpg"
            poster.unlink()
            poster.symlink_to(target)
        opened.clear()
        with pytest.raises(UserError) as error:
            films_of(folder, cache)
        for number in range(len(targets)):
            assert f"tt{number:04d} (its link leads out of the folder)" in str(error.value)
        looked_at = [path for path in opened if path.startswith(str(folder))]
        assert str(folder / "Images" / "tt0020.jpg") in looked_at
        assert not [path for path in opened if path.startswith((str(outside), "/dev/zero", "/proc/self/environ"))]
        assert not [path for path in looked_at if Path(path).is_symlink()]

    def test_links_inside_the_folder_work_and_images_may_lie_elsewhere(self, folder, cache):
        plain = films_of(folder, cache)
        (folder / "Images" / "kept").mkdir()
        (folder / "Images" / "tt0001.jpg").rename(folder / "Images" / "kept" / "one.jpg")
        (folder / "Images" / "tt0001.jpg").symlink_to("kept/one.jpg")
        (folder / "Images").rename(folder.parent / "elsewhere")
        (folder / "Images").symlink_to(folder.parent / "elsewhere")
        linked = films_of(folder, cache)
        np.testing.assert_array_equal(linked.posters, plain.posters)
        assert list(linked.encoded_posters(["tt0001"])) == ["tt0001"]

    def test_links_to_themselves_are_bad_posters_and_links_to_nothing_none(self, folder, cache):
        for film, target in (("tt0003", "tt0003.jpg"), ("tt0004", "nothing.jpg")):
            (folder / "Images" / f"{film}.jpg").unlink()
            (folder / "Images" / f"{film}.jpg").symlink_to(target)
        with pytest.raises(UserError, match=r"1 of 40 films cannot be read: tt0003 \(poster missing\);"):
            films_of(folder, cache)
        films = films_of(folder, cache, data__skip_bad=True)
        assert films.encoded_posters(["tt0004"]) == {"tt0004": b""}

    def test_a_pipe_a_folder_and_a_file_without_end_are_not_read(self, folder, cache, opened):
        images = folder / "Images"
        for number in (1, 2, 3):
            (images / f"tt{number:04d}.jpg").unlink()
        os.mkfifo(images / "tt0001.jpg")
        (images / "tt0002.jpg").mkdir()
        grow(images / "tt0003.jpg", MAX_POSTER_BYTES + 1)
        opened.clear()
        with pytest.raises(UserError) as error:
            films_of(folder, cache)
        for said in ("tt0001 (poster is not a file)", "tt0003 (more than 64 MiB)"):
            assert said in str(error.value)
        assert not {str(images / f"tt{number:04d}.jpg") for number in (1, 3)} & set(opened)

    @pytest.mark.parametrize(
        ("make", "said"),
        [
            (os.mkfifo, "it is not a plain file"),
            (Path.mkdir, "it is not a plain file"),
            (lambda path: path.symlink_to("/dev/zero"), "its link leads out of the folder"),
            (lambda path: path.symlink_to(path.name), "Symlink loop"),
            (lambda path: grow(path, MAX_TABLE_BYTES + 1), "more than the"),
            (lambda path: path.write_bytes(b""), "is empty"),
        ],
        ids=["pipe", "folder", "device", "circle", "sparse", "empty"],
    )
    def test_a_csv_that_is_no_file_of_its_size_is_named(self, folder, cache, make, said):
        (folder / CSV_NAME).unlink()
        make(folder / CSV_NAME)
        with pytest.raises(UserError, match=rf"{CSV_NAME}.* {said}"):
            films_of(folder, cache)

    @pytest.mark.parametrize("name", ["split.json", "dataset/0000003.json", "dataset/0000003.jpeg"])
    @pytest.mark.parametrize("kind", ["pipe", "link", "sparse"])
    def test_the_same_of_mm_imdb(self, mm_folder, cache, opened, name, kind):
        (mm_folder / name).unlink()
        if kind == "pipe":
            os.mkfifo(mm_folder / name)
        elif kind == "link":
            (mm_folder / name).symlink_to("/dev/zero")
        else:
            grow(mm_folder / name, 1 + (MAX_POSTER_BYTES if name.endswith("jpeg") else MAX_JSON_BYTES))
        opened.clear()
        with pytest.raises(UserError, match=r"split\.json|0000003 \(") as error:
            films_of(mm_folder, cache, "mmimdb")
        expected = {
            "pipe": "not a file|neither",
            "link": "its link leads out of the folder|neither",
            "sparse": "more than",
        }
        assert re.search(expected[kind], str(error.value))
        if kind != "sparse":  # the fingerprint may read a JSON that is too large for a JSON
            assert not {str(mm_folder / name), "/dev/zero"} & set(opened)

    def test_a_pipe_of_the_archives_name_is_not_opened(self, tmp_path, cache):
        os.mkfifo(tmp_path / ARCHIVE)
        with pytest.raises(UserError, match="holds neither"):
            films_of(tmp_path, cache, "mmimdb")

    def test_names_that_are_not_utf_8_are_passed_over(self, mm_folder, cache):
        (mm_folder / "dataset" / os.fsdecode(b"\xff\x1b[2J.json")).write_text("{}")
        assert len(films_of(mm_folder, cache, "mmimdb")) == 30


BAD_IDS = [
    "../../x",
    "/etc/passwd",
    "a\0b",
    "",
    ".",
    "..",
    "-rf",
    "a/b",
    "a\\b",
    "C:x",
    "é",
    "x" * 101,
    "a b",
    "a\n",
]


class TestIds:
    @pytest.mark.parametrize("film", [film for film in BAD_IDS if film and film == film.strip()], ids=ascii)
    def test_an_id_that_is_no_safe_name_is_refused_before_any_poster_is_opened(self, folder, cache, opened, film):
        with (folder / CSV_NAME).open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([film, "[]", 0, 0, 1, "the last film"])
        with pytest.raises(UserError, match=r"line 42: the id .* is not made of letters") as error:
            films_of(folder, cache)
        assert "\n" not in str(error.value)
        assert not [path for path in opened if path.endswith(".jpg")]

    @pytest.mark.parametrize("film", [*BAD_IDS, 7, None, ["x"]], ids=ascii)
    def test_the_same_of_mm_imdb(self, mm_folder, cache, opened, film):
        split = json.loads((mm_folder / "split.json").read_text())
        (mm_folder / "split.json").write_text(json.dumps({**split, "test": [film]}))
        builder = mmimdb.make_builder(mm_config(mm_folder), cache)
        opened.clear()
        with pytest.raises(UserError, match=r"split\.json: the id .* is not made of letters"):
            next(builder.films(None))
        assert not [path for path in opened if path.endswith("jpeg")]


def mm_config(folder):
    return tiny_config("poster", data__dataset="mmimdb", data__data_dir=str(folder)).data


# ---------------------------------------------------------------- 6: texts

HEADER = b"Id,Comedy,War,Overview\n"
GOOD = b"tt7,1,0,y\ntt8,0,1,z\n"


class TestTexts:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    @pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
    def test_odd_texts_are_kept_to_the_letter(self, end, mark):
        texts = [
            "NA",
            "nan",
            "None",
            "007",
            "1e5",
            " two spaces ",
            "",
            "a\0b",
            "\u200b",
            "x" * 1_000_000,
            "電影 فيلم 😀",
        ]
        texts += ['"quoted"', "a,b", "a\nb", "a\r\nb", "a\rb", "=1+1", "\ufeff", "\x1b[2J", "'", "\\n"]
        rows = [b'%03d,0,1,"%s"' % (n, text.replace('"', '""').encode()) for n, text in enumerate(texts)]
        genres, films = films_in(mark + end.join([HEADER.strip(), *rows]))
        assert genres == ("Comedy", "War")
        assert [film.overview for film in films] == texts
        assert [film.id for film in films] == [f"{n:03d}" for n in range(len(texts))]
        assert {film.genres for film in films} == {("War",)}

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (HEADER + b'tt1,1,0,"a\nb\r\nc"\ntt2,1,0\n', "line 5: 3 cells, but the header has 4"),
            (HEADER + b'tt1,1,0,"a\nb"\n\n\ntt2,1,7,y\n' + GOOD, "line 6: genre 'War' must be 0 or 1, not '7'"),
            (HEADER + b'tt1,1,0,y\ntt2,1,9,"a\nb\nc"\n' + GOOD, "line 3: genre 'War' must be 0 or 1, not '9'"),
            (HEADER + b'tt1,1,0,"a\nb\nc', "line 2: unexpected end of data"),
            (HEADER + b'tt1,1,0,"a"b\n', "line 2: ',' expected after '\"'"),
            (HEADER.replace(b"\n", b"\r") + "tt1,1,0,é\rtt2,1,0,".encode() + b"\xe9\r", "line 3: not UTF-8"),
            (HEADER + "tt1,1,0,éééé".encode() + b"\xed\xa0\x80\n", "line 2: not UTF-8"),  # half of a surrogate pair
            (HEADER + b'tt1,1,0,"a\nb"\ntt1,1,0,c\n', "line 4: the id tt1 is in line 2 already"),
            (HEADER.replace(b"War", b"\x1b[2JWar") + b"tt1,1,0,y\n", r"genre '\x1b[2JWar' must have a name"),
            (HEADER.replace(b"War", b'"W\nar"') + b"tt1,1,0,y\n", r"genre 'W\nar' must have a name"),
            (
                HEADER.replace(b"War", "W\u202ear".encode()) + b"tt1,1,0,y\n",
                r"genre 'W\u202ear' must have a name",
            ),
            (HEADER + b"tt1,1,0,y\n tt1 ,1,0,c\n", "line 3: the id tt1 is in line 2 already"),
            (HEADER + b"tt1,1," + b"7" * 10**6 + b",y\n" + GOOD, "line 2: genre 'War' must be 0 or 1, not '777"),
        ],
    )
    def test_a_fault_in_the_csv_is_one_short_line_that_names_the_line_where_its_row_begins(self, content, said):
        with pytest.raises(UserError) as error:
            films_in(content)
        assert str(error.value).startswith("films.csv")
        assert said in str(error.value)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 200

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("0000003.json", '{"plot": ["a \\ud800"]}', r"its longest plot holds '\ud800', half of a character"),
            ("0000003.json", '{"plot": [1, 2]}', "'plot' is not made of texts"),
            ("0000003.json", '{"plot": 7}', "'plot' is not made of texts"),
            ("0000003.json", '{"plot": {"a": "b"}}', "'plot' is not made of texts"),
            ("0000003.json", '{"genres": [["War"]]}', "'genres' is not made of texts"),
            ("0000003.json", '{"genres": "War"}', "'genres' is not made of texts"),
            ("0000003.json", '["a"]', "does not hold one film"),
            ("0000003.json", "[" * 500_000, "is not valid JSON"),
            ("0000003.json", '{"a":' * 100_000, "is not valid JSON"),
            ("0000003.json", "1" * 1_000_000, "is not valid JSON"),
            ("0000003.json", b"\xff\xfe\xff", "is not valid JSON"),
            ("0000003.json", "", "is not valid JSON"),
            ("split.json", "[1, 2]", "must hold train, dev, test, not list"),
            ("split.json", '{"train": "0000001", "dev": [], "test": []}', "train must be a list of ids"),
            ("split.json", '{"train": {"a": 1}, "dev": [], "test": []}', "train must be a list of ids"),
            ("split.json", '{"train": [1], "dev": [], "test": []}', "the id 1 is not made of"),
            ("split.json", '{"train": ["1", "1"], "dev": [], "test": []}', "names 1 twice"),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True], ids=["folder", "archive"])
    def test_a_fault_in_a_json_is_one_line_that_names_the_file(
        self, mm_folder, cache, monkeypatch, capsys, name, content, said, packed
    ):
        path = mm_folder / name if name == "split.json" else mm_folder / "dataset" / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        folder = pack(mm_folder) if packed else mm_folder
        assert run_command(lambda: films_of(folder, cache, "mmimdb")) == 2
        _, line = capsys.readouterr().err.strip().split("\n")
        assert f"{name} {said}" in line.replace(f"{name}: ", f"{name} ")

    def test_what_a_message_quotes_cannot_steer_the_terminal(self, mm_folder, cache, capsys):
        (mm_folder / "split.json").write_text(json.dumps({"\x1b[2J\n": []}))
        assert run_command(lambda: films_of(mm_folder, cache, "mmimdb")) == 2
        assert r"not \x1b[2J\n" in capsys.readouterr().err

    def test_films_that_are_not_in_the_split_may_say_what_they_like(self, mm_folder, cache):
        (mm_folder / "dataset" / "other.json").write_text('{"plot": 7}')
        (mm_folder / "dataset" / "other.jpeg").write_text("no picture")
        assert len(films_of(mm_folder, cache, "mmimdb")) == 30

    def test_plots_that_are_null_or_missing_are_empty_overviews(self, mm_folder, cache):
        for number, text in enumerate(('{"plot": null, "genres": null}', "{}", '{"plot": "one text"}')):
            (mm_folder / "dataset" / f"{number:07d}.json").write_text(text)
        films = films_of(mm_folder, cache, "mmimdb")
        assert films.overviews[:3] == ("", "", "one text")
        assert films.labels[:3].sum() == 0


# ---------------------------------------------------------------- 7: overviews with few words or none

OVERVIEWS = {
    "empty": ("", []),
    "white space": (" \t\n\u000b ", []),
    "punctuation": ("?! ... --- ''", []),
    "emoji": ("😀 🎬🎬", ["😀", "🎬🎬"]),
    "zero width": ("\u200b\u200d \ufeff", ["\u200b\u200d", "\ufeff"]),
    "chinese": ("两姐妹继承了一座灯塔。", ["两姐妹继承了一座灯塔。"]),
    "arabic": ("شقيقتان ترثان منارة!", ["شقيقتان", "ترثان", "منارة"]),
    "nul": ("war\0 \0war \0", ["war", "war"]),
    "latin": ("WAR, war; É", ["war", "war", "É"]),
}


class TestOverviews:
    @pytest.mark.parametrize(("overview", "words"), OVERVIEWS.values(), ids=OVERVIEWS)
    def test_its_tokens_are_its_words(self, overview, words):
        vocabulary = fit_vocabulary([overview, ""], 10)
        assert vocabulary[:2] == ["", "[UNK]"]
        assert set(vocabulary[2:]) == set(words)
        tokens = encode_overviews([overview, ""], vocabulary, 6)
        assert (tokens.shape, tokens.dtype) == ((2, 6), np.int32)
        assert [vocabulary[token] for token in tokens[0]] == words + [""] * (6 - len(words))
        assert not tokens[1].any()
        unknown = encode_overviews([overview], ["", "[UNK]", "lighthouse"], 6)
        assert list(unknown[0]) == [1] * len(words) + [0] * (6 - len(words))

    def test_a_folder_without_any_word_or_genre_becomes_films(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films", films=12)
        rows = list(csv.DictReader(io.StringIO((folder / CSV_NAME).read_text())))
        with (folder / CSV_NAME).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows({**row, "Overview": "", "Comedy": 0, "War": 0} for row in rows)
        films = films_of(folder, cache)
        assert films.overviews == ("",) * 12
        assert films.labels.shape == (12, 3)
        assert not films.labels.any()
        assert len(set(films.groups)) == 12  # an empty overview makes no duplicates
        vocabulary = fit_vocabulary(films.overviews, 10)
        assert vocabulary == ["", "[UNK]"]
        assert not encode_overviews(films.overviews, vocabulary, 6).any()
