"""Films, prepared once and kept in the cache: from a builder's records to arrays."""

import contextlib
import hashlib
import io
import json
import sys
import textwrap
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from requests import RequestException  # what tensorflow-datasets downloads with
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.extractor import ExtractError

from mmfusion.config import DataConfig
from mmfusion.data import DATASETS
from mmfusion.data.posters import decode_posters
from mmfusion.data.splits import duplicate_groups
from mmfusion.errors import UserError
from mmfusion.files import write_atomically

_DOWNLOAD_ERRORS = (tfds.download.DownloadError, NonMatchingChecksumError, ExtractError, RequestException)
_CHUNK = 512  # posters decoded at a time: bounds the memory that encoded posters take


@dataclass(frozen=True)
class Films:
    """All films of a data set, in order of their ids."""

    dataset: str
    fingerprint: str  # of the source's content
    genres: tuple[str, ...]  # G, in the data set's own order
    ids: tuple[str, ...]  # N
    overviews: tuple[str, ...]  # N
    posters: np.ndarray  # uint8 (N, H, W, 3)
    labels: np.ndarray  # float32 (N, G) multi-hot
    groups: np.ndarray  # int (N,); films with the same overview or poster share a number
    official_split: dict[str, list[str]] | None  # ids by split, where the data set has one
    skipped: dict[str, str]  # films left out, and why
    builder: tfds.core.DatasetBuilder  # holds what the arrays leave out: the posters' files

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, ids) -> np.ndarray:
        """Row numbers of these ids, in their order."""
        row_of = {film: row for row, film in enumerate(self.ids)}
        return np.array([row_of[film] for film in ids], np.int64)

    def encoded_posters(self, ids) -> dict[str, bytes]:
        """The posters of some films as they came: the bytes of their files, by id."""
        wanted = set(ids)
        return {r["id"]: r["poster"] for _, r in _records(self.builder) if r["id"] in wanted}


def load_films(data: DataConfig, cache: Path) -> Films:
    """The films that this configuration names; prepared the first time, then read from the cache.

    Raises:
        UserError: the source is missing, cannot be read or downloaded, or holds bad films.
    """
    builder = _prepared_builder(data, cache)
    name = f"{builder.builder_config.name}-{builder.version}-{data.poster_size}.npz"
    file = cache / "arrays" / builder.name / name
    if not file.exists():
        _write_arrays(builder, data.poster_size, file)
    with np.load(file, allow_pickle=False) as arrays:
        records = json.loads(arrays["records"].tobytes())
        posters, labels, groups = arrays["posters"], arrays["labels"], arrays["groups"]
    return Films(
        dataset=builder.name,
        fingerprint=builder.builder_config.name,
        genres=tuple(builder.info.features["genres"].feature.names),
        ids=tuple(records["ids"]),
        overviews=tuple(records["overviews"]),
        posters=posters,
        labels=labels,
        groups=groups,
        official_split=records["official_split"],
        skipped=dict(builder.info.metadata["skipped"]),
        builder=builder,
    )


def _prepared_builder(data: DataConfig, cache: Path) -> tfds.core.DatasetBuilder:
    if data.dataset not in DATASETS:
        raise UserError(f"unknown data set {data.dataset!r}; there are: {', '.join(DATASETS)}")
    if data.data_dir and not Path(data.data_dir).is_dir():
        raise UserError(f"--data-dir {data.data_dir}: there is no such folder")
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {cache} cannot be made: {error.strerror}; name another with --cache-dir"
        ) from error
    builder = import_module(DATASETS[data.dataset]).make_builder(data, cache)
    if not builder.is_prepared():
        print(f"Preparing {builder.name} in {cache} (once for this content) ...", file=sys.stderr)
        if not sys.stderr.isatty():
            tfds.disable_progress_bar()
        config = tfds.download.DownloadConfig(manual_dir=data.data_dir or None, try_download_gcs=False)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints sizes that it does not know
                builder.download_and_prepare(download_dir=cache / "downloads", download_config=config)
        except _DOWNLOAD_ERRORS as error:
            reason = textwrap.shorten(str(error), 160)
            raise UserError(
                f"{data.dataset} could not be downloaded ({reason}); fetch the files by hand and name "
                "their folder with --data-dir"
            ) from error
        except OSError as error:
            raise UserError(f"cannot prepare {data.dataset} in {cache}: {error}") from error
    return builder


def _records(builder):
    """Pairs of a split's name and a record with its poster still encoded."""
    for split in builder.info.splits:
        examples = builder.as_dataset(split=split, decoders={"poster": tfds.decode.SkipDecoding()})
        for example in examples.as_numpy_iterator():
            record = {**example, "id": example["id"].decode(), "overview": example["overview"].decode()}
            yield split, record


def _write_arrays(builder, poster_size: int, file: Path) -> None:
    """Reads all records once and keeps what training reads: everything but the encoded posters."""
    number_of_genres = builder.info.features["genres"].feature.num_classes
    ids, overviews, labels, keys, split_of, posters, encoded = [], [], [], [], [], [], []
    for split, record in _records(builder):
        ids.append(record["id"])
        overviews.append(record["overview"])
        split_of.append(split)
        labels.append(np.isin(np.arange(number_of_genres), record["genres"]).astype(np.float32))
        keys.append((record["overview"].strip(), hashlib.sha256(record["poster"]).digest()))
        encoded.append(record["poster"])
        if len(encoded) == _CHUNK:
            posters.append(decode_posters(encoded, poster_size))
            encoded = []
    posters.append(decode_posters(encoded, poster_size))

    order = np.argsort(np.asarray(ids))
    official = None
    if len(builder.info.splits) > 1:
        official = {s: sorted(i for i, of in zip(ids, split_of) if of == s) for s in builder.info.splits}
    records = {
        "ids": [ids[i] for i in order],
        "overviews": [overviews[i] for i in order],
        "official_split": official,
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        records=np.frombuffer(json.dumps(records).encode(), np.uint8),
        posters=np.concatenate(posters)[order],
        labels=np.stack(labels)[order],
        groups=duplicate_groups([keys[i] for i in order]),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getbuffer())
