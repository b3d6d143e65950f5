"""Trains and asks models: a Config in, a run folder with a trained model out."""

import dataclasses
import datetime
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmfusion.config import Config
from mmfusion.data.films import Films, films_of
from mmfusion.data.preprocessing import Preprocessing
from mmfusion.data.source import Source
from mmfusion.data.splits import split_films, split_hash
from mmfusion.data.table import fit_columns
from mmfusion.data.text import fit_vocabulary
from mmfusion.errors import UserError
from mmfusion.models import build_model, model_class
from mmfusion.models.weights import check_weights, load_weights, save_model
from mmfusion.reports.panels import choose_films
from mmfusion.runs import Predictions, Run, as_parts, check_free
from mmfusion.schema import TABLE
from mmfusion.training import fitting, inputs
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


def train(
    config: Config,
    folder: Path,
    cache: Path,
    *,
    part_configs: Mapping[str, Config] | None = None,
    part_runs: Sequence[Run] = (),
    tensorboard: bool = False,
) -> Run:
    """Trains one variant into a new run folder; everything but the report is in it afterwards.

    Args:
        config: what to train, on which films.
        folder: the run folder; it must not exist yet.
        cache: where prepared films are kept.
        part_configs: for late fusion, how to train its parts, by variant; they go into the run folder.
        part_runs: for late fusion, instead of that, a finished run of each.
        tensorboard: also write TensorBoard logs, into the run folder.

    Raises:
        UserError: the folder exists, the films cannot be read, or the parts do not fit.
    """
    check_free(folder)
    for one in (config, *(part_configs or {}).values()):
        model_class(one.variant).check(one)
    part_of = as_parts(config, part_runs)
    if config.parts:
        parts = part_configs or {part: run.config for part, run in part_of.items()}
        read = [one for one in parts.values() if one.presets.keys() & one.encoders.keys()]
        if len({one.fine_tuning.fine_tune for one in read}) > 1:
            raise UserError("late fusion's models must be trained with --fine-tune all, or none")
        config = config.made_of(parts)
    prepared = prepare(config, cache)
    _check_parts(part_runs, prepared, config)
    with Run.create(folder) as new:
        model = _decide(new, config, prepared)
        for name, part in part_of.items():
            new.copy_part(part, name)
        for variant, part_config in (part_configs or {}).items():
            _decide(new.part(variant), part_config, prepared)
    run = Run(folder)
    with run.locked():
        _fit_and_predict(run, config, prepared, tensorboard, model)
    return run


def resume(run: Run, cache: Path, *, tensorboard: bool = False) -> Run:
    """Goes on with a run that was interrupted; its results are those of an uninterrupted one.

    Raises:
        UserError: the films are no longer those of the run's start, or another process is training it.
    """
    config, facts = run.config, run.facts
    with run.locked():
        prepared = prepare_again(run, cache)
        now = machine()
        if other := [name for name in now if now[name] != facts[name]]:
            print(f"Note: other {', '.join(other)} than at the start: the result is not the same to the byte.")
        if not run.trained:  # else nothing but the report is missing
            _fit_and_predict(run, config, prepared, tensorboard)
    return run


def prepare_again(run: Run, cache: Path) -> Prepared:
    """The films of a run, in its split.

    Raises:
        UserError: its source holds other films now: those that trained it might be taken for test films.
    """
    config, facts = run.config, run.facts
    prepared = prepare(config, cache)
    now = (prepared.films.fingerprint, prepared.films.table_hash, split_hash(prepared.split))
    if now != (facts["fingerprint"], facts.get("table", ""), facts["split"]):
        raise UserError(f"{run.folder} was started on other films than {config.data.dataset} holds now")
    return prepared


