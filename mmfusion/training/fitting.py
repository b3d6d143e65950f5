"""Fits models and asks them: a compiled step, epochs, temperature, late fusion's combiner, logits."""

import math
import sys
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar

from mmfusion.config import Config
from mmfusion.config.sections import TrainingConfig
from mmfusion.data.preprocessing import Preprocessing
from mmfusion.data.source import Source
from mmfusion.errors import UserError
from mmfusion.models import wide as wide_path
from mmfusion.models.base import Precision, Recall
from mmfusion.models.losses import TRAINING_TEMPERATURE, log_odds, training_loss
from mmfusion.models.optimizers import AdamByLayer, FusedAdam
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW
from mmfusion.training.checkpoint import Checkpoint, EpochSeeds
from mmfusion.training.fine_tuning import Unfreezing

Split = Mapping[str, np.ndarray]  # row numbers of each split's films
_TEMPERATURES = (0.1, 10.0)  # what is fitted lies between; films that are all told apart would ask for 0


def make_deterministic(seed: int) -> None:
    """The same seed on the same machine gives the same bytes from here on."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compile_model(
    model: keras.Model, config: Config, frequencies: np.ndarray | None = None
) -> list[keras.callbacks.Callback]:
    """Gives a model its optimizer, losses and metrics; returns what must be called back while it trains.

    Args:
        model: untrained.
        config: the run's.
        frequencies: (G,) shares of the training films with each genre, for what starts or weighs by them.
    """
    training, callbacks = config.training, []
    settings = {"learning_rate": training.learning_rate, "weight_decay": training.weight_decay or None}
    if training.ema_momentum:
        settings |= {"use_ema": True, "ema_momentum": training.ema_momentum}
    if config.fine_tuning.fine_tune:
        unfreezing = Unfreezing(model, config)
        callbacks.append(unfreezing)
        optimizer = AdamByLayer(**settings, shares=unfreezing.shares)
        kept = [weight for weight, _ in unfreezing.shares]  # what was learned elsewhere is not to be forgotten
    else:
        optimizer, kept = FusedAdam(**settings), []
    if training.weight_decay:
        optimizer.exclude_from_weight_decay(var_list=kept, var_names=["bias", "gamma", "beta"])
    model.label_smoothing = training.label_smoothing
    model.training_loss = training_loss(training.loss, frequencies)
    model.temperature.assign(TRAINING_TEMPERATURE[training.loss])
    if training.prior_bias:
        heads = model.heads_of_genres
        if frequencies is None or not heads or any(head.bias is None for head in heads):
            raise UserError(f"training.prior_bias needs a layer `head` with a bias; {config.variant} has none")
        for head in heads:  # their logits are divided by the temperature
            head.bias.assign(log_odds(frequencies) * TRAINING_TEMPERATURE[training.loss])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[
            Precision(name="precision"),
            Recall(name="recall"),
            keras.metrics.AUC(curve="PR", from_logits=True, name="pr_auc"),
        ],
    )
    # Made in the first training step, its variables would have TensorFlow trace that step a second time.
    model.optimizer.build(model.trainable_variables)
    return callbacks


def learning_rate_at(epoch: int, training: TrainingConfig) -> float:
    """The learning rate of an epoch, counted from 0."""
    first = training.learning_rate
    if epoch < training.warmup_epochs:
        return first * (epoch + 1) / (training.warmup_epochs + 1)
    epoch -= training.warmup_epochs
    if training.schedule == "cosine":
        return first * (1 + math.cos(math.pi * epoch / max(1, training.epochs - training.warmup_epochs))) / 2
    return first * math.exp(-training.decay * max(0, epoch - training.hold_epochs + 1))


def fit(
    model: keras.Model,
    run: Run,
    config: Config,
    source: Source,
    split: Split,
    *,
    tensorboard: bool = False,
    quiet: bool = False,
) -> None:
    """Trains by gradients; the best epoch is in the run folder afterwards.

    Args:
        model: untrained.
        run: where to write, and to go on from when it was interrupted.
        config: the run's.
        source: of all films.
        split: row numbers of each split's films; those of the test films are not read.
        tensorboard: also write TensorBoard logs, into the run folder.
        quiet: say nothing of the epochs.
    """
    training = config.training
    rows = split["train"]
    compiled = compile_model(model, config, source.frequencies(rows))
    steps = source.steps(rows)
    checkpoint = Checkpoint(run, patience=training.patience)
    first = checkpoint.restore(model)
    if first >= training.epochs or checkpoint.stopped_early:
        return
    callbacks = [
        EpochSeeds(config.seed),
        *compiled,
        keras.callbacks.LearningRateScheduler(lambda epoch: learning_rate_at(epoch, training)),
        *([keras.callbacks.SwapEMAWeights()] if training.ema_momentum else []),  # in validation
        checkpoint,
    ]
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(str(run.folder / "tensorboard")))
    epochs = range(first, training.epochs)
    batches = source.training(rows, seed=config.seed, epochs=epochs, augmentation=config.augmentation)
    validation, _ = source.ordered(split["validation"])
    model.fit(
        batches.map(source.as_model_inputs),
        validation_data=validation.map(source.as_model_inputs),
        initial_epoch=first,
        epochs=training.epochs,
        steps_per_epoch=steps,
        shuffle=False,  # the source has done it
        callbacks=callbacks,
        # A bar for a person, a line an epoch for a file. Keras' signature only shows that it takes words.
        verbose=0 if quiet else 1 if sys.stdout.isatty() else 2,  # pyright: ignore[reportArgumentType]
    )


def calibrate(model: keras.Model, source: Source, split: Split, labels: np.ndarray) -> None:
    """Fits a trained model's temperature: the one with the least cross-entropy of the validation films.

    Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599. No order of films or genres is
    changed, so average precision and ROC-AUC are what they were.

    Args:
        model: of the best epoch; whatever its temperature is, it is fitted from 1 again.
        source: of all films.
        split: as above.
        labels: (N, G) multi-hot of all films.
    """
    model.temperature.assign(1.0)  # a run that was killed just after this function had another
    if model.wide is not None:
        model.wide.share.assign(0.0)
    rows = split["validation"]
    logits, truth = logits_of(model, source, rows).astype(np.float64), labels[rows]
    bounds = np.log(_TEMPERATURES)
    found = _least(lambda log_temperature: _cross_entropy(logits * math.exp(-log_temperature), truth), bounds)
    model.temperature.assign(math.exp(found))


def fit_wide_path(
    model: keras.Model, config: Config, source: Source, split: Split, labels: np.ndarray, fitted: Preprocessing
) -> None:
    """Fits the wide path of a trained model to training films, and how much it has to say to validation films.

    Args:
        model: of the best epoch, its temperature fitted.
        config: the run's.
        source: of all films.
        split: as above.
        labels: (N, G) multi-hot of all films.
        fitted: with the vocabulary.
    """
    wide, tokens = model.wide, source.values(OVERVIEW)
    if wide is None:
        raise UserError(f"wide.units: {config.variant} has no wide path")
    rows = np.random.default_rng(config.seed).permutation(split["train"])[: wide_path.MOST_FILMS]
    settings = config.wide
    wide.fit(tokens[np.sort(rows)], labels[np.sort(rows)], fitted.vocabulary, settings.units, settings.c)
    rows, said = split["validation"], []
    for share in (0.0, 1.0):
        wide.share.assign(share)
        said.append(logits_of(model, source, rows).astype(np.float64))
    deep, linear = said
    mixed = _least(lambda share: _cross_entropy(deep + share * (linear - deep), labels[rows]), (0.0, 1.0))
    wide.share.assign(mixed)


def _cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean(np.logaddexp(0, logits) - truth * logits))


def _least(function, bounds) -> float:
    found = minimize_scalar(function, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(found.x)  # pyright: ignore[reportAttributeAccessIssue]  a result of SciPy's


def fit_combiner(model: keras.Model, source: Source, rows: np.ndarray, labels: np.ndarray) -> None:
    """Fits late fusion's combiner on what its trained parts say of validation films.

    Args:
        model: late fusion, its parts trained.
        source: of all films.
        rows: of validation films that have every modality.
        labels: (N, G) multi-hot of all films.
    """
    if not len(rows):  # nothing is ever combined
        return
    logits = [logits_of(part, source, rows) for part in model.models.values()]
    model.combiner.fit(logits, labels[rows].astype(np.float32))


def logits_of(model: keras.Model, source: Source, rows: np.ndarray) -> np.ndarray:
    """Logits (N, G) of these films, in the order of `rows`."""
    batches, order = source.ordered(rows)
    logits = model.predict(batches.map(source.as_model_inputs), verbose=0)  # pyright: ignore[reportArgumentType]
    return _as_asked(logits, order, rows)


def gates_of(model: keras.Model, source: Source, rows: np.ndarray) -> np.ndarray:
    """`JointFusion.gates` (N, M) of these films, in the order of `rows`."""
    batches, order = source.ordered(rows)
    gates = tf.function(lambda batch: model.gates(batch[0]))
    return _as_asked(np.concatenate([gates(batch) for batch in batches.map(source.as_model_inputs)]), order, rows)


def _as_asked(values: np.ndarray, order: np.ndarray, rows: np.ndarray) -> np.ndarray:
    place = {row: i for i, row in enumerate(order)}
    return values[[place[row] for row in rows]]
