"""Films, split, preprocessing and network of a run: all that is decided before it is trained."""

import dataclasses
import datetime
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from mmfusion.config import Config
from mmfusion.config.idle import is_idle
from mmfusion.data.films import Films, films_of
from mmfusion.data.own_split import own_split, read_split_file
from mmfusion.data.preprocessing import USUAL_RULES, Preprocessing, TextRules
from mmfusion.data.scripts import decide
from mmfusion.data.splits import split_films, split_hash
from mmfusion.data.table import fit_columns
from mmfusion.data.text import fit_vocabulary
from mmfusion.errors import UserError
from mmfusion.models import build_model
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, TABLE, Modality
from mmfusion.training import inputs
from mmfusion.training.machine import machine


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Films with all that is decided from them before training."""

    films: Films
    split: dict[str, list[str]]
    fitted: Preprocessing

    def inputs(self, config: Config) -> inputs.Inputs:
        """The films as a model of this configuration reads them."""
        return inputs.of_films(config, self.films, self.fitted)

    @functools.cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Row numbers of each split's films."""
        return {name: self.films.rows(ids) for name, ids in self.split.items()}


def prepare_again(run: Run, cache: Path) -> Prepared:
    """The films of a run, in its split.

    Raises:
        UserError: its source holds other films now: those that trained it might be taken for test films.
    """
    config, facts = run.config, run.facts
    # As it was decided, if it was: a run of before has none of these rules.
    rules = config.overview.model_copy(update=run.fitted.rules.model_dump())
    prepared = prepare(config.with_values(overview=rules), cache)
    now = (prepared.films.fingerprint, prepared.films.table_hash, split_hash(prepared.split))
    if now != (facts["fingerprint"], facts.get("table", ""), facts["split"]):
        what = f"{config.data.dataset} holds now"
        if file := config.data.split_file:
            what = f"{what}, or another split than {file} says now"
        raise UserError(f"{run.folder} was started on other films than {what}")
    return prepared


def check_presets(run: Run, read: inputs.Inputs) -> None:
    """Refuses films that other presets have read than those of a run.

    Raises:
        UserError: it names the modality.
    """
    for modality, wanted in run.facts.get("presets", {}).items():
        if read.presets.get(modality) != wanted:
            raise UserError(f"{run.folder} was begun with another {modality} preset than is there now")


def prepare(config: Config, cache: Path) -> Prepared:
    """The films of a configuration, their split, and what is fitted on the training films.

    Raises:
        UserError: the films or their split cannot be read, or are too few.
    """
    films = films_of(config, cache)
    split = _split(config, films)
    empty = [name for name, ids in split.items() if not ids]
    if empty:
        raise UserError(f"{len(films)} films are too few: the {empty[0]} split is empty")
    training = films.rows(split["train"])
    texts = films.texts.take(training)
    has = {POSTER: bool(films.hashes[training, 0].any()), OVERVIEW: any(map(str.strip, texts))}
    for modality in config.reads:
        if not has.get(modality, True):
            raise UserError(_nothing_to_read(config.variant, modality, [one for one in has if has[one]]))
    rules = _rules(config, texts)
    vocabulary = fit_vocabulary(texts, config.vocabulary_size, rules)
    columns = ()
    if TABLE in config.in_batches:
        columns = fit_columns(config.table.columns, films.table, training, config.table.values)
    return Prepared(films, split, Preprocessing(vocabulary, columns, rules))


_KEPT = 2
_kept: dict[tuple, Prepared] = {}


def prepare_once(config: Config, cache: Path) -> Prepared:
    """Prepares films as `prepare` does; the last two are kept for configurations that differ in other things."""
    made_of = ("in_batches", "split_seed", "data", "overview", "table", "poster_size", "vocabulary_size")
    key = (cache, *(getattr(config, name) for name in made_of))
    prepared = _kept.pop(key, None) or prepare(config, cache)
    _kept[key] = prepared  # the last used is the last
    for oldest in list(_kept)[:-_KEPT]:
        del _kept[oldest]
    return prepared


def _rules(config: Config, texts: Sequence[str]) -> TextRules:
    """Decides how overviews become words; what the texts decided is said where it is not as usual."""
    rules = decide(texts, config.overview.split, config.overview.fold)
    decided = {name: value for name, value in rules if getattr(config.overview, name) == "auto"}
    said = [f"overview.{name}={value}, {why}" for (name, value), why in _WHY.items() if decided.get(name) == value]
    if said and not is_idle("overview.split", config, {}):
        print(f"For these overviews {'; '.join(said)}; --set chooses otherwise", file=sys.stderr)
    return rules


