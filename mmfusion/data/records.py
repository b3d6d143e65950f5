"""What the builders of all data sets share: one film's form, safe reading, and films that cannot be used."""

import dataclasses
import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds

from mmfusion.data.posters import BadPoster, open_poster
from mmfusion.errors import UserError
from mmfusion.schema import CHANNELS

_LISTED = 10  # bad films named in one message


@dataclasses.dataclass(frozen=True)
class FilmRecord:
    """One film of a source, its poster not read yet."""

    id: str
    overview: str
    genres: tuple[str, ...]
    read_poster: Callable[[], bytes] | None  # raises BadPoster when there is none; None once it was read
    split: str = "films"


@dataclasses.dataclass(eq=False)
class FilmsConfig(tfds.core.BuilderConfig):
    """One state of one source of films; its `name` is the key in the cache."""

    genres: tuple[str, ...] = ()
    folder: str = ""  # where the source lies; "" where it is downloaded or made
    films: int = 0  # synthetic only
    seed: int = 0  # synthetic only


class FilmsBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A tensorflow-datasets builder that also gives its films one by one.

    `mmfusion.data.films` reads `films` directly into arrays; `tfds.load` writes its own records of them.
    """

    SPLITS = ("films",)

    def films(self, dl_manager: tfds.download.DownloadManager) -> Iterator[FilmRecord]:
        """All films of the source, those with a bad poster included, in the source's order.

        Raises:
            UserError: the source is not as it should be.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which films it has")

    def _info(self) -> tfds.core.DatasetInfo:
        info = self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "poster": tfds.features.Image(shape=(None, None, CHANNELS)),  # keeps the file's bytes
                    "overview": tfds.features.Text(),
                    "genres": tfds.features.Sequence(
                        tfds.features.ClassLabel(names=list(self.builder_config.genres))
                    ),
                }
            ),
        )
        # Nothing of ours is in tensorflow-datasets' bucket, and looking there leaves an empty folder in /tmp.
        info.initialize_from_bucket = lambda: None
        return info

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        return {split: self._generate_examples(dl_manager, split) for split in self.SPLITS}

    def _generate_examples(self, dl_manager, split):
        for film in self.films(dl_manager):
            if film.split != split:
                continue
            try:
                poster = film.read_poster()
                open_poster(poster)
            except BadPoster as error:
                raise UserError(f"the film {film.id} cannot be read: {error}") from error
            yield (
                film.id,
                {"id": film.id, "poster": poster, "overview": film.overview, "genres": list(film.genres)},
            )


def configured(builder: type[FilmsBuilder], config: FilmsConfig, cache: Path) -> FilmsBuilder:
    """The builder for one configuration; one that the class lists itself goes by its name there."""
    listed = config.name in builder.builder_configs
    return builder(data_dir=cache, config=config.name if listed else config)


def fingerprint(texts: Iterable[bytes], folder: Path, files: Iterable[str]) -> str:
    """16 hex digits that change when a text or a file's content does; a missing file is a content too."""

    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)

    for text in texts:
        add(text)
    for name in files:
        try:
            add(read_inside(folder, name))
        except BadPoster:
            add(b"")
    return digest.hexdigest()[:16]


def read_inside(folder: Path, name: str) -> bytes:
    """Reads a file of this folder; a link that leads out of it counts as missing.

    Args:
        folder: resolved.
        name: of the file, without any folder.

    Raises:
        BadPoster: there is no such file in the folder that can be read.
    """
    path = folder / name
    try:
        if path.is_symlink():
            path = path.resolve()
        if path.is_relative_to(folder) and stat.S_ISREG(path.lstat().st_mode):
            return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # no permission; a NUL; links in a circle
        raise BadPoster("poster missing") from error
    raise BadPoster("poster missing")


def refuse_bad_films(bad: Mapping[str, str], skip_bad: bool, total: int) -> None:
    """Stops at bad films unless they are to be skipped and some good ones are left.

    Args:
        bad: why a film cannot be used, by id.
        skip_bad: whether the user asked to drop them.
        total: how many films there are, good and bad.

    Raises:
        UserError: it names the first films and says what to do.
    """
    if bad and (not skip_bad or len(bad) == total):
        named = "; ".join(f"{film} ({why})" for film, why in list(bad.items())[:_LISTED])
        more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
        advice = "no film is left" if len(bad) == total else "mend them, or drop them with --skip-bad"
        raise UserError(f"{len(bad)} of {total} films cannot be read: {named}{more}; {advice}")