def explore(config: Config, folder: Path, prepared: Prepared, *, earlier: Run | None = None) -> Run:
    """Trains one of the models that gradients train, as a search does: the test films are not read.

    Called again on a folder in which it was interrupted, it goes on there, to the same result.

    Args:
        config: what to train.
        folder: the run folder. It has no report, and predictions of the validation films only.
        prepared: the films of this configuration.
        earlier: a run of this function with the same configuration but fewer epochs, to go on from.
    """
    split = {name: prepared.split[name] for name in ("train", "validation")}
    prepared = dataclasses.replace(prepared, split=split)
    run = Run(folder)
    if run.predictions_file.is_file():
        return run
    read = prepared.inputs(config)
    fitting.make_deterministic(config.seed)
    model = build(config, prepared, read)
    if not run.config_file.is_file():
        with Run.create(folder) as new:
            write_decisions(new, config, prepared, _facts_of(config, model, read))
            if earlier:
                new.copy_training(earlier)
    check_presets(run, read)
    rows = prepared.rows["validation"]
    source = read.source(prepared.films.labels, config.data.batch_size)
    try:
        _train(model, run, config, source, prepared, quiet=True)
        probabilities = _sigmoid(fitting.logits_of(model, source, rows))
    finally:
        source.release()
    run.write_predictions(
        {"validation": Predictions(tuple(split["validation"]), prepared.films.labels[rows], probabilities)},
        _temperature(model, config),
    )
    return run


def load_model(run: Run) -> keras.Model:
    """The run's model: rebuilt from its `config.json`, then given its weights; no stored code is run.

    Raises:
        UserError: the weights are not those that the run wrote, cannot be read, or do not fit the configuration.
    """
    run.check_model()
    config, features = _as_fitted(run.config, run.fitted), run.facts.get("features", {})
    with tf.Graph().as_default():  # where weights have a shape and take no memory, whatever config.json asks for
        check_weights(build_model(config, len(run.genres), features), run.model_file)
    model = build_model(config, len(run.genres), features)
    load_weights(model, run.model_file)
    return model


def predict(run: Run, films: Mapping[str, Sequence]) -> np.ndarray:
    """Genre probabilities of any films.

    Args:
        run: a finished run.
        films: by modality N films: "poster" the bytes of encoded pictures, b"" where there is none; "overview"
            texts, "" where there is none; "table" texts by column's name, {} where there is none. What is not named
            no film has.

    Returns:
        float32 (N, G), in the order of the run's genres.

    Raises:
        BadPoster: a picture cannot be read.
        UserError: the run's model or its preset cannot be had.
    """
    read = inputs.of_raw(run.config, run.fitted, films)
    return _predict(run, read, np.arange(len(read)))


def check_presets(run: Run, read: inputs.Inputs) -> None:
    """Refuses films that other presets have read than those of a run.

    Raises:
        UserError: it names the modality.
    """
    for modality, wanted in run.facts.get("presets", {}).items():
        if read.presets.get(modality) != wanted:
            raise UserError(f"{run.folder} was begun with another {modality} preset than is there now")


def _predict(run: Run, of: inputs.Inputs, rows: np.ndarray) -> np.ndarray:
    check_presets(run, of)
    labels = np.zeros((len(of), len(run.genres)), np.float32)  # not known and not read
    source = of.source(labels, run.config.data.batch_size)
    return _sigmoid(fitting.logits_of(load_model(run), source, rows))


def predict_films(run: Run, films: Films, ids: Sequence[str]) -> Predictions:
    """Predictions for some films of a data set that has the run's genres, in whatever order.

    Raises:
        UserError: the data set has other genres than the run.
    """
    if set(films.genres) != set(run.genres):
        only_here = sorted(set(films.genres) - set(run.genres))
        only_there = sorted(set(run.genres) - set(films.genres))
        raise UserError(
            f"the films have other genres than {run.folder}: only the films {only_here}, only the run {only_there}"
        )
    rows = films.rows(ids)
    columns = [films.genres.index(genre) for genre in run.genres]
    if films.posters.shape[1] != run.config.data.poster_size:
        raise UserError(f"{run.folder} reads posters of {run.config.data.poster_size} pixels")
    probabilities = _predict(run, inputs.of_films(run.config, films, run.fitted), rows)
    return Predictions(tuple(ids), films.labels[rows][:, columns], probabilities)


