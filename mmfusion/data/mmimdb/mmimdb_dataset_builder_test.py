"""The builder as tensorflow-datasets tests it, and the archive read in place."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from mmfusion.config import resolve
from mmfusion.data.films import load_films
from mmfusion.data.mmimdb import mmimdb_dataset_builder as builder
from mmfusion.errors import UserError

DUMMY = Path(__file__).parent / "dummy_data"


class MmimdbTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builder.Builder
    SPLITS = {"train": 3, "validation": 1, "test": 2}


def films(folder, cache, **overrides):
    named = {"data.dataset": "mmimdb", "data.data_dir": str(folder)}
    return load_films(resolve("poster", overrides={**named, **overrides}).data, cache)


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
    (folder / "dataset" / "0000002.jpeg").unlink()
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
