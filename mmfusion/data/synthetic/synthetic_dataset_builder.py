"""The tensorflow-datasets builder of the synthetic films."""

from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.records import FilmRecord, FilmsBuilder, FilmsConfig, configured
from mmfusion.data.synthetic.films import GENRES, draw_poster, write_film
from mmfusion.errors import UserError


def synthetic_config(films: int, seed: int) -> FilmsConfig:
    """Any number of films; the first ones of two configurations with one seed are the same."""
    return FilmsConfig(name=f"films{films}-seed{seed}", genres=GENRES, films=films, seed=seed)


class Builder(FilmsBuilder):
    """Films whose genres can be read from the poster, the overview, either, or only both together."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {
        "1.1.0": "Posters and overviews are drawn independently of each other.",
        "1.0.0": "First version.",
    }
    BUILDER_CONFIGS = [synthetic_config(films=2000, seed=0)]

    def films(self, dl_manager):
        seed = self.builder_config.seed
        for number in range(1, self.builder_config.films + 1):
            overview, genres = write_film(seed, number)
            yield FilmRecord(f"synthetic-{number:06d}", overview, genres, partial(draw_poster, seed, number))


def make_builder(data: DataConfig, cache: Path) -> Builder:
    """The builder for this configuration.

    Raises:
        UserError: a data folder was given, which synthetic films do not have.
    """
    if data.data_dir:
        raise UserError("--data-dir goes with --dataset multimodal_imdb or mmimdb, not with synthetic")
    return configured(Builder, synthetic_config(data.films, data.films_seed), cache)