def _load_weights(model: keras.Model, run: Run) -> None:
    run.check_model()
    load_weights(model, run.model_file)


def prepare(config: Config, cache: Path) -> Prepared:
    """The films of a configuration, their split by its seed, and what is fitted on the training films.

    Raises:
        UserError: the films cannot be read, or are too few.
    """
    data, films = config.data, films_of(config, cache)
    split = films.official_split or split_films(
        films.ids, films.labels, films.groups, data.split, config.split_seed
    )
    empty = [name for name, ids in split.items() if not ids]
    if empty:
        raise UserError(f"{len(films)} films are too few: the {empty[0]} split is empty")
    training = films.rows(split["train"])
    vocabulary = fit_vocabulary([films.texts[row] for row in training], data.vocabulary_size)
    columns = ()
    if TABLE in config.in_batches:
        columns = fit_columns(config.table.columns, films.table, training, config.table.values)
    return Prepared(films, split, Preprocessing(vocabulary, columns))


def _decide(run: Run, config: Config, prepared: Prepared) -> keras.Model:
    """Writes all that is decided before training into a new run, and gives the untrained model."""
    read = prepared.inputs(config)  # before the seed: to load a preset draws random numbers
    fitting.make_deterministic(config.seed)
    model = build(config, prepared, read)
    write_decisions(run, config, prepared, _facts_of(config, model, read))
    return model


def _facts_of(config: Config, model: keras.Model, read: inputs.Inputs) -> dict:
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
        **({"table": films.table_hash} if films.table_hash else {}),
        "films": {name: len(ids) for name, ids in split.items()},
        "genre_counts": {name: films.labels[prepared.rows[name]].sum(0).astype(int).tolist() for name in split},
        **more_facts,
        "cores": os.cpu_count(),
        **machine(),
        "started": datetime.date.today().isoformat(),
    }
    run.write_config(config, facts)
    hashes = films.hashes([film for ids in split.values() for film in ids])
    run.write_data(split, hashes, films.genres, prepared.fitted, films.skipped)


def _check_parts(parts: Sequence[Run], prepared: Prepared, config: Config) -> None:
    """Refuses finished parts that were not trained on just these films."""
    for part in parts:
        for what, ours, theirs in (
            ("source of films", prepared.films.fingerprint, part.facts["fingerprint"]),
            ("split", split_hash(prepared.split), part.facts["split"]),
            ("list of genres", prepared.films.genres, part.genres),
            ("vocabulary", prepared.fitted.vocabulary, part.vocabulary),
            *_of_table(part, prepared, config),
            ("poster size", config.data.poster_size, part.config.data.poster_size),
            ("number of tokens", config.data.max_tokens, part.config.data.max_tokens),
            ("training.precision", config.training.precision, part.config.training.precision),
        ):
            if ours != theirs:
                raise UserError(
                    f"--parts {part.folder} has another {what} than this run would have; "
                    "train both with the same data, recipe, --seed and --split-seed"
                )


def _of_table(part: Run, prepared: Prepared, config: Config) -> list[tuple]:
    """Lists what a part that reads a table must share with a run, each as (what, the run's, the part's)."""
    if TABLE not in part.config.reads:
        return []
    return [
        ("table", prepared.films.table_hash, part.facts.get("table", "")),
        ("table's columns", prepared.fitted.columns, part.fitted.columns),
        ("number of table.values", config.table.values, part.config.table.values),
    ]


