"""Asks finished runs about any films; their export to other formats is in `mmfusion.inference.export`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from mmfusion.data.films import Films
from mmfusion.errors import UserError
from mmfusion.models import build_model
from mmfusion.models.weights import check_weights, load_weights
from mmfusion.runs import Predictions, Run
from mmfusion.schema import OVERVIEW, POSTER
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
    rows = np.arange(len(read))
    return predict_encoded(run, load_model(run), [""] * len(rows), read, rows).y_prob


@dataclass(frozen=True)
class Predicted:
    """Predictions of some films."""

    ids: tuple[str, ...]  # N
    read: tuple[str, ...]  # N; the modalities that were read, such as "poster + overview"; "" for none
    y_prob: np.ndarray  # float32 (N, G); of a film without anything too


def predict_encoded(
    run: Run, model: keras.Model, ids: Sequence[str], of: inputs.Inputs, rows: np.ndarray
) -> Predicted:
    """Predicts films that were read already.

    Args:
        run: a finished run.
        model: its own.
        ids: N of them.
        of: what the model reads.
        rows: (N,) where the films are in it.

    Raises:
        UserError: another preset has read the films than the run's.
    """
    check_presets(run, of)
    there = {modality: of.films[modality].present(rows) for modality in run.config.reads}
    read = tuple(" + ".join(name for name, has in there.items() if has[i]) for i in range(len(rows)))
    labels = np.zeros((len(of), len(run.genres)), np.float32)  # not known and not read
    source = of.source(labels, run.config.data.batch_size)
    try:
        return Predicted(tuple(ids), read, sigmoid(fitting.logits_of(model, source, rows)))
    finally:
        source.release()


def predict_films(run: Run, films: Films, ids: Sequence[str], *, keep_placeholders: bool = False) -> Predicted:
    """Predictions of the run's genres for some films of a data set.

    Args:
        run: a finished run.
        films: of the data set.
        ids: N of them.
        keep_placeholders: read also overviews and posters that counted as missing among the run's own films.

    Raises:
        UserError: the run's model or its preset cannot be had, or the films have posters of another size.
    """
    if films.posters.shape[1] != run.config.poster_size:
        raise UserError(f"{run.folder} reads posters of {run.config.poster_size} pixels")
    read, rows, model = inputs.of_films(run.config, films, run.fitted), films.rows(ids), load_model(run)
    found = predict_encoded(run, model, ids, read, rows)
    lacking = {} if keep_placeholders else _lacking(run, films, rows)
    few = np.flatnonzero(np.any([*lacking.values(), np.zeros(len(rows), bool)], axis=0)).tolist()
    if not few:
        return found
    read = read.blanked(rows[few], {modality: of[few] for modality, of in lacking.items()})
    again = predict_encoded(run, model, [ids[i] for i in few], read, np.arange(len(few)))
    y_prob = found.y_prob.copy()
    y_prob[few] = again.y_prob
    of_film = dict(enumerate(found.read)) | dict(zip(few, again.read))
    return Predicted(found.ids, tuple(of_film.values()), y_prob)


def _lacking(run: Run, films: Films, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Tells by modality which of these films have what counted as missing among the run's own: bool (R,)."""
    known = run.facts.get("placeholders", {})
    # With `overview.columns` an overview is but a part of what is read.
    whole = {*run.config.reads} - ({OVERVIEW} if run.config.overview.columns else set())
    return {
        modality: np.isin(films.hashes[rows, place], np.array(known[modality], np.uint64))
        for place, modality in enumerate((POSTER, OVERVIEW))
        if modality in known and modality in whole
    }


def with_truth(run: Run, films: Films, predicted: Predicted) -> tuple[Predictions, tuple[str, ...]]:
    """Gives predictions and what is true of the genres that a run and films have in common, and these genres.

    Case makes no other genre. What is not common is said.

    Raises:
        UserError: they have no genre in common.
    """
    place_of = {genre.casefold(): place for place, genre in enumerate(films.genres)}
    place_of |= {genre: place for place, genre in enumerate(films.genres)}
    places = {genre: place_of.get(genre, place_of.get(genre.casefold())) for genre in run.genres}
    common = {genre: place for genre, place in places.items() if place is not None}
    if not common:
        raise UserError(
            f"{run.folder} and the films have no genre in common: {_some(run.genres)}; {_some(films.genres)}"
        )
    only_run = [genre for genre in run.genres if genre not in common]
    only_films = [genre for place, genre in enumerate(films.genres) if place not in common.values()]
    for which, genres in ((f"only {run.folder} knows", only_run), ("only the films have", only_films)):
        if genres:
            print(f"Not scored: {which} {_some(genres)}\n")
    rows = films.rows(predicted.ids)
    columns = [run.genres.index(genre) for genre in common]
    y_true = films.labels[rows][:, list(common.values())]
    return Predictions(predicted.ids, y_true, predicted.y_prob[:, columns]), tuple(common)


def _some(genres: Sequence[str]) -> str:
    more = f" and {len(genres) - 12} more" if len(genres) > 12 else ""
    return f"{', '.join(genres[:12])}{more}"
