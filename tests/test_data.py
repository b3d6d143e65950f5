"""From files to the triple: what is kept exactly, what is refused, and by which words."""

import copy
import pickle
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config, write_folder
from pictures import RED_LEFT, encoded
from PIL import Image
from tables import films_in

from mmfusion.config.sections import AugmentConfig
from mmfusion.data.dealing import deal
from mmfusion.data.encoded import Encoded
from mmfusion.data.film_table import Builder
from mmfusion.data.films import load_films
from mmfusion.data.on_disk import OnDisk
from mmfusion.data.posters import BadPoster, decode_poster
from mmfusion.data.source import BUCKETS, Source
from mmfusion.data.splits import _stratified, duplicate_groups, split_films, split_hash
from mmfusion.data.synthetic.films import GENRES, draw_poster, write_film
from mmfusion.data.text import encode_overviews, fit_vocabulary
from mmfusion.errors import UserError
from mmfusion.schema import OVERVIEW, POSTER

HEADER = b"Id,Comedy,War,Overview\n"
EVERY_WAY = AugmentConfig(crop=0.2, contrast=0.2, colour=0.2, erase=0.3)
GOOD = b"tt7,1,0,y\ntt8,0,1,z\n"


class TestCsv:
    def test_text_is_kept_to_the_letter(self):
        rows = b'007,1,0,"NA"\r\ntt1,0,0,"two\nlines, \xc3\xa9 and ""quotes"""\r\n'
        genres, films = films_in(b"\xef\xbb\xbf" + HEADER + rows)
        assert genres == ("Comedy", "War")
        assert [(f.id, f.overview, f.genres) for f in films] == [
            ("007", "NA", ("Comedy",)),
            ("tt1", 'two\nlines, é and "quotes"', ()),
        ]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "films.csv is empty"),
            (HEADER, "no film"),
            (b"Id,Overview\n1,y\n", "no column of genres"),
            (b"Id,Genre,Overview\n1,[],y\n", "names no genre"),
            (b"Name,Genre\nThe Lamp,War\n", "no column that could be the id; it has 'Name', 'Genre'"),
            (b"Id,War,War,Overview\n1,0,0,y\n", "'War' is there twice"),
            (HEADER + b"tt1,1,2,y\n" + GOOD, "line 2: genre 'War' must be 0 or 1, not '2'"),
            (HEADER + b"tt1,1,,y\n" + GOOD, "line 2: genre 'War' must be 0 or 1, not ''"),
            (HEADER + b"tt1,1,0,y\ntt1,1,0,z\n", "line 3: the id tt1 is in line 2 already"),
            (HEADER + b"tt1,1,0\n", "line 2: 3 cells, but the header has 4"),
            ("é\n".encode() + HEADER + b"tt1,1,0,a\ntt2,1,0,\xff\n", "line 4: not UTF-8"),
            (HEADER + b"../tt1,1,0,y\n", "line 2: the id '../tt1'"),
            (HEADER + b'tt1,1,0,"y\n', "line 2"),
        ],
    )
    def test_a_fault_is_named_with_its_line(self, content, said):
        with pytest.raises(UserError) as error:
            films_in(content)
        assert said in str(error.value)
        assert "films.csv" in str(error.value)
        assert "\n" not in str(error.value)


