"""The tensorflow-datasets builder of the synthetic films."""

from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.records import FilmRecord, FilmsBuilder, FilmsConfig, configured
from mmfusion.data.synthetic.films import COLUMNS, GENRES, TABLE_GENRES, draw_poster, fill_row, write_film
from mmfusion.errors import UserError


def synthetic_config(films: int, seed: int, with_table: bool = False) -> FilmsConfig:
    """Any number of films; the first ones of two configurations with one seed are the same.

    With a table they have columns, and genres that need these.
    """
    name = f"films{films}-seed{seed}{'-table' * with_table}"
    genres, columns = (GENRES + TABLE_GENRES, COLUMNS) if with_table else (GENRES, ())
    return FilmsConfig(name=name, genres=genres, columns=columns, films=films, seed=seed)


class Builder(FilmsBuilder):
    """Films whose genres can be read from the poster, the overview, the table, or only more of them together."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.1.0": "Posters and overviews are drawn independently of each other.",
        "1.0.0": "First version.",
    }
    BUILDER_CONFIGS = [synthetic_config(films=2000, seed=0)]

    def films(self, dl_manager):
        seed, has_table = self.builder_config.seed, bool(self.builder_config.columns)
        for number in range(1, self.builder_config.films + 1):
            overview, genres = write_film(seed, number, self.builder_config.genres)
            yield FilmRecord(
                id=f"synthetic-{number:06d}",
                overview=overview,
                genres=genres,
                read_poster=partial(draw_poster, seed, number),
                cells=fill_row(seed, number) if has_table else (),
            )


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder for this configuration.

    Raises:
        UserError: a data folder was given, which synthetic films do not have.
    """
    if data.data_dir:
        raise UserError("--data-dir goes with --dataset multimodal_imdb or mmimdb, not with synthetic")
    return configured(Builder, synthetic_config(data.films, data.films_seed, with_table), cache)
