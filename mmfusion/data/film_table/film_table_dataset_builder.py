"""The tensorflow-datasets builder of films from a table and a folder of posters."""

import json
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.config.sections import RolesConfig
from mmfusion.data.film_table.pictures import in_folder
from mmfusion.data.film_table.reading import MAX_TABLE_BYTES, NAMES, is_table, open_table
from mmfusion.data.film_table.understanding import Understood, understand
from mmfusion.data.recognition import recognised
from mmfusion.data.records import FilmsBuilder, FilmsConfig, configured, fingerprint
from mmfusion.errors import UserError, first_line
from mmfusion.files import read_regular

PRESENT = "IMDB_overview_genres.csv"  # of Multimodal IMDB; in a folder with more tables it is the one
# What is said of a table where its files alone are the source: that of Multimodal IMDB, without a word.
_UNSAID = {"columns": RolesConfig(id="Id").model_dump(), "encoding": "", "separator": ""}
_NO_TABLES = {"split.json"}  # of MM-IMDb


class Builder(FilmsBuilder):
    """Films from a table in any of the usual forms, with posters in a folder."""

    name = "films"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.SPLITS = self.builder_config.sides or self.SPLITS

    def films(self, dl_manager):
        config = self.builder_config
        assert config.data is not None
        understood = _understand(config.data)
        self.account, self.left_out = understood.account, understood.left_out
        yield from understood.records()


def _understand(data: DataConfig) -> Understood:
    path = _table_of(data)
    folder = Path(data.data_dir) if data.data_dir else path.parent
    table = open_table(path, encoding=data.encoding, separator=data.separator, name=_name(path, data))
    kept = data.keep_placeholders
    return understand(table, data.columns, in_folder(folder), is_sure=bool(data.data_dir), keep_placeholders=kept)


def _name(path: Path, data: DataConfig) -> str:
    return path.name if data.file else str(Path(data.data_dir) / path.name)


def _table_of(data: DataConfig) -> Path:
    """The table's file; in a folder the only one, or that of Multimodal IMDB."""
    if data.file:
        return Path(data.file).resolve()
    folder = Path(data.data_dir)
    try:
        found = sorted(path for path in folder.iterdir() if is_table(path) and path.name not in _NO_TABLES)
    except OSError as error:
        raise UserError(f"--data-dir {folder} cannot be read: {error.strerror}") from error
    found = [path for path in found if path.name == PRESENT] or found
    if not found:
        if (folder / "split.json").exists() or (folder / "mmimdb.tar.gz").exists():
            raise UserError(f"--data-dir {folder} looks like MM-IMDb's: add --dataset mmimdb")
        raise UserError(
            f"--data-dir {folder} holds no table of films ({', '.join(NAMES)}); put it there, or "
            "name it with --films FILE"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:10])
        raise UserError(f"--data-dir {folder} holds {len(found)} tables ({names}); name one with --films FILE")
    try:
        path = found[0].resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise UserError(f"{found[0]} cannot be read: {first_line(error)}") from error
    if not path.is_relative_to(folder.resolve()):
        raise UserError(f"{found[0]}: its link leads out of the folder; name the table with --films FILE")
    return path


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder for this configuration, named by the source's content, which is read if it is not recognised.

    Raises:
        UserError: no table was named, or it is wrong.
    """
    if not data.data_dir and not data.file:
        raise UserError(
            "--dataset films needs films: name a table with --films FILE, or a folder with --data-dir DIR"
        )
    path = _table_of(data)
    understood = _understand(data)
    pictures = understood.pictures
    # Which column is the id may depend on how the posters are called.
    columns = data.columns.model_copy(update={"id": understood.id_column}).model_dump()
    said = {"columns": columns, "encoding": data.encoding, "separator": data.separator}
    texts = [read_regular(path, MAX_TABLE_BYTES)]
    if said != _UNSAID:
        texts.append(json.dumps(said).encode())
    posters, root = understood.posters, pictures.where
    read_content = partial(fingerprint, texts, pictures.read, posters)
    name = recognised(cache, path, texts, root, filter(None, posters), read_content)
    config = FilmsConfig(
        name=name, genres=understood.genres, columns=understood.columns, sides=understood.sides, data=data
    )
    builder = configured(Builder, config, cache)
    builder.account, builder.left_out = understood.account, understood.left_out
    return builder