class TestPosters:
    @pytest.mark.parametrize(
        "poster",
        [
            encoded(RED_LEFT, "JPEG", quality=95),
            encoded(RED_LEFT.convert("CMYK"), "JPEG", quality=95),
            encoded(RED_LEFT.convert("RGBA")),
            encoded(RED_LEFT.convert("P"), "GIF"),
            encoded(RED_LEFT, "WEBP", lossless=True),
            encoded(RED_LEFT, "BMP"),
        ],
        ids=["jpeg", "cmyk", "rgba", "palette-gif", "webp", "bmp"],
    )
    def test_every_form_gives_the_same_picture(self, poster):
        pixels = decode_poster(poster, 16).astype(int)
        assert pixels.shape == (16, 16, 3)
        np.testing.assert_allclose(pixels[8, 2], [255, 0, 0], atol=12)
        np.testing.assert_allclose(pixels[8, 13], [0, 0, 255], atol=12)

    def test_gray_16_bit_and_turned_posters_come_out_right(self):
        gray = Image.fromarray(np.full((30, 20), 128 * 256, np.uint16))
        np.testing.assert_allclose(decode_poster(encoded(gray), 16), 128, atol=1)
        exif = Image.Exif()
        exif[0x0112] = 3  # upside down
        pixels = decode_poster(encoded(RED_LEFT, "JPEG", exif=exif, quality=95), 16).astype(int)
        np.testing.assert_allclose(pixels[8, 13], [255, 0, 0], atol=12)

    def test_what_is_no_poster_is_refused(self):
        jpeg = encoded(RED_LEFT, "JPEG")
        for bad in (b"", b"<html>not found</html>", jpeg[: len(jpeg) // 2], jpeg[:20]):
            with pytest.raises(BadPoster):
                decode_poster(bad, 16)

    def test_a_pixel_bomb_is_refused_from_its_header(self):
        for side in (9_000, 14_000):  # below and above the limit that Pillow has of its own
            bomb = encoded(Image.new("1", (side, side)))
            assert len(bomb) < 100_000
            with pytest.raises(BadPoster, match="more than 40,000,000 pixels"):
                decode_poster(bomb, 16)

    def test_resizing_is_antialiased(self):
        stripes = np.zeros((64, 64, 3), np.uint8)
        stripes[:, ::2] = 255
        pixels = decode_poster(encoded(Image.fromarray(stripes)), 16)
        np.testing.assert_allclose(pixels, 127, atol=20)

    def test_a_reduced_jpeg_scale_changes_pixels_by_little(self):
        """The scale is used where it leaves no less than the target; blurred, as pictures are, not noise."""
        pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3), np.uint8)
        picture = Image.fromarray(pixels).resize((182, 268), Image.Resampling.BICUBIC)
        whole = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
        reduced = decode_poster(encoded(picture, "JPEG", quality=95), 64)
        assert np.abs(whole - reduced).mean() < 3
        assert np.abs(whole - reduced).max() < 30


class TestText:
    def test_the_vocabulary_is_the_most_frequent_words_of_what_it_was_given(self):
        vocabulary = fit_vocabulary(["war War war!", "peace, peace", "ship"], 4)
        assert vocabulary == ["", "[UNK]", "war", "peace"]

    def test_padding_unknown_words_cutting_and_empty_overviews(self):
        tokens = encode_overviews(["war ship", "", "?! 😀", "war war war war"], ["", "[UNK]", "war"], 3)
        assert tokens.dtype == np.int32
        np.testing.assert_array_equal(tokens, [[2, 1, 0], [0, 0, 0], [1, 0, 0], [2, 2, 2]])


