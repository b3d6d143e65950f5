"""The tensorflow-datasets builder of Multimodal IMDB: from a folder, or downloaded."""

from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.multimodal_imdb.films_csv import parse_films
from mmfusion.data.records import FilmRecord, FilmsBuilder, FilmsConfig, configured, fingerprint, read_inside
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


# The public set at the commits above, which `checksums.tsv` vouches for as far as it can.
PUBLIC = FilmsConfig(name=f"public-{_CSV_COMMIT[:7]}-{_POSTERS_COMMIT[:7]}", genres=PUBLIC_GENRES)


class Builder(FilmsBuilder):
    """Films with poster, overview and several genres, from a CSV and a folder of JPEGs."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [PUBLIC]

    def films(self, dl_manager):
        if folder := self.builder_config.folder:
            csv, images = Path(folder) / CSV_NAME, Path(folder) / "Images"
        else:
            csv = Path(dl_manager.download(CSV_URL))
            archive = Path(dl_manager.download_and_extract(POSTERS_URL))
            images = next(iter(sorted(archive.glob("**/Images"))), archive / "Images")
        images = images.resolve()
        _, rows = parse_films(csv.read_bytes(), CSV_NAME)
        for row in rows:
            read_poster = partial(read_inside, images, f"{row.film}.jpg")
            yield FilmRecord(row.film, row.overview, row.genres, read_poster)


def make_builder(data: DataConfig, cache: Path) -> Builder:
    """The builder for this configuration; reads the source to name its content.

    Raises:
        UserError: the CSV is missing or wrong.
    """
    if not data.data_dir:
        return configured(Builder, PUBLIC, cache)
    folder = Path(data.data_dir).resolve()
    try:
        content = (folder / CSV_NAME).read_bytes()
    except OSError as error:
        raise UserError(
            f"{folder / CSV_NAME}: {error.strerror}; --data-dir names a folder with {CSV_NAME} and Images/"
        ) from error
    genres, rows = parse_films(content, str(folder / CSV_NAME))
    name = fingerprint([content], (folder / "Images").resolve(), [f"{row.film}.jpg" for row in rows])
    return configured(Builder, FilmsConfig(name=name, genres=genres, folder=str(folder)), cache)
