"""The tensorflow-datasets builder of Multimodal IMDB: from a folder, or downloaded."""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.archives import open_zip, read_zip_member
from mmfusion.data.multimodal_imdb.films_csv import parse_films
from mmfusion.data.posters import MAX_POSTER_BYTES, BadPoster
from mmfusion.data.recognition import recognised
from mmfusion.data.records import (
    FilmRecord,
    FilmsBuilder,
    FilmsConfig,
    configured,
    fingerprint,
    read_inside,
)
from mmfusion.errors import UserError

CSV_NAME = "IMDB_overview_genres.csv"
MAX_CSV_BYTES = 256 * 2**20  # the public one has 1.5 MB for 6,325 films
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
            csv = _read_csv(Path(folder))
            posters = partial(read_inside, (Path(folder) / "Images").resolve())
        else:
            files = dl_manager.download({"csv": CSV_URL, "posters": POSTERS_URL})
            csv = Path(files["csv"]).read_bytes()
            posters = _posters_in_zip(Path(files["posters"]))
        _, rows = parse_films(csv, CSV_NAME)
        for row in rows:
            yield FilmRecord(row.film, row.overview, row.genres, partial(posters, f"{row.film}.jpg"))


def _read_csv(folder: Path) -> bytes:
    try:
        return read_inside(folder, CSV_NAME, MAX_CSV_BYTES, "file")
    except BadPoster as error:
        raise UserError(
            f"{folder / CSV_NAME}: {error}; --data-dir names a folder with {CSV_NAME} and Images/"
        ) from error


def _posters_in_zip(path: Path) -> Callable[[str], bytes]:
    """Gives what reads a poster, by its file's name, from the zip, which stays open as long as it is kept."""
    try:
        archive = open_zip(path)
    except zipfile.BadZipFile as error:
        for file in (path, path.with_name(f"{path.name}.INFO")):  # else it counts as downloaded the next time
            file.unlink(missing_ok=True)
        raise tfds.download.DownloadError(f"{POSTERS_URL}: {error}") from error
    members = {
        PurePosixPath(name).name: name for name in archive.namelist() if PurePosixPath(name).parent.name == "Images"
    }

    def read(name: str) -> bytes:
        if name not in members:
            raise BadPoster("poster missing")
        return read_zip_member(archive, members[name], MAX_POSTER_BYTES)

    return read


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder for this configuration, named by the source's content, which is read if it is not recognised.

    Raises:
        UserError: the CSV is missing or wrong.
    """
    if not data.data_dir:
        return configured(Builder, PUBLIC, cache)
    folder = Path(data.data_dir).resolve()
    content = _read_csv(folder)
    genres, rows = parse_films(content, str(folder / CSV_NAME))
    parts = [content], (folder / "Images").resolve(), [f"{row.film}.jpg" for row in rows]
    name = recognised(cache, folder, *parts, partial(fingerprint, *parts))
    return configured(Builder, FilmsConfig(name=name, genres=genres, folder=str(folder)), cache)
