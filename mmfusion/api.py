"""Face for Python: train, load, predict, evaluate; `import mmfusion` has them all.

For example

    run = mmfusion.train("late", data_dir="films", epochs=3)
    mmfusion.predict(run, posters=["poster.jpg"], overviews=["Two sisters inherit a lighthouse."])
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmfusion.config import ENCODER_SECTIONS, VARIANTS, Config
from mmfusion.config.flags import (
    KEYS,
    combined,
    configured,
    keys_of,
    other_films,
    overrides_of,
    say_which_films,
)
from mmfusion.config.idle import refuse_idle
from mmfusion.data.preprocessing import NUMBER
from mmfusion.errors import UserError
from mmfusion.runs import Run, as_parts, check_free
from mmfusion.schema import OVERVIEW, PLURAL, POSTER, TABLE
from mmfusion.startup import cache_folder, import_tensorflow

if TYPE_CHECKING:
    import keras
    import pandas as pd


class TrainedRun(Run):
    """A finished run: `path`, `report` and `model`, beside all that its folder has."""

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder

    @functools.cached_property
    def model(self) -> keras.Model:
        """Its network, rebuilt from the checked configuration and given its weights.

        Raises:
            UserError: it has none, or its files are not those that it wrote.
        """
        import_tensorflow()
        from mmfusion import inference

        return inference.load_model(self)


def load(path: str | Path) -> TrainedRun:
    """Opens a finished run's folder.

    Raises:
        UserError: it is none.
    """
    return TrainedRun.open(path)


def train(
    variant: str,
    *,
    data_dir: str | Path | None = None,
    films: str | Path | pd.DataFrame | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    dataset: str | None = None,
    split_file: str | Path | None = None,
    group_by: str | None = None,
    keep_placeholders: bool = False,
    all_genres: bool = False,
    modalities: Sequence[str] | None = None,
    table: str | Path | None = None,
    skip_bad: bool = False,
    recipe: str = "default",
    config: str | Path | None = None,
    poster_encoder: str | None = None,
    overview_encoder: str | None = None,
    fine_tune: bool = False,
    fusion: str | None = None,
    combiner: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    split_seed: int | None = None,
    settings: Mapping[str, object] | None = None,
    parts: Sequence[str | Path | Run] = (),
    out: str | Path | None = None,
    cache_dir: str | None = None,
    tensorboard: bool = False,
) -> TrainedRun:
    """Trains one variant into a run folder and reports on it, as `python -m mmfusion.train` does.

    Args:
        variant: a name from `config.VARIANTS`.
        data_dir: the folder that holds the films; without it, and without `films`, they are made on the spot.
        films: a table of films, as a CSV, TSV, JSON lines or Parquet file, or a DataFrame.
        columns: what its columns are, such as {"id": "tconst", "overview": ["title", "plot"]}; found out where they
            are not named.
        encoding: of the table, as Python calls it; found out where it is not named.
        separator: between the cells of a CSV; likewise.
        dataset: the films' form; "films" with `data_dir` or `films`.
        split_file: JSON with the ids of train, validation and test films.
        group_by: a column; films with the same value of it stay in one split.
        keep_placeholders: read texts and pictures that stand for none like others.
        all_genres: of MM-IMDb also those beside its 23.
        modalities: what fusion reads; without it posters and overviews.
        table: a CSV of films' columns, joined by its column `Id`.
        skip_bad: drop films that cannot be read.
        recipe: all settings by one name.
        config: a TOML file with what differs from the recipe.
        poster_encoder: its name, or "preset:" and a preset's.
        overview_encoder: the same.
        fine_tune: train presets' own weights too.
        fusion: joint fusion's operator.
        combiner: late fusion's.
        epochs: the most to train.
        seed: of weights, order, augmentation and dropout.
        split_seed: of train, validation and test films; without it the seed.
        settings: others by dotted key, such as {"joint.units": 128}.
        parts: for late fusion, finished runs of one modality each.
        out: the run folder; without it under `runs/`.
        cache_dir: where prepared films are kept.
        tensorboard: write TensorBoard logs into the run folder.

    Raises:
        UserError: what is wrong, in one line.
    """
    named = {name: value for name, value in locals().items() if name in KEYS}
    cache = cache_folder(cache_dir)
    if films is not None:
        named["films"] = _file_of(films, cache)
    said = {KEYS[name]: name for name, value in named.items() if value is not None and value is not False}
    roles = keys_of(columns or {})
    said |= dict.fromkeys(roles, "columns")
    overrides = combined(settings or {}, overrides_of(named) | roles, said)
    given = {key: key for key in settings or {}} | said
    file = Path(config) if config else None
    if seed is not None:
        overrides["seed"] = seed
    run = run_training(
        variant,
        lambda name: configured(name, recipe=recipe, file=file, overrides=overrides),
        given=given,
        parts=parts,
        out=Path(out) if out else None,
        cache=cache,
        tensorboard=tensorboard,
    )
    from mmfusion.reports import report

    report.finish(run)
    return load(run.folder)


def run_training(
    variant: str,
    configure: Callable[[str], Config],
    *,
    given: Mapping[str, str],
    parts: Sequence[str | Path | Run],
    out: Path | None,
    cache: Path,
    tensorboard: bool,
) -> Run:
    """Trains a variant, and late fusion's parts before it; everything but the report is in the folder afterwards.

    Args:
        variant: a name from `config.VARIANTS`.
        configure: a variant -> its configuration, for it and for its parts.
        given: by dotted key, how the caller names the settings that were chosen one by one.
        parts: finished runs to make late fusion of.
        out: the run folder; None: one under `runs/` that is called after the configuration.
        cache: where prepared films are kept.
        tensorboard: write TensorBoard logs into the run folder.

    Raises:
        UserError: a setting does nothing, the folder is taken, the parts do not fit, or the films cannot be read.
    """
    if variant not in VARIANTS:
        raise UserError(f"unknown variant {variant!r}; there are: {', '.join(VARIANTS)}")
    if parts and not VARIANTS[variant].trained_apart:
        apart = " or ".join(name for name, one in VARIANTS.items() if one.trained_apart)
        raise UserError(f"--parts goes with --variant {apart}")
    config = configure(variant)
    refuse_idle(given, [config])
    if parts:  # they were trained before
        sections = (*ENCODER_SECTIONS, "fine_tuning", "training")
        of_parts = [name for key, name in given.items() if key.partition(".")[0] in sections]
        if names := [*of_parts, *(["--tensorboard"] if tensorboard else [])]:
            raise UserError(f"{names[0]} does nothing here: --parts are trained already; leave it out")
    part_runs = [one if isinstance(one, Run) else Run.open(one) for one in parts]
    part_configs = {} if parts else {part: configure(part) for part in config.parts}
    config = config.made_of(part_configs or {part: run.config for part, run in as_parts(config, part_runs).items()})
    name = f"{config.folder_name}-{config.data.dataset}-{config.recipe}-{config.seed}"
    folder = out or Path("runs") / name
    check_free(folder)
    say_which_films(config, given.get("data.dataset"))

    import_tensorflow()
    from mmfusion.training import experiment

    return experiment.train(
        config, folder, cache, part_configs=part_configs, part_runs=part_runs, tensorboard=tensorboard
    )


def predict(
    run: Run,
    *,
    posters: Sequence[bytes | str | Path | None] | None = None,
    overviews: Sequence[str | None] | None = None,
    tables: Sequence[Mapping[str, str] | None] | None = None,
    films: str | Path | pd.DataFrame | None = None,
    data_dir: str | Path | None = None,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    keep_placeholders: bool = False,
    cache_dir: str | None = None,
) -> pd.DataFrame:
    """Predicts the genres of any films: of a table, or as many as each list holds.

    Args:
        run: a finished run.
        films: instead of lists a table of films, see `train`; the rows of what is given have their ids.
        data_dir: the folder below which the table's posters are; without it the table's own.
        columns: what its columns are, see `train`; and so the next three.
        encoding: of the table.
        separator: between its cells.
        keep_placeholders: read texts and pictures that stand for none like others.
        cache_dir: where a DataFrame of films is kept.
        posters: files, or their bytes; None for a film without.
        overviews: texts; None for a film without.
        tables: by column, such as {"Year": "1994"}; None for a film without.

    Returns:
        Probabilities, films x genres; NaN for a film of a table with nothing that the run reads.

    Raises:
        UserError: the lists differ in length, a poster or the table cannot be read, no film of the table has what
            the run reads, or the run's model or preset cannot be had.
    """
    import pandas as pd

    import_tensorflow()
    from mmfusion import inference
    from mmfusion.data.posters import BadPoster

    if films is not None:
        if posters or overviews or tables:
            raise UserError("predict takes films, or lists of posters, overviews and tables")
        from mmfusion.data.film_table.unlabelled import FilmReader
        from mmfusion.inference.many import ManyFilms

        file = _file_of(films, cache_folder(cache_dir))
        named = keys_of(columns or {})
        data = other_films(
            run.config.data,
            films=file,
            data_dir=data_dir,
            named=named,
            labelled=False,
            encoding=encoding,
            separator=separator,
            keep_placeholders=keep_placeholders,
        )
        many = list(ManyFilms(run, FilmReader(data)))
        ids = [film for some in many for film in some.ids]
        found = pd.DataFrame(
            np.concatenate([some.y_prob for some in many]), pd.Index(ids, name="id"), [*run.genres]
        )
        found[[not read for some in many for read in some.read]] = np.nan
        return found
    given = {POSTER: posters, OVERVIEW: overviews, TABLE: tables}
    if any(isinstance(values, str | bytes | Mapping) for values in given.values()):
        raise UserError("predict takes lists, with an entry for every film")
    listed: dict[str, list] = {modality: list(values) for modality, values in given.items() if values is not None}
    counts = {PLURAL[modality]: len(values) for modality, values in listed.items()}
    if len(set(counts.values())) != 1 or not max(counts.values()):
        raise UserError(f"predict takes one of each for every film, not {counts or 'nothing'}")
    if not set(listed) & set(run.config.reads):
        wanted = " or ".join(modality.plural for modality in run.config.reads)
        raise UserError(f"{run.folder} is a run of {run.config.label}: give {wanted}")
    if POSTER in listed:
        listed[POSTER] = [
            poster_bytes(one) if isinstance(one, str | Path) else one or b"" for one in listed[POSTER]
        ]
    if OVERVIEW in listed:
        listed[OVERVIEW] = [one or "" for one in listed[OVERVIEW]]
    if TABLE in listed:
        listed[TABLE] = [checked_row(run, one or {}) for one in listed[TABLE]]
    try:
        probabilities = inference.predict(run, listed)
    except BadPoster as error:
        raise UserError(f"a poster cannot be read: {error}") from error
    return pd.DataFrame(probabilities, columns=list(run.genres))


def _file_of(films: str | Path | pd.DataFrame, cache: Path) -> Path:
    """The file of a table of films; a DataFrame is kept in the cache."""
    if isinstance(films, str | Path):
        return Path(films)
    from mmfusion.data.film_table.frames import keep_frame

    return keep_frame(films, cache)


def poster_bytes(file: str | Path) -> bytes:
    """Reads a poster's file.

    Raises:
        UserError: it is empty, too large, or cannot be read.
    """
    from mmfusion.data.posters import MAX_POSTER_BYTES

    try:
        with Path(file).open("rb") as opened:  # it may be a pipe
            encoded = opened.read(MAX_POSTER_BYTES + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if len(encoded) > MAX_POSTER_BYTES:
        raise UserError(f"{file} has more than {MAX_POSTER_BYTES:,} bytes")
    if not encoded:
        raise UserError(f"{file} is empty")
    return encoded


def checked_row(run: Run, cells: Mapping[str, object]) -> dict[str, str]:
    """Gives what is known of a film's table as texts by column.

    Raises:
        UserError: the run knows no such column, or a column of numbers has another value.
    """
    columns = {column.name: column for column in run.fitted.columns}
    row = {name: "" if value is None else str(value).strip() for name, value in cells.items()}
    for name, value in row.items():
        if name not in columns:
            read = f"it reads {', '.join(columns)}" if columns else "it reads no table"
            raise UserError(f"{run.folder} knows no column {name!r}; {read}")
        if value and columns[name].values is None and not re.fullmatch(NUMBER, value):
            raise UserError(f"{name} is a column of numbers, and {value!r} is none")
    return row


def evaluate(*runs: Run, split: str = "test") -> pd.DataFrame:
    """Scores finished runs on their own films, without TensorFlow.

    Args:
        runs: trained on the same films and split.
        split: "test" or "validation".

    Returns:
        A row a score, see `mmfusion.evaluation.frame.long_frame`.

    Raises:
        UserError: they were not scored on the same films and genres.
    """
    from mmfusion.evaluation import scoring
    from mmfusion.evaluation.frame import long_frame

    if not runs:
        raise UserError("evaluate takes one run or more")
    scored = [scoring.score(run, split) for run in runs]
    scoring.check_comparable(scored)
    return long_frame([one.report for one in scored])


def as_function(module: str, function: Callable) -> None:
    """Makes a command's module callable: `mmfusion.train` is the module, and is called as the function."""
    door = type("Door", (types.ModuleType,), {"__call__": staticmethod(function)})
    sys.modules[module].__class__ = door