class TestSplits:
    ids = [f"f{i:03d}" for i in range(300)]
    labels = (np.random.default_rng(0).random((300, 5)) < [0.5, 0.3, 0.2, 0.05, 0.0]).astype(int)
    groups = np.array([i // 2 if i < 40 else i for i in range(300)])  # twenty pairs
    shares = (0.7, 0.1, 0.2)

    def split(self, seed=0, order=slice(None)):
        ids = np.array(self.ids)[order]
        return split_films(ids, self.labels[order], self.groups[order], self.shares, seed)

    def test_every_film_is_in_one_split_of_about_its_share(self):
        split = self.split()
        assert sorted(film for films in split.values() for film in films) == self.ids
        for films, share in zip(split.values(), self.shares):
            assert len(films) == pytest.approx(300 * share, abs=3)

    def test_it_depends_on_the_seed_and_not_on_the_order(self):
        assert self.split() == self.split(order=np.random.default_rng(1).permutation(300))
        assert split_hash(self.split()) != split_hash(self.split(seed=1))

    def test_films_of_a_group_stay_together(self):
        where = {film: name for name, films in self.split().items() for film in films}
        for first in range(0, 40, 2):
            assert where[self.ids[first]] == where[self.ids[first + 1]]

    def test_a_rare_genre_is_on_every_side(self):
        rare = {film for film, row in zip(self.ids, self.labels) if row[3]}
        for films in self.split().values():
            assert rare & set(films)

    def test_a_split_counts_films_and_not_groups(self, capsys):
        """Ten directors of twelve films each, one of half of the films, and some of a few films."""
        for groups in (np.arange(120) // 12, np.maximum(np.arange(120), 60), (np.arange(120) ** 0.6).astype(int)):
            for seed in range(5):
                split = split_films(self.ids[:120], self.labels[:120], groups, self.shares, seed)
                assert [len(films) for films in split.values()] == pytest.approx([84, 12, 24], abs=1.2)
        assert capsys.readouterr().err == ""

    def test_it_says_when_groups_do_not_allow_the_shares(self, capsys):
        groups = np.maximum(np.arange(120), 99)
        split = split_films(self.ids[:120], self.labels[:120], groups, self.shares, 0)
        assert [len(films) for films in split.values()] == [100, 7, 13]
        assert capsys.readouterr().err == (
            "Note: the films are split into train 83.3% (asked for: 70.0%), validation 5.8% (asked for: 10.0%), "
            "test 10.8% (asked for: 20.0%): groups of films are not parted, and the largest of the 21 has 100 of "
            "120 films\n"
        )

    def test_a_split_that_groups_took_nowhere_stays_the_one_that_it_was(self):
        ids = [f"f{i:04d}" for i in range(1000)]
        labels = np.arange(1000)[:, None] % (2, 3, 5, 7, 50) == 0
        groups = np.maximum(np.arange(1000), 4)
        assert split_hash(split_films(ids, labels, groups, self.shares, 0)) == "eb1a85bda95395b0"

    def test_dealt_by_films_the_genres_are_as_even_as_the_library_has_them(self):
        def unevenness(split_of):
            counts = np.stack([labels[split_of == split].sum(axis=0) for split in range(3)])
            return np.abs(counts / labels.sum(axis=0) - np.array(self.shares)[:, None]).mean()

        for seed in range(5):
            labels = np.random.default_rng(seed).random((1000, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.02]
            dealt = deal(np.ones(1000, int), labels.astype(int), self.shares, seed)
            assert unevenness(dealt) <= unevenness(_stratified(labels, self.shares, seed)) + 0.002
            assert unevenness(dealt) < 0.01

    def test_films_are_grouped_through_others_and_not_by_nothing(self):
        keys = [(1, 1), (2, 2), (1, 2), (0, 3), (0, 4), (3, 5)]
        groups = duplicate_groups(np.array(keys, np.uint64))
        assert groups[0] == groups[1] == groups[2]
        assert len(set(groups)) == 4


class TestSource:
    rng = np.random.default_rng(0)
    posters = rng.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    lengths = rng.integers(0, 60, 50)
    tokens = np.where(np.arange(100) < lengths[:, None], rng.integers(1, 9, (50, 100)), 0).astype(np.int32)
    labels = np.eye(50, dtype=np.float32)  # the label tells which film a row is
    films = np.arange(0, 50, 2)

    def read(self, posters):
        return {POSTER: Encoded(posters, "pixels"), OVERVIEW: Encoded(self.tokens, "tokens")}

    def source(self):
        return Source(self.read(self.posters), self.labels, 8)

    def training(self, epochs, seed=0, augmentation=None):
        data = self.source().training(self.films, seed=seed, epochs=epochs, augmentation=augmentation)
        return list(data.as_numpy_iterator())

    def test_the_triple_has_the_shapes_and_types_of_the_contract(self):
        data, _ = self.source().ordered(self.films)
        poster, tokens, labels = data.element_spec
        assert (poster.dtype, tokens.dtype, labels.dtype) == (tf.float32, tf.int32, tf.float32)
        for poster, tokens, labels in data.as_numpy_iterator():
            assert poster.shape[1:] == (8, 8, 3)
            assert 0 <= poster.min() <= poster.max() <= 1
            assert tokens.shape[1] in (*BUCKETS, 100)
            assert len(poster) == len(tokens) == len(labels)

    def test_every_film_comes_once_an_epoch_with_its_own_poster_and_tokens(self):
        data, order = self.source().ordered(self.films)
        batches = list(data.as_numpy_iterator())
        assert sorted(order) == list(self.films)
        rows = np.concatenate([labels.argmax(1) for *_, labels in batches])
        np.testing.assert_array_equal(rows, order)
        for poster, tokens, labels in [*batches, *self.training(range(1))]:
            row = labels.argmax(1)
            np.testing.assert_allclose(poster, self.posters[row] / np.float32(255), atol=1e-6)
            np.testing.assert_array_equal(tokens, self.tokens[row, : tokens.shape[1]])
            assert not self.tokens[row, tokens.shape[1] :].any()
        epoch = np.concatenate([labels.argmax(1) for *_, labels in self.training(range(1))])
        assert sorted(epoch) == list(self.films)

    @pytest.mark.parametrize("augmentation", [None, AugmentConfig(), EVERY_WAY])
    def test_order_and_augmentation_are_functions_of_seed_and_epoch(self, augmentation):
        steps = self.source().steps(self.films)
        both, second = (
            self.training(range(2), augmentation=augmentation),
            self.training(range(1, 2), augmentation=augmentation),
        )
        assert len(both) == 2 * steps
        for one, other in zip(both[steps:], second, strict=True):
            for a, b in zip(one, other):
                np.testing.assert_array_equal(a, b)
        first, other_seed = both[:steps], self.training(range(1), seed=1, augmentation=augmentation)
        for different in (second, other_seed):
            assert any(not np.array_equal(a[2], b[2]) for a, b in zip(first, different))

    def test_the_end_of_a_pass_does_not_wait_for_a_tuner(self):
        source = self.source()
        training = source.training(self.films, seed=0, epochs=range(1), augmentation=AugmentConfig())
        for dataset in (training, source.ordered(self.films)[0]):
            assert dataset.map(lambda *batch: batch).options().autotune.enabled is False

    def test_posters_on_disk_give_the_same_batches(self, tmp_path):
        self.posters.tofile(tmp_path / "posters")
        on_disk = OnDisk(tmp_path / "posters", np.uint8, self.posters.shape)
        source = Source(self.read(on_disk), self.labels, 8)
        batches = source.training(
            self.films, seed=0, epochs=range(1), augmentation=AugmentConfig()
        ).as_numpy_iterator()
        for ours, theirs in zip(batches, self.training(range(1), augmentation=AugmentConfig()), strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_augmentation_keeps_the_range_and_moves_the_picture_a_little(self):
        plain, moved = self.training(range(1)), self.training(range(1), augmentation=AugmentConfig())
        for a, b in zip(plain, moved, strict=True):
            assert 0 <= b[0].min() <= b[0].max() <= 1
            assert not np.array_equal(a[0], b[0])
            np.testing.assert_allclose(a[0].mean((1, 2)), b[0].mean((1, 2)), atol=0.15)


def imdb(folder, **overrides):
    overrides = {"data__dataset": "multimodal_imdb", "data__data_dir": str(folder), **overrides}
    return tiny_config("poster", **overrides).data


class TestFilms:
    def test_a_folder_becomes_films(self, folder, cache):
        films = load_films(imdb(folder), cache, poster_size=16)
        assert len(films) == 40
        assert films.ids == tuple(f"tt{i:04d}" for i in range(40))
        assert films.genres == ("Comedy", "N/A", "War")
        assert films.overviews[7] == "A film about thing7 and war1"
        assert films.posters.shape == (40, 16, 16, 3)
        assert films.labels.sum(0)[1] == 0
        assert films.official_split is None

    def test_posters_keep_their_films_whichever_thread_decodes_them(self, tmp_path, cache, monkeypatch):
        monkeypatch.setattr("mmfusion.data.prepared._TASK", 3)
        folder = write_folder(tmp_path / "films")
        for number in range(40):
            Image.new("RGB", (9, 9), (5 * number, 0, 99)).save(folder / "Images" / f"tt{number:04d}.jpg")
        posters = load_films(imdb(folder), cache, poster_size=16).posters
        np.testing.assert_allclose(posters[:, 8, 8, 0], 5 * np.arange(40), atol=6)

    def test_large_caches_stay_on_disk_with_the_same_pixels(self, folder, cache, monkeypatch):
        inside = load_films(imdb(folder), cache, poster_size=16)
        monkeypatch.setattr("mmfusion.data.prepared.POSTERS_IN_MEMORY", inside.posters.nbytes - 1)
        outside = load_films(imdb(folder), cache, poster_size=16)
        assert isinstance(inside.posters, np.ndarray)
        assert isinstance(outside.posters, OnDisk)
        np.testing.assert_array_equal(inside.posters, outside.posters)

    def test_an_unchanged_source_is_not_prepared_twice_and_a_changed_one_is_noticed(self, tmp_path, cache, capsys):
        folder = write_folder(tmp_path / "films", seed=1)
        before = load_films(imdb(folder), cache, poster_size=16)
        assert "Preparing" in capsys.readouterr().err
        load_films(imdb(folder), cache, poster_size=16)
        assert "Preparing" not in capsys.readouterr().err
        Image.new("RGB", (20, 30), "red").save(folder / "Images" / "tt0003.jpg")
        after = load_films(imdb(folder), cache, poster_size=16)
        assert after.fingerprint != before.fingerprint
        assert (after.posters[3] != before.posters[3]).any()
        text = (folder / "IMDB_overview_genres.csv").read_text().replace("thing5", "nothing")
        (folder / "IMDB_overview_genres.csv").write_text(text)
        assert "nothing" in load_films(imdb(folder), cache, poster_size=16).overviews[5]

    def test_what_an_interrupted_preparation_leaves_is_not_taken_for_whole(self, tmp_path, cache, monkeypatch):
        folder = write_folder(tmp_path / "films", seed=2)
        real = Builder.films

        def interrupted(self, *args):
            for number, film in enumerate(real(self, *args)):
                if number == 9:
                    raise KeyboardInterrupt
                yield film

        monkeypatch.setattr(Builder, "films", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load_films(imdb(folder), cache, poster_size=16)
        monkeypatch.setattr(Builder, "films", real)
        assert len(load_films(imdb(folder), cache, poster_size=16)) == 40

    def test_bad_posters_are_listed_or_dropped_and_written_down(self, folder, cache):
        (folder / "Images" / "tt0001.jpg").write_bytes(b"")
        (folder / "Images" / "tt0002.jpg").write_bytes(b"<html>")
        outside = folder.parent / "secret.jpg"
        shutil.copy(folder / "Images" / "tt0000.jpg", outside)
        (folder / "Images" / "tt0003.jpg").unlink()
        (folder / "Images" / "tt0003.jpg").symlink_to(outside)
        with pytest.raises(UserError) as error:
            load_films(imdb(folder), cache, poster_size=16)
        for said in ("3 of 40", "tt0001 (not a readable", "tt0002 (not a readable", "tt0003", "--skip-bad"):
            assert said in str(error.value)
        films = load_films(imdb(folder, data__skip_bad=True), cache, poster_size=16)
        assert len(films) == 37
        assert set(films.skipped) == {"tt0001", "tt0002", "tt0003"}
        assert films.overviews[:2] == ("A film about thing0 and war0", "A film about thing4 and war1")
        for row, film in enumerate(films.ids):
            poster = (folder / "Images" / f"{film}.jpg").read_bytes()
            np.testing.assert_array_equal(films.posters[row], decode_poster(poster, 16))

    @pytest.mark.parametrize(
        ("dataset", "data_dir", "said"),
        [
            ("multimodal_imdb", "nowhere", "there is no such folder"),
            ("multimodal_imdb", ".", "holds no table of films .* --films FILE"),
            ("mmimdb", ".", "neither mmimdb.tar.gz nor dataset/"),
            ("mmimdb", "", "needs --data-dir"),
            ("synthetic", ".", "not with synthetic"),
            ("films", "", "--films FILE, or a folder with --data-dir DIR"),
            ("pictures", "", "unknown data set 'pictures'"),
        ],
    )
    def test_a_missing_source_is_named(self, tmp_path, cache, monkeypatch, dataset, data_dir, said):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=said):
            load_films(tiny_config("poster", data__dataset=dataset, data__data_dir=data_dir).data, cache)

    def test_films_with_one_overview_or_one_poster_are_one_group(self, tmp_path, cache):
        folder = write_folder(tmp_path / "films")
        shutil.copy(folder / "Images" / "tt0000.jpg", folder / "Images" / "tt0009.jpg")
        text = (folder / "IMDB_overview_genres.csv").read_text()
        text = text.replace("about thing20 and war2", "about thing9 and war0")
        (folder / "IMDB_overview_genres.csv").write_text(text)
        groups = load_films(imdb(folder), cache, poster_size=16).groups
        assert groups[0] == groups[9] == groups[20]
        assert len(set(groups)) == 38


class TestSynthetic:
    def test_a_film_is_a_function_of_seed_and_number(self):
        for make in (write_film, draw_poster):
            assert make(0, 1) == make(0, 1)
            assert make(0, 1) != make(0, 2)
            assert make(0, 1) != make(1, 1)

    def test_xor_genres_are_independent_of_either_modality_alone(self):
        genres = [write_film(0, number)[1] for number in range(1000)]
        labels = np.array([[genre in of for genre in GENRES] for of in genres])
        column = dict(zip(GENRES, labels.T))
        for k in ("1", "2"):
            poster, overview, xor = (column[f"{kind}_{k}"] for kind in ("poster", "overview", "xor"))
            np.testing.assert_array_equal(xor, poster ^ overview)
            for alone in (poster, overview, column["both_1"], column["both_2"]):
                assert abs(np.corrcoef(alone, xor)[0, 1]) < 0.12

    def test_genres_are_those_that_the_names_say(self):
        assert {genre.rsplit("_", 1)[0] for genre in GENRES} == {"poster", "overview", "both", "xor"}


def test_a_modality_survives_a_pickle_and_a_copy():
    for modality in (POSTER, OVERVIEW):
        for again in (pickle.loads(pickle.dumps(modality)), copy.deepcopy(modality)):
            assert (again, again.plural, again.section) == (modality, modality.plural, modality.section)
