"""The tensorflow-datasets builder of the synthetic films."""

from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.records import FilmsConfig, configured, film_features
from mmfusion.data.synthetic.films import GENRES, make_film
from mmfusion.errors import UserError


def synthetic_config(films: int, seed: int) -> FilmsConfig:
    """Any number of films; the first ones of two configurations with one seed are the same."""
    return FilmsConfig(name=f"films{films}-seed{seed}", genres=GENRES, films=films, seed=seed)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Films whose genres can be read from the poster, the overview, either, or only both together."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [synthetic_config(films=2000, seed=0)]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=film_features(self.builder_config.genres),
            metadata=tfds.core.MetadataDict(skipped={}),
        )

    def _split_generators(self, dl_manager):
        return {"films": self._generate_examples()}

    def _generate_examples(self):
        for number in range(1, self.builder_config.films + 1):
            poster, overview, genres = make_film(self.builder_config.seed, number)
            film = f"synthetic-{number:06d}"
            yield film, {"id": film, "poster": poster, "overview": overview, "genres": genres}


def make_builder(data: DataConfig, cache: Path) -> Builder:
    """The builder for this configuration, prepared or not.

    Raises:
        UserError: a data folder was given, which synthetic films do not have.
    """
    if data.data_dir:
        raise UserError("--data-dir goes with --dataset multimodal_imdb or mmimdb, not with synthetic")
    return configured(Builder, synthetic_config(data.films, data.films_seed), cache)
