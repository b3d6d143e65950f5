"""Trains: a configuration in, a run folder with a trained model out."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from mmfusion.config import Config
from mmfusion.data.source import Source
from mmfusion.errors import UserError
from mmfusion.models import model_class
from mmfusion.models.weights import load_weights, save_model
from mmfusion.reports.panels import choose_films
from mmfusion.runs import Predictions, Run, as_parts, check_free
from mmfusion.training import fitting
from mmfusion.training.machine import machine
from mmfusion.training.preparation import (
    Prepared,
    build,
    check_parts,
    check_presets,
    facts_of,
    prepare,
    prepare_again,
    sigmoid,
    write_decisions,
)


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
    check_parts(part_runs, prepared, config)
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


def explore(config: Config, folder: Path, prepared: Prepared, *, earlier: Run | None = None) -> Run:
    """Trains one of the models that gradients train, as a search does: the test films are not read.

    Called again on a folder in which it was interrupted, it goes on there, to the same result.

    Args:
        config: what to train.
        folder: the run folder. It has no report, and predictions of the validation films only.
        prepared: the films of this configuration.
        earlier: a run of this function with the same configuration but fewer epochs, to go on from where more
            epochs begin alike.
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
            write_decisions(new, config, prepared, facts_of(config, model, read))
            if earlier and config.training.begins_alike:
                new.copy_training(earlier)
    check_presets(run, read)
    rows = prepared.rows["validation"]
    source = read.source(prepared.films.labels, config.data.batch_size)
    try:
        _train(model, run, config, source, prepared, quiet=True)
        probabilities = sigmoid(fitting.logits_of(model, source, rows))
    finally:
        source.release()
    run.write_predictions(
        {"validation": Predictions(tuple(split["validation"]), prepared.films.labels[rows], probabilities)},
        _temperature(model, config),
    )
    return run


def _load_weights(model: keras.Model, run: Run) -> None:
    run.check_model()
    load_weights(model, run.model_file)


def _decide(run: Run, config: Config, prepared: Prepared) -> keras.Model:
    """Writes all that is decided before training into a new run, and gives the untrained model."""
    read = prepared.inputs(config)  # before the seed: to load a preset draws random numbers
    fitting.make_deterministic(config.seed)
    model = build(config, prepared, read)
    write_decisions(run, config, prepared, facts_of(config, model, read))
    return model


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
    probabilities = {name: sigmoid(fitting.logits_of(model, source, prepared.rows[name])) for name in splits}
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
    if config.has_wide_path:
        fitting.fit_wide_path(model, config, source, prepared.rows, prepared.films.labels, prepared.fitted)
    if config.training.calibrate or config.has_wide_path:
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
