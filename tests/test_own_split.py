"""A split of one's own, of a file or a column: what is refused, left out, said, and kept as it is."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import command, run_variant, tiny_config

from mmfusion import evaluate, train
from mmfusion.config.idle import is_idle
from mmfusion.data.films import load_films
from mmfusion.data.own_split import own_split, read_split_file
from mmfusion.data.splits import split_hash
from mmfusion.errors import UserError
from mmfusion.training import preparation

SHARES = (0.7, 0.1, 0.2)


def ids(*numbers) -> list[str]:
    return [f"tt{number:04d}" for number in numbers]


THREE = {"train": ids(*range(24)), "validation": ids(*range(24, 32)), "test": ids(*range(32, 40))}
TWO = {"train": ids(*range(30)), "test": ids(*range(30, 40))}


@pytest.fixture
def films(folder, cache):
    """40 films, tt0000 to tt0039, no two of which are alike."""
    config = tiny_config("poster", data__dataset="multimodal_imdb", data__data_dir=str(folder))
    return load_films(config.data, cache, poster_size=16)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "split.json"


class TestFile:
    def test_keys_have_several_names_in_any_case_and_ids_are_texts_or_numbers_as_written(self, file):
        file.write_text('\ufeff{"TEST": [114709, "0007", 1e3], "Dev": [], "train": ["tt1"]}', "utf-8")
        expected = {"test": ["114709", "0007", "1e3"], "validation": [], "train": ["tt1"]}
        assert read_split_file(file) == expected

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ("", "is not valid JSON"),
            ("\0{", "is not valid JSON"),
            ("[" * 100_000, "is not valid JSON: maximum recursion"),
            ('{"train": [007]}', "is not valid JSON"),
            ('{"train": [NaN]}', "is not valid JSON: NaN is no id"),
            (
                '["tt1"]',
                "must hold a JSON object of lists of ids, by split; the keys are train, training, validation",
            ),
            (
                '{"learn": []}',
                "has the key 'learn'; the keys are train, training, validation, valid, val, dev, test, testing",
            ),
            ('{"\\u001b[2J": []}', r"has the key '\x1b[2J'"),
            ('{"train": ["a"], "train": ["b"]}', "names train films under two keys"),
            ('{"val": ["a"], "dev": ["b"]}', "names validation films under two keys"),
            ('{"train": "tt1"}', "train must be a list of ids"),
            ('{"train": {"tt1": 1}}', "train must be a list of ids"),
            ('{"train": [{}]}', "train must be a list of ids"),
            ('{"train": [null]}', "train must be a list of ids"),
            ('{"train": [true]}', "train must be a list of ids"),
        ],
    )
    def test_another_form_is_refused(self, content, said, file):
        file.write_text(content)
        with pytest.raises(UserError) as error:
            read_split_file(file)
        assert str(error.value).startswith(str(file))
        assert said in str(error.value)

    def test_a_file_that_is_too_large_or_none_is_not_read(self, file):
        with pytest.raises(UserError, match="cannot be read: No such file"):
            read_split_file(file)
        with file.open("wb") as large:
            large.truncate(2**26 + 1)
        with pytest.raises(UserError, match="more than the 67,108,864 that it may have"):
            read_split_file(file)


class TestOwnSplit:
    def test_it_is_as_it_was_named_and_nothing_is_said(self, films, capsys):
        backwards = {name: named[::-1] for name, named in reversed(THREE.items())}
        split = own_split(films, backwards, SHARES, 0, "mine")
        assert list(split.items()) == list(THREE.items())
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        ("named", "said"),
        [
            ({"train": ids(1, 2), "test": ids(3, 2)}, "mine names the film 'tt0002' in train and in test"),
            ({"train": ids(1, 1), "test": ids(3)}, "mine names the film 'tt0001' twice in train"),
            ({"train": ["x", "x"], "test": ids(3)}, "mine names the film 'x' twice in train"),
            ({"train": ids(1)}, "mine names no test films"),
            ({"test": ids(1)}, "mine names no train films"),
            ({**THREE, "validation": []}, "mine leaves no validation film"),
            ({**THREE, "test": ["32"]}, "mine leaves no test film"),
            ({"train": ids(*range(5)), "test": ids(9)}, "5 films of their own are too few to split"),
        ],
    )
    def test_what_is_named_twice_or_leaves_a_split_empty_is_refused(self, named, said, films):
        with pytest.raises(UserError, match=said):
            own_split(films, named, SHARES, 0, "mine")

    def test_ids_without_a_film_and_films_without_a_side_are_counted_and_none_is_guessed(self, films, capsys):
        named = {**THREE, "train": [*ids(*range(20)), "20", "tt00021\x1b"]}
        split = own_split(films, named, SHARES, 0, "mine")
        assert split == {**THREE, "train": ids(*range(20))}
        assert capsys.readouterr().err.splitlines() == [
            "2 of 38 ids of mine are of no film here, such as '20'",
            "4 of 40 films are on no side of mine: left out",
        ]

    def test_copies_of_test_films_and_then_of_validation_films_are_left_out(self, films, capsys):
        groups = np.arange(40)
        groups[[0, 24, 32]] = 100  # on all sides
        groups[[1, 33]] = 101
        groups[[2, 3, 25]] = 102
        groups[[4, 5]] = 103  # on one side
        split = own_split(dataclasses.replace(films, groups=groups), THREE, SHARES, 0, "mine")
        assert split == {**THREE, "train": ids(*range(4, 24)), "validation": ids(*range(25, 32))}
        assert capsys.readouterr().err.splitlines() == [
            "1 validation films of mine share an overview, a poster or a group with test films: left out",
            "4 train films of mine share an overview, a poster or a group with test or validation films: left out",
        ]

    def test_validation_films_that_are_not_named_are_drawn_from_the_training_films(self, films, capsys):
        groups = np.arange(40)
        groups[:6] = 0
        groups[[29, 39]] = 29
        films = dataclasses.replace(films, groups=groups)
        split = own_split(films, TWO, (0.6, 0.2, 0.2), 0, "mine")
        assert split["test"] == TWO["test"]
        assert sorted(split["train"] + split["validation"]) == ids(*range(29))
        assert len(split["validation"]) == 7  # a quarter
        assert len({film in split["train"] for film in ids(*range(6))}) == 1
        assert capsys.readouterr().err.splitlines() == [
            "1 train films of mine share an overview, a poster or a group with test films: left out",
            "mine has no validation films: 7 are drawn from its 29 training films",
        ]
        assert own_split(films, TWO, (0.6, 0.2, 0.2), 1, "mine") != split


class TestPrepare:
    @pytest.fixture
    def prepared(self, films, cache, monkeypatch):
        """Gives the split of a run whose films have these sides of their own, and two groups."""
        films = dataclasses.replace(films, groups=np.where(np.isin(np.arange(40), (0, 39)), 0, np.arange(40)))

        def prepare(official, *, published=False, **overrides):
            monkeypatch.setattr(type(films.builder), "published_split", published)
            mine = dataclasses.replace(films, official_split=official)
            monkeypatch.setattr(preparation, "films_of", lambda *_: mine)
            return preparation.prepare(tiny_config("poster", **overrides), cache).split

        return prepare

    def test_a_column_is_a_split_of_ones_own_and_a_published_one_is_kept(self, prepared):
        assert prepared(THREE) == {**THREE, "train": THREE["train"][1:]}
        assert prepared(THREE, published=True) == THREE
        assert prepared(TWO).keys() == THREE.keys()

    def test_a_file_wins(self, prepared, file):
        other = {"train": THREE["test"], "validation": THREE["validation"], "test": THREE["train"]}
        file.write_text(json.dumps(other))
        for published in (False, True):
            split = prepared(THREE, published=published, data__split_file=str(file))
            assert split == {**other, "train": other["train"][:-1]}

    def test_the_split_of_mmimdb_is_published(self, mm_folder, cache, file):
        place = {"data__dataset": "mmimdb", "data__data_dir": str(mm_folder)}
        films = load_films(tiny_config("poster", **place).data, cache, poster_size=16)
        assert films.builder.published_split
        file.write_text(json.dumps({"train": films.ids[:20], "test": films.ids[20:]}))
        config = tiny_config("poster", **place, data__split_file=str(file))
        assert preparation.prepare(config, cache).split["test"] == list(films.ids[20:])

    def test_shares_and_the_splits_seed_may_act_with_a_file(self, file):
        for dataset, split_file, idle in (("mmimdb", "", True), ("mmimdb", "x", False), ("synthetic", "x", False)):
            config = tiny_config("poster", data__dataset=dataset, data__split_file=split_file)
            assert is_idle("data.split", config, {}) == idle
            assert is_idle("split_seed", config, {}) == idle


def test_a_run_is_of_its_split_file_as_it_was(tmp_path, cache, file, monkeypatch, capsys):
    made = [f"synthetic-{number:06d}" for number in range(1, 61)]
    mine = {"train": made[:30], "validation": made[30:40], "test": made[40:55]}
    file.write_text(json.dumps(mine))
    run = run_variant("poster", tmp_path / "run", cache, data__split_file=str(file), training__epochs=1)
    assert run.split == mine
    assert run.facts["split"] == split_hash(mine)
    assert run.predictions("test").ids == tuple(mine["test"])
    assert command(evaluate.main, monkeypatch, run.folder) == 0
    assert preparation.prepare_again(run, cache).split == mine
    file.write_text(json.dumps({**mine, "test": made[40:]}))
    run.report_file.unlink()
    capsys.readouterr()
    assert command(train.main, monkeypatch, "--resume", run.folder) == 2
    assert f"or another split than {file} says now" in capsys.readouterr().err
