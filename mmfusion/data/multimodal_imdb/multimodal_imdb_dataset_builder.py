"""The tensorflow-datasets builder of Multimodal IMDB: from a folder, or downloaded."""

from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.multimodal_imdb.films_csv import parse_films
from mmfusion.data.records import (
    FilmsConfig,
    configured,
    film_features,
    find_bad_films,
    fingerprint,
    read_inside,
    refuse_bad_films,
)
from mmfusion.errors import UserError

CSV_NAME = "IMDB_overview_genres.csv"
_CSV_COMMIT = "24ea10818ef8906cd06124c5e2cab975ec739c30"
_POSTERS_COMMIT = "0f2cea5ba255a8197cd749135080c93c3c931d48"
CSV_URL = (
    f"https://raw.githubusercontent.com/Rabia-Akhtr/Multimodal-imdb-genre-classification/{_CSV_COMMIT}/{CSV_NAME}"
)
POSTERS_URL = f"https://github.com/laxmimerit/Movies-Poster_Dataset/archive/{_POSTERS_COMMIT}.zip"

PUBLIC_GENRES = tuple(
    "Action Adventure Animation Biography Comedy Crime Documentary Drama Family Fantasy History Horror "
    "Music Musical Mystery N/A News Reality-TV Romance Sci-Fi Short Sport Thriller War Western".split()
)


def public_config(skip_bad: bool = False) -> FilmsConfig:
    """The public set at the commits above, which `checksums.tsv` vouches for as far as it can."""
    name = f"public-{_CSV_COMMIT[:7]}-{_POSTERS_COMMIT[:7]}{'-skip' if skip_bad else ''}"
    return FilmsConfig(name=name, genres=PUBLIC_GENRES, skip_bad=skip_bad)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Films with poster, overview and several genres, from a CSV and a folder of JPEGs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [public_config()]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=film_features(self.builder_config.genres),
            metadata=tfds.core.MetadataDict(skipped={}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        if config.folder:
            csv, images = Path(config.folder) / CSV_NAME, Path(config.folder) / "Images"
        else:
            csv = Path(dl_manager.download(CSV_URL))
            archive = Path(dl_manager.download_and_extract(POSTERS_URL))
            images = next(iter(sorted(archive.glob("**/Images"))), archive / "Images")
        _, rows = parse_films(csv.read_bytes(), CSV_NAME)
        bad = find_bad_films((row.film, lambda row=row: read_inside(images, f"{row.film}.jpg")) for row in rows)
        refuse_bad_films(bad, config.skip_bad, len(rows))
        self.info.metadata["skipped"] = bad
        return {"films": self._generate_examples([r for r in rows if r.film not in bad], images)}

    def _generate_examples(self, rows, images):
        for row in rows:
            yield (
                row.film,
                {
                    "id": row.film,
                    "poster": read_inside(images, f"{row.film}.jpg"),
                    "overview": row.overview,
                    "genres": row.genres,
                },
            )


def make_builder(data: DataConfig, cache: Path) -> Builder:
    """The builder for this configuration, prepared or not; reads the source to name its content.

    Raises:
        UserError: the CSV is missing or wrong.
    """
    if not data.data_dir:
        return configured(Builder, public_config(data.skip_bad), cache)
    folder = Path(data.data_dir).resolve()
    try:
        content = (folder / CSV_NAME).read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder / CSV_NAME}: {error.strerror}; --data-dir names a folder with {CSV_NAME} and Images/"
        ) from error
    genres, rows = parse_films(content, str(folder / CSV_NAME))
    name = fingerprint(_content(content, rows, folder / "Images")) + ("-skip" if data.skip_bad else "")
    config = FilmsConfig(name=name, genres=genres, folder=str(folder), skip_bad=data.skip_bad)
    return configured(Builder, config, cache)


def _content(csv: bytes, rows, images: Path):
    """The parts that make one state of the folder; a missing poster is a part too."""
    yield csv
    for row in rows:
        try:
            yield read_inside(images, f"{row.film}.jpg")
        except FileNotFoundError:
            yield b""
