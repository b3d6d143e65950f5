"""The tensorflow-datasets builder of MM-IMDb, from `mmimdb.tar.gz` or what is unpacked from it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.archives import read_tar
from mmfusion.data.posters import MAX_POSTER_BYTES, BadPoster
from mmfusion.data.recognition import recognised
from mmfusion.data.records import (
    FilmRecord,
    FilmsBuilder,
    FilmsConfig,
    configured,
    fingerprint,
    read_inside,
    too_large,
)
from mmfusion.errors import UserError
from mmfusion.files import check_id

ARCHIVE = "mmimdb.tar.gz"
SPLIT = "split.json"
MAX_JSON_BYTES = 4 * 2**20  # the official split has 0.3 MB; what Python makes of JSON can be 20 times as large
SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}

# The 23 most frequent genres of the 25,959 films, as in the paper's table 3; News, Adult, Talk-Show
# and Reality-TV are left out there too.
GENRES = tuple(
    "Drama Comedy Romance Thriller Crime Action Adventure Horror Documentary Mystery Sci-Fi Fantasy "
    "Family Biography War History Music Animation Musical Western Sport Short Film-Noir".split()
)


class Builder(FilmsBuilder):
    """25,959 films with poster, plot and 23 genres, in the official split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [FilmsConfig(name="manual", genres=GENRES)]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {ARCHIVE} into the folder, or what is unpacked from it: dataset/ and split.json."
    )
    SPLITS = tuple(SPLIT_NAMES.values())
    published_split = True

    def films(self, dl_manager):
        folder = Path(self.builder_config.folder or dl_manager.manual_dir)
        split_of, texts, why = _read_texts(folder)

        def record(film, read_poster, held=0):
            overview, genres = texts.get(film, ("", ()))
            return FilmRecord(film, overview, genres, read_poster, split_of[film], held)

        found = set()
        for film, read_poster, held in _posters(folder, set(texts)):
            if film in found:  # an archive can hold a file twice
                continue
            found.add(film)
            yield record(film, read_poster, held)
        for film in sorted(split_of.keys() - found):
            reason = "poster missing" if film in texts else why.get(film, "its JSON is missing")
            yield record(film, partial(_bad, reason))


def _bad(why: str):
    raise BadPoster(why)


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder for this configuration, named by the source's content, which is read if it is not recognised.

    Raises:
        UserError: no folder was given, or neither the archive nor `dataset/` is in it.
    """
    if not data.data_dir:
        raise UserError(
            f"--dataset mmimdb needs --data-dir: a folder with {ARCHIVE}, or with dataset/ and split.json"
        )
    folder = Path(data.data_dir).resolve()
    if (folder / ARCHIVE).is_file():
        name = recognised(cache, folder, [], folder, [ARCHIVE], partial(_fingerprint, folder / ARCHIVE))
    else:
        files = [path.name for path in _unpacked(folder)]
        try:
            split = read_inside(folder, SPLIT, MAX_JSON_BYTES, "file")
        except BadPoster as error:
            raise UserError(f"{folder / SPLIT}: {error}") from error
        parts = [split, *map(os.fsencode, files)], (folder / "dataset").resolve(), files
        name = recognised(cache, folder, *parts, partial(fingerprint, *parts))
    return configured(Builder, FilmsConfig(name=name, genres=GENRES, folder=str(folder)), cache)


def _fingerprint(archive: Path) -> tuple[str, bool]:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16], True


def _unpacked(folder: Path) -> list[Path]:
    """The files of `dataset/`."""
    if not (folder / "dataset").is_dir() or not (folder / SPLIT).is_file():
        raise UserError(f"{folder} holds neither {ARCHIVE} nor dataset/ and split.json")
    return sorted((folder / "dataset").iterdir())


def _jsons(folder: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """`split.json` and each `ID.json` of the archive or folder: name, content, and why there is none."""
    if (folder / ARCHIVE).is_file():
        for name, content in read_tar(folder / ARCHIVE, ".json", MAX_JSON_BYTES):
            yield name, content, f"its JSON has {too_large(MAX_JSON_BYTES)}" if content is None else ""
        return
    for path in [folder / SPLIT, *_unpacked(folder)]:
        if path.suffix == ".json":
            try:
                yield path.name, read_inside(path.parent.resolve(), path.name, MAX_JSON_BYTES, "its JSON"), ""
            except BadPoster as error:
                yield path.name, None, str(error)


def _read_texts(folder: Path):
    """Reads the JSON files.

    Returns:
        The split of each film; the longest plot and the genres of each film of the split that has a JSON
        file; and why others have none.
    """
    split, films, why = None, {}, {}
    for name, content, fault in _jsons(folder):
        film = name.removesuffix(".json")
        if content is None and name != SPLIT:
            why[film] = fault
            continue
        try:
            value = json.loads(content or b"")
        except (ValueError, RecursionError) as error:
            raise UserError(f"{folder}: {name} is not valid JSON: {fault or error}") from error
        if name == SPLIT:
            split = value
        else:  # what else is in there is not kept: a film has some 50 kB of it
            films[film] = (value.get("plot"), value.get("genres")) if isinstance(value, dict) else None
    if split is None:
        raise UserError(f"{folder}: there is no {SPLIT}")
    split_of = _read_split(split, f"{folder}: {SPLIT}")
    texts = {film: _read_film(films[film], f"{folder}: {film}.json") for film in split_of if film in films}
    return split_of, texts, why


def _read_split(split, where: str) -> dict[str, str]:
    if not isinstance(split, dict) or set(split) != set(SPLIT_NAMES):
        held = ", ".join(split)[:100] if isinstance(split, dict) else type(split).__name__
        raise UserError(f"{where} must hold {', '.join(SPLIT_NAMES)}, not {held}")
    split_of = {}
    for name, ids in split.items():
        if not isinstance(ids, list):
            raise UserError(f"{where}: {name} must be a list of ids")
        for film in ids:
            if check_id(film, where) in split_of:
                raise UserError(f"{where} names {film} twice")
            split_of[film] = SPLIT_NAMES[name]
    return split_of


def _read_film(film: tuple | None, where: str) -> tuple[str, tuple[str, ...]]:
    if film is None:
        raise UserError(f"{where} does not hold one film")
    plots, genres = ([] if value is None else value for value in film)
    plots = [plots] if isinstance(plots, str) else plots
    for key, texts in (("plot", plots), ("genres", genres)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: {key!r} is not made of texts")
    overview = max(plots, key=len, default="")
    try:
        overview.encode()
    except UnicodeEncodeError as error:
        half = ascii(overview[error.start])
        raise UserError(f"{where}: its longest plot holds {half}, half of a character") from error
    return overview, tuple(genre for genre in genres if genre in GENRES)


def _posters(folder: Path, films: set[str]) -> Iterator[tuple[str, Callable[[], bytes], int]]:
    """Films of these that have a poster, in the source's order, what reads it, and how many bytes that holds."""
    if (folder / ARCHIVE).is_file():
        for name, content in read_tar(folder / ARCHIVE, ".jpeg", MAX_POSTER_BYTES):
            if (film := name.removesuffix(".jpeg")) not in films:
                continue
            if content is None:
                yield film, partial(_bad, too_large(MAX_POSTER_BYTES)), 0
            else:  # an archive is read from its start to its end, so this poster is in memory now or never
                yield film, lambda content=content: content, len(content)
        return
    for path in _unpacked(folder):
        if path.suffix == ".jpeg" and path.stem in films:
            yield path.stem, partial(read_inside, path.parent.resolve(), path.name), 0