_WHY = {
    ("split", "characters"): "as their script has no spaces between words",
    ("fold", "on"): "as they have capitals beyond ASCII",
}


def _split(config: Config, films: Films) -> dict[str, list[str]]:
    """The films' ids by split: somebody's own, or else one that is drawn."""
    shares, seed = config.data.split, config.split_seed
    if file := config.data.split_file:
        return own_split(films, read_split_file(Path(file)), shares, seed, f"--split-file {file}")
    if films.official_split is None:
        return split_films(films.ids, films.labels, films.groups, shares, seed)
    if films.builder.published_split:
        return films.official_split
    return own_split(films, films.official_split, shares, seed, "the films' own split")


def _nothing_to_read(variant: str, modality: str, there: list[Modality]) -> str:
    alone = [f"--variant {one} reads {one.plural} alone" for one in there]
    return (
        f"no training film has {'an' if modality == OVERVIEW else 'a'} {modality}, which {variant} reads"
        + "".join(f"; {one}" for one in alone)
    )


def facts_of(config: Config, model: keras.Model, read: inputs.Inputs) -> dict:
    """Collects what `config.json` shall say of a network."""
    facts = {"parameters": model.count_params(), "reads": list(config.reads)}
    more = {"features": read.features, "presets": read.presets}
    return facts | {name: value for name, value in more.items() if value}


def write_decisions(run: Run, config: Config, prepared: Prepared, more_facts: dict) -> None:
    """Writes all that is decided before training into a new run.

    Args:
        run: new.
        config: the run's.
        prepared: its films.
        more_facts: what else `config.json` shall say of this run.
    """
    films, split = prepared.films, prepared.split
    facts = {
        "fingerprint": films.fingerprint,
        "split": split_hash(split),
        "source": list(films.account),
        **({"placeholders": films.placeholders} if films.placeholders else {}),
        **({"table": films.table_hash} if films.table_hash else {}),
        **({"overview": rules.model_dump()} if (rules := prepared.fitted.rules) != USUAL_RULES else {}),
        "films": {name: len(ids) for name, ids in split.items()},
        "genre_counts": {name: films.labels[prepared.rows[name]].sum(0).astype(int).tolist() for name in split},
        **more_facts,
        "cores": os.cpu_count(),
        **machine(),
        "started": datetime.date.today().isoformat(),
    }
    run.write_config(config, facts)
    hashes = films.hashes[np.concatenate([prepared.rows[name] for name in split])]
    run.write_data(split, hashes, films.genres, prepared.fitted, films.skipped)


def check_parts(parts: Sequence[Run], prepared: Prepared, config: Config) -> None:
    """Refuses finished parts that were not trained on just these films."""
    for part in parts:
        for what, ours, theirs in (
            ("source of films", prepared.films.fingerprint, part.facts["fingerprint"]),
            ("split", split_hash(prepared.split), part.facts["split"]),
            ("list of genres", prepared.films.genres, part.genres),
            *(
                one
                for modality in set(part.config.reads) & _SHARED.keys()
                for one in _SHARED[modality](part, prepared, config)
            ),
            ("training.precision", config.training.precision, part.config.training.precision),
        ):
            if ours != theirs:
                raise UserError(
                    f"--parts {part.folder} has another {what} than this run would have; "
                    "train both with the same data, recipe, --seed and --split-seed"
                )


# What a part must share with late fusion, by the modality that it reads, each as (what, the fusion's, the part's).
_SHARED = {
    OVERVIEW: lambda part, prepared, config: [
        ("overview.split or overview.fold", prepared.fitted.rules, part.fitted.rules),
        ("vocabulary", prepared.fitted.vocabulary, part.vocabulary),
    ],
    TABLE: lambda part, prepared, config: [
        ("table", prepared.films.table_hash, part.facts.get("table", "")),
        ("table's columns", prepared.fitted.columns, part.fitted.columns),
        ("number of table.values", config.table.values, part.config.table.values),
    ],
}


def build(config: Config, prepared: Prepared, read: inputs.Inputs) -> keras.Model:
    """The untrained model of this configuration for these films."""
    config = as_fitted(config, prepared.fitted)
    model = build_model(config, len(prepared.films.genres), read.features)
    for layer in (model, *model.handed_layers):
        if hasattr(layer, "adapt"):  # to the words of the training films
            layer.adapt(prepared.fitted.vocabulary)
    return model


def as_fitted(config: Config, fitted: Preprocessing) -> Config:
    """A small data set has fewer words than the configuration allows; and all columns may have been asked for."""
    return config.with_vocabulary(len(fitted.vocabulary)).with_values(
        table=config.table.model_copy(update={"columns": tuple(column.name for column in fitted.columns)}),
    )


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.sigmoid(logits))