def build(config: Config, prepared: Prepared, read: inputs.Inputs) -> keras.Model:
    """The untrained model of this configuration for these films."""
    config = _as_fitted(config, prepared.fitted)
    model = build_model(config, len(prepared.films.genres), read.features)
    for layer in model.handed_layers:
        if hasattr(layer, "adapt"):  # to the words of the training films
            layer.adapt(prepared.fitted.vocabulary)
    return model


def _as_fitted(config: Config, fitted: Preprocessing) -> Config:
    """A small data set has fewer words than the configuration allows; and all columns may have been asked for."""
    return config.with_values(
        data=config.data.model_copy(update={"vocabulary_size": len(fitted.vocabulary)}),
        table=config.table.model_copy(update={"columns": tuple(column.name for column in fitted.columns)}),
    )


def _fit_and_predict(run: Run, config: Config, prepared: Prepared, tensorboard: bool, model=None) -> None:
    """Does all that comes after a run was decided; with `model`, untrained, it is not made again."""
    for name in config.parts:
        part = run.part(name)
        if not part.trained:
            print(f"\nPart of {config.variant}: {name}")
            _fit_and_predict(part, part.config, prepared, tensorboard)
    films, read = prepared.films, prepared.inputs(config)
    for one in (run, *run.parts):
        check_presets(one, read)
    if model is None:
        fitting.make_deterministic(config.seed)
        model = build(config, prepared, read)
    source = read.source(films.labels, config.data.batch_size)
    if config.parts:
        for name, part in zip(config.parts, model.models.values(), strict=True):
            _load_weights(part, run.part(name))
        fitting.fit_combiner(model, source, read.with_all(prepared.rows["validation"]), films.labels)
        save_model(model, run.model_file)
    else:
        _train(model, run, config, source, prepared, tensorboard=tensorboard)
    splits = ("validation", "test")
    probabilities = {name: _sigmoid(fitting.logits_of(model, source, prepared.rows[name])) for name in splits}
    gates = {}
    if hasattr(getattr(model, "operator", None), "gates"):
        gates = {name: fitting.gates_of(model, source, prepared.rows[name]) for name in splits}
    write_predictions(run, prepared, probabilities, _temperature(model, config), gates)
    run.state_file.unlink(missing_ok=True)


def _train(model: keras.Model, run: Run, config: Config, source: Source, prepared: Prepared, **how: bool) -> None:
    """Trains by gradients; the model, here and in the run folder, is that of the best epoch afterwards."""
    fitting.fit(model, run, config, source, prepared.rows, **how)
    _load_weights(model, run)
    if config.training.calibrate:
        fitting.calibrate(model, source, prepared.rows, prepared.films.labels)
        save_model(model, run.model_file)


def _temperature(model: keras.Model, config: Config) -> float | None:
    """Gives the temperature that was fitted; late fusion's parts have theirs."""
    fitted = config.training.calibrate and not config.parts
    return float(model.temperature) if fitted else None


def write_predictions(
    run: Run,
    prepared: Prepared,
    probabilities: Mapping[str, np.ndarray],
    temperature: float | None = None,
    gates: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Writes what a model said, and keeps the films that are shown in its report.

    Args:
        run: trained.
        prepared: its films.
        probabilities: (N, G) of the validation and the test films.
        temperature: what the logits were divided by, where one was fitted.
        gates: (N, M) how much each film's modalities are trusted, where gates decide that.
    """
    films = prepared.films
    predictions = {
        split: Predictions(tuple(prepared.split[split]), films.labels[prepared.rows[split]], y_prob)
        for split, y_prob in probabilities.items()
    }
    run.write_predictions(predictions, temperature, gates)
    test = predictions["test"]
    well, badly = choose_films(test.ids, test.y_true, test.y_prob)
    shown = [*well, *badly]
    posters = films.encoded_posters(shown)
    overviews = {film: films.overviews[row] for film, row in zip(shown, films.rows(shown)) if film in posters}
    run.write_films(posters, overviews)
    run.seal()


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.sigmoid(logits))
