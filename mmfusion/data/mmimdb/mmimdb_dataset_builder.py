"""The tensorflow-datasets builder of MM-IMDb, from `mmimdb.tar.gz` or what is unpacked from it."""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from mmfusion.config import DataConfig
from mmfusion.data.archives import read_tar
from mmfusion.data.mmimdb.genres import GENRES, all_genres, count_genres, say_left_out
from mmfusion.data.posters import MAX_POSTER_BYTES, BadPoster, NoPoster
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
from mmfusion.files import check_id, make_folder, write_atomically
from mmfusion.schema import SIDES
from mmfusion.schema import SPLITS as SPLIT_NAMES

ARCHIVE = "mmimdb.tar.gz"
SPLIT = "split.json"
MAX_JSON_BYTES = 4 * 2**20  # the official split has 0.3 MB; what Python makes of JSON can be 20 times as large
POSTERS = (".jpeg", ".jpg")


class Builder(FilmsBuilder):
    """25,959 films with poster, plot and 23 genres, in the official split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [FilmsConfig(name="manual", genres=GENRES)]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put {ARCHIVE} into the folder, or what is unpacked from it: dataset/ and split.json."
    )
    SPLITS = SPLIT_NAMES
    published_split = True

    def films(self, dl_manager):
        folder = Path(self.builder_config.folder or dl_manager.manual_dir)
        source = _read(folder)
        name_of = {genre.casefold(): genre for genre in self.builder_config.genres}
        if source.texts:
            self.account = say_left_out(source.genre_counts, self.builder_config.genres, str(folder))

        def record(film, read_poster, held=0):
            overview, written = source.texts.get(film, ("", ()))
            genres = dict.fromkeys(name_of[genre.casefold()] for genre in written if genre.casefold() in name_of)
            return FilmRecord(film, overview, tuple(genres), read_poster, source.split_of[film], held)

        found = set()
        for film, read_poster, held in _posters(folder, source.posters):
            if film in found:  # an archive can hold a file twice
                continue
            found.add(film)
            yield record(film, read_poster, held)
        for film in sorted(source.split_of.keys() - found):
            if film in source.texts:
                yield record(film, partial(_bad, "poster missing", NoPoster))
            else:
                yield record(film, partial(_bad, source.why.get(film, "its JSON is missing")))


def _bad(why: str, kind: type[BadPoster] = BadPoster):
    raise kind(why)


def make_builder(data: DataConfig, cache: Path, *, with_table: bool = False) -> FilmsBuilder:
    """The builder for this configuration, named by the source's content, which is read if it is not recognised.

    Raises:
        UserError: no folder was given, or neither the archive nor `dataset/` is in it; or where all genres are
            asked for, the films cannot be read, none has a genre, or one has a name that cannot be shown.
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
        texts, where = [split, *map(os.fsencode, files)], (folder / "dataset").resolve()
        content = partial(fingerprint, texts, partial(read_inside, where), files)
        name = recognised(cache, folder, texts, where, files, content)
    genres = GENRES
    if data.all_genres:
        genres = _read_all_genres(folder, cache / "genres" / f"{name}.json")
        name = f"{name}-all-genres"
    return configured(Builder, FilmsConfig(name=name, genres=genres, folder=str(folder)), cache)


def _fingerprint(archive: Path) -> tuple[str, bool]:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16], True


def _unpacked(folder: Path) -> list[Path]:
    """The files of `dataset/`."""
    if not (folder / "dataset").is_dir() or not (folder / SPLIT).is_file():
        raise UserError(f"{folder} holds neither {ARCHIVE} nor dataset/ and split.json")
    return sorted((folder / "dataset").iterdir())


@dataclass(frozen=True)
class _Source:
    """Texts, genres and splits of the films, and their posters' names."""

    split_of: Mapping[str, str]  # by film
    texts: Mapping[str, tuple[str, tuple[str, ...]]]  # overview and genres of those that have a JSON file
    why: Mapping[str, str]  # the others have none that can be read
    posters: Mapping[str, str]  # by film, the name of its poster's file

    @property
    def genre_counts(self) -> Counter[str]:
        return count_genres([genres for _, genres in self.texts.values()])


def _files(folder: Path) -> Iterator[tuple[str, bytes | None, str]]:
    """Files of the archive or folder: name, content of `split.json` and each `ID.json`, and why there is none."""
    if (folder / ARCHIVE).is_file():
        for name, content in read_tar(folder / ARCHIVE, (".json", *POSTERS), MAX_JSON_BYTES):
            yield name, content, f"its JSON has {too_large(MAX_JSON_BYTES)}" if content is None else ""
        return
    for path in [folder / SPLIT, *_unpacked(folder)]:
        content, fault = None, ""
        if path.suffix == ".json":
            try:
                content = read_inside(path.parent.resolve(), path.name, MAX_JSON_BYTES, "its JSON")
            except BadPoster as error:
                fault = str(error)
        yield path.name, content, fault


def _read(folder: Path) -> _Source:
    """Reads the JSON files and the names of the others.

    Raises:
        UserError: `split.json` is missing, or a JSON file is not as it should be.
    """
    split, films, why, posters = None, {}, {}, []
    for name, content, fault in _files(folder):
        if name.lower().endswith(POSTERS):
            posters.append(name)
        if not name.endswith(".json"):
            continue
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
    posters.sort(key=lambda name: name.lower().endswith(".jpeg"))  # the last of a film's is taken
    poster_of = {PurePosixPath(name).stem: name for name in posters}
    return _Source(split_of, texts, why, {film: name for film, name in poster_of.items() if film in texts})


def _read_split(split, where: str) -> dict[str, str]:
    names = {name: SIDES.get(name.lower(), "") for name in split} if isinstance(split, dict) else {}
    if sorted(names.values()) != sorted(SPLIT_NAMES):
        held = ", ".join(split)[:100] if isinstance(split, dict) else type(split).__name__
        raise UserError(f"{where} must hold train, dev, test, not {held}")
    split_of = {}
    for name, ids in split.items():
        if not isinstance(ids, list):
            raise UserError(f"{where}: {name} must be a list of ids")
        for film in ids:
            if check_id(film, where) in split_of:
                raise UserError(f"{where} names {film} twice")
            split_of[film] = names[name]
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
    return overview, tuple(genre.strip() for genre in genres)


def _read_all_genres(folder: Path, kept: Path) -> tuple[str, ...]:
    """All genres of the films; `kept` is a file that spares reading them once more."""
    with contextlib.suppress(OSError, ValueError):
        return tuple(json.loads(kept.read_bytes()))
    genres = all_genres(_read(folder).genre_counts, str(folder))
    with contextlib.suppress(UserError):  # a cache that cannot be written may still hold the films
        make_folder(kept.parent)
        write_atomically(kept, json.dumps(genres))
    return genres


def _posters(folder: Path, posters: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], bytes], int]]:
    """Films that have a poster, in the source's order, what reads it, and how many bytes that holds."""
    film_of = {name: film for film, name in posters.items()}
    if (folder / ARCHIVE).is_file():
        for name, content in read_tar(folder / ARCHIVE, POSTERS, MAX_POSTER_BYTES):
            if name not in film_of:
                continue
            if content is None:
                yield film_of[name], partial(_bad, too_large(MAX_POSTER_BYTES)), 0
            else:  # an archive is read from its start to its end, so this poster is in memory now or never
                yield film_of[name], lambda content=content: content, len(content)
        return
    dataset = (folder / "dataset").resolve()
    for name in sorted(film_of):
        yield film_of[name], partial(read_inside, dataset, name), 0
