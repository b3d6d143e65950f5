"""The tensorflow-datasets builder of Multimodal IMDB: from a folder, or downloaded."""

import zipfile
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.config.sections import RolesConfig
from mmfusion.data import film_table
from mmfusion.data.archives import open_zip, read_zip_member
from mmfusion.data.film_table.film_table_dataset_builder import PRESENT
from mmfusion.data.film_table.pictures import IMAGES, Pictures
from mmfusion.data.film_table.reading import open_table
from mmfusion.data.film_table.understanding import understand
from mmfusion.data.posters import MAX_POSTER_BYTES
from mmfusion.data.records import FilmsBuilder, FilmsConfig, configured

_CSV_COMMIT = "24ea10818ef8906cd06124c5e2cab975ec739c30"
_POSTERS_COMMIT = "0f2cea5ba255a8197cd749135080c93c3c931d48"
CSV_URL = (
    f"https://raw.githubusercontent.com/Rabia-Akhtr/Multimodal-imdb-genre-classification/{_CSV_COMMIT}/{PRESENT}"
)
POSTERS_URL = f"https://github.com/laxmimerit/Movies-Poster_Dataset/archive/{_POSTERS_COMMIT}.zip"

PUBLIC_GENRES = tuple(
    "Action Adventure Animation Biography Comedy Crime Documentary Drama Family Fantasy History Horror "
    "Music Musical Mystery N/A News Reality-TV Romance Sci-Fi Short Sport Thriller War Western".split()
)


# The public set at the commits above, which `checksums.tsv` vouches for as far as it can.
PUBLIC = FilmsConfig(name=f"public-{_CSV_COMMIT[:7]}-{_POSTERS_COMMIT[:7]}", genres=PUBLIC_GENRES)


class Builder(FilmsBuilder):
    """Films with poster, overview and several genres, downloaded; read as any table of films is."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [PUBLIC]

    def films(self, dl_manager):
        files = dl_manager.download({"csv": CSV_URL, "posters": POSTERS_URL})
        table = open_table(Path(files["csv"]), name=PRESENT)
        understood = understand(table, RolesConfig(), _posters_in_zip(Path(files["posters"])))
        self.account, self.left_out = understood.account, understood.left_out
        yield from understood.records()


def _posters_in_zip(path: Path) -> Pictures:
    """The pictures in the zip, which stays open as long as they are kept."""
    try:
        archive = open_zip(path)
    except zipfile.BadZipFile as error:
        for file in (path, path.with_name(f"{path.name}.INFO")):  # else it counts as downloaded the next time
            file.unlink(missing_ok=True)
        raise tfds.download.DownloadError(f"{POSTERS_URL}: {error}") from error
    members = {
        f"{IMAGES}/{PurePosixPath(name).name}": name
        for name in archive.namelist()
        if PurePosixPath(name).parent.name == IMAGES
    }
    return Pictures(members, lambda name: read_zip_member(archive, members[name], MAX_POSTER_BYTES), path)


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder of the public films; of those in a folder that is named, the builder of any table."""
    if data.data_dir or data.file:
        return film_table.make_builder(data, cache)
    return configured(Builder, PUBLIC, cache)
