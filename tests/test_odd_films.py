"""Films that are odd but right: every variant trains on them and no number comes out undefined that is not."""

import csv
import json
import math

import numpy as np
import pytest
from conftest import FROM_FILMS, run_variant
from PIL import Image

from mmfusion import inference
from mmfusion.errors import UserError

pytestmark = pytest.mark.pictures

OVERVIEWS = (
    "",
    "?! … --",
    "😀🎬",
    "两姐妹继承了一座灯塔。",
    "ترث شقيقتان منارة قديمة",
    "\u200b\u200d\ufeff",
    "a\u0000b",
    "word " * 5000,
)
PICTURES = ((1, 1), (10_000, 10), (10, 10_000), (20, 30))


def write_mmimdb(folder, only_in: dict[str, str]):
    """Films in the form of MM-IMDb, which has a split of its own: 28, 12 and 12 of them.

    Args:
        folder: to write into.
        only_in: genres whose films are all in one split, by name.
    """
    (folder / "dataset").mkdir(parents=True)
    split, rng = {"train": [], "dev": [], "test": []}, np.random.default_rng(0)
    for number in range(52):
        film, name = f"{number:04d}", "train" if number < 28 else "dev" if number < 40 else "test"
        genres = [g for g, where in only_in.items() if where == name and number % 2]
        genres += [genre for genre in ("Drama", "Comedy") if rng.random() < 0.5]
        genres = [] if number % 7 == 0 else genres  # a film without genres, in every split
        record = {"plot": [OVERVIEWS[number % len(OVERVIEWS)]], "genres": genres}
        (folder / "dataset" / f"{film}.json").write_text(json.dumps(record))
        width, height = PICTURES[number % len(PICTURES)]
        pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "dataset" / f"{film}.jpeg", "JPEG")
        split[name].append(film)
    (folder / "split.json").write_text(json.dumps(split))


ONLY_IN = {"War": "train", "Western": "dev", "Sport": "test"}  # and Short is nowhere


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Gives a finished run of a variant on such films."""
    folder = tmp_path_factory.mktemp("odd")
    write_mmimdb(folder / "films", ONLY_IN)
    named = {"data__dataset": "mmimdb", "data__data_dir": str(folder / "films"), "training__epochs": 2}
    cache = tmp_path_factory.getbasetemp() / "cache"
    return {
        variant: run_variant(variant, folder / variant, cache, late__combiner="stacked", **named)
        for variant in FROM_FILMS
    }


def numbers(value):
    """Every number in a report."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from numbers(one)
    elif isinstance(value, float):
        yield value


@pytest.mark.parametrize("variant", FROM_FILMS)
class TestEveryVariant:
    def test_has_no_number_that_is_not_one(self, odd, variant):
        run = odd[variant]
        for split in ("validation", "test"):
            assert np.isfinite(run.predictions(split).y_prob).all()
        for epoch in [epoch for one in (run, *run.parts) for epoch in one.history]:
            assert all(map(math.isfinite, epoch.values()))
        assert all(map(math.isfinite, numbers(run.report)))
        assert all(np.isfinite(weight).all() for weight in inference.load_model(run).get_weights())

    def test_a_genre_that_a_split_lacks_is_undefined_there_and_nowhere_else(self, odd, variant):
        row_of = {row["genre"]: row for row in odd[variant].report["genres"]}
        for genre in ("War", "Western", "Short"):  # none of them has a film in the test
            assert (row_of[genre]["support"], row_of[genre]["ap"]) == (0, None)
        assert row_of["Sport"]["support"] > 0
        assert row_of["Sport"]["ap"] > 0
        for genre in ("War", "Sport", "Short"):  # nor in the validation
            assert row_of[genre]["threshold"] is None
        assert row_of["Western"]["threshold"] is not None
        assert row_of["Drama"]["threshold"] is not None


def test_films_of_which_none_has_an_overview(tmp_path, folder, cache):
    file = folder / "IMDB_overview_genres.csv"
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "Overview": ""} for row in rows)
    named = {"data__dataset": "multimodal_imdb", "data__data_dir": str(folder), "training__epochs": 1}
    with pytest.raises(UserError, match="no training film has an overview, which joint reads; --variant poster"):
        run_variant("joint", tmp_path / "joint", cache, **named)
    run = run_variant("poster", tmp_path / "run", cache, **named)
    assert run.vocabulary == ["", "[UNK]"]
    assert np.isfinite(run.predictions("test").y_prob).all()
