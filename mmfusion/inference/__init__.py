"""Asks finished runs about any films; their export to other formats is in `mmfusion.inference.export`."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from mmfusion.data.films import Films
from mmfusion.errors import UserError
from mmfusion.models import build_model
from mmfusion.models.weights import check_weights, load_weights
from mmfusion.runs import Predictions, Run
from mmfusion.training import fitting, inputs
from mmfusion.training.preparation import as_fitted, check_presets, sigmoid


def load_model(run: Run) -> keras.Model:
    """The run's model: rebuilt from its `config.json`, then given its weights; no stored code is run.

    Raises:
        UserError: the weights are not those that the run wrote, cannot be read, or do not fit the configuration.
    """
    run.check_model()
    config, features = as_fitted(run.config, run.fitted), run.facts.get("features", {})
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


def _predict(run: Run, of: inputs.Inputs, rows: np.ndarray) -> np.ndarray:
    check_presets(run, of)
    labels = np.zeros((len(of), len(run.genres)), np.float32)  # not known and not read
    source = of.source(labels, run.config.data.batch_size)
    return sigmoid(fitting.logits_of(load_model(run), source, rows))


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
    if films.posters.shape[1] != run.config.poster_size:
        raise UserError(f"{run.folder} reads posters of {run.config.poster_size} pixels")
    probabilities = _predict(run, inputs.of_films(run.config, films, run.fitted), rows)
    return Predictions(tuple(ids), films.labels[rows][:, columns], probabilities)
