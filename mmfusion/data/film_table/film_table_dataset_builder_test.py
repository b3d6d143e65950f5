"""The builder as tensorflow-datasets tests it, on a table in TMDB's form."""

from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.film_table import film_table_dataset_builder as builder
from mmfusion.data.records import FilmsConfig

DUMMY = Path(__file__).parent / "dummy_data"


class DummyFilms(builder.Builder):
    """With a configuration of its own, which tensorflow-datasets' tests ask for."""

    BUILDER_CONFIGS = [
        FilmsConfig(
            name="dummy",
            genres=("Drama", "Thriller"),
            columns=("title",),
            data=DataConfig(dataset="films", data_dir=str(DUMMY)),
        )
    ]


class FilmTableTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DummyFilms
    EXAMPLE_DIR = str(DUMMY)
    SPLITS = {"films": 4}  # of which one has no poster
