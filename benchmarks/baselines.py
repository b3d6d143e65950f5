"""Baselines that a fusion of networks has to beat: by scikit-learn, as runs in the networks' own format.

scikit-learn and TensorFlow are imported when there is something to fit, so that `--help` can list the names.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from mmfusion.config import Config
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, Modality

COLOURS = 6  # steps of red, of green and of blue: a histogram has 216 bins
PENALTIES = {  # scikit-learn's C
    "tfidf": (1, 2, 5, 10, 20),
    "colours": (0.0003, 0.001, 0.003, 0.01, 0.03),
    "features": (0.0003, 0.001, 0.003, 0.01, 0.03),  # of one modality or both
}


def train_baseline(config: Config, folder: Path, cache: Path, parts: Mapping[str, Run]) -> Run:
    """Fits one baseline into a new run folder; everything but the report is in it afterwards.

    Args:
        config: `config.variant` is a name from `BASELINES`.
        folder: the run folder; it must not exist yet.
        cache: where prepared films are kept.
        parts: finished runs of the same seed, by name; `tfidf_colours` averages two of them.
    """
    from threadpoolctl import threadpool_limits

    from mmfusion.training import experiment, preparation
    from mmfusion.training.machine import machine

    prepared = preparation.prepare(config, cache)
    start = time.perf_counter()
    baseline = BASELINES[config.variant]
    file, function = baseline.fit.split(".")
    fit = getattr(import_module(f"benchmarks.{file}"), function)
    # As many threads as TensorFlow takes, on which the last bits depend.
    with threadpool_limits(machine()["threads"]):
        predict, parameters = fit(prepared, parts, config)
        fitted = time.perf_counter()
        probabilities = {split: predict(split) for split in ("validation", "test")}
    milliseconds = (time.perf_counter() - fitted) / sum(map(len, probabilities.values())) * 1000
    averaged = [parts[name].facts for name in baseline.averages]
    facts = {
        "parameters": parameters,
        "reads": list(baseline.reads),
        "train_seconds": round(fitted - start + sum(part["train_seconds"] for part in averaged), 1),
        "ms_per_film": milliseconds + sum(part["ms_per_film"] for part in averaged),
    }
    if baseline.of_presets:
        facts["presets"] = _read_by_presets(prepared, config).presets
    with Run.create(folder) as run:
        preparation.write_decisions(run, config, prepared, facts)
        experiment.write_predictions(run, prepared, probabilities)
    return Run(folder)


def frequencies(prepared, parts, config):
    """Every film gets the shares of the training films."""
    shares = prepared.films.labels[prepared.rows["train"]].mean(axis=0, dtype=np.float32)  # (G,)
    return lambda split: np.tile(shares, (len(prepared.rows[split]), 1)), shares.size


def tfidf(prepared, parts, config):
    """Logistic regression on the overviews' words and pairs of words, each seen in at least two films.

    Where networks read characters, it is on characters, their pairs and triples.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    from mmfusion.data.scripts import folded

    rules = prepared.fitted.rules
    units = {"words": ("word", (1, 2)), "characters": ("char", (1, 3))}
    analyzer, lengths = units[rules.split]
    vectorizer = TfidfVectorizer(
        strip_accents=folded if rules.fold == "on" else None,
        analyzer=analyzer,
        ngram_range=lengths,
        min_df=2,
        sublinear_tf=True,
    )
    texts = {split: prepared.films.texts.take(rows) for split, rows in prepared.rows.items()}
    try:
        vectorizer.fit(texts["train"])
    except ValueError:  # no word is in two films: nothing can be learned from them
        return frequencies(prepared, parts, config)
    return _logistic(prepared, lambda split: vectorizer.transform(texts[split]), "tfidf")


def colours(prepared, parts, config):
    """Logistic regression on how much of the poster has which colour."""
    from sklearn.preprocessing import StandardScaler

    def histograms(split):
        steps = prepared.films.posters[prepared.rows[split]].astype(np.int64) * COLOURS // 256  # (N, H, W, 3)
        bins = steps @ [COLOURS**2, COLOURS, 1]  # (N, H, W)
        return np.sqrt([np.bincount(one.ravel(), minlength=COLOURS**3) / one.size for one in bins])

    scaler = StandardScaler().fit(histograms("train"))
    return _logistic(prepared, lambda split: scaler.transform(histograms(split)), "colours")


def features(prepared, parts, config):
    """Logistic regression on features of frozen presets; joined, it is early fusion of type II with no network."""
    from sklearn.preprocessing import StandardScaler

    read = _read_by_presets(prepared, config)
    joined = np.concatenate([read.films[one].values for one in BASELINES[config.variant].reads], axis=1)  # (N, D)
    scaler = StandardScaler().fit(joined[prepared.rows["train"]])
    return _logistic(prepared, lambda split: scaler.transform(joined[prepared.rows[split]]), "features")


def average(prepared, parts, config):
    """Late fusion of the two above, with no network in it."""
    both = [parts["tfidf"], parts["colours"]]
    parameters = sum(run.facts["parameters"] for run in both)
    return lambda split: np.mean([run.predictions(split).y_prob for run in both], axis=0), parameters


@dataclass(frozen=True)
class Baseline:
    """A baseline: what fits it, and what it reads."""

    # In this folder, a file and a function: (prepared films, runs that it averages, configuration) -> what predicts
    # a split's films (N, G), and the number of parameters.
    fit: str
    reads: tuple[Modality, ...] = ()
    of_presets: bool = False  # what frozen presets make of that
    averages: tuple[str, ...] = ()  # other baselines


# Every baseline by its name on the command line. A line here and a file with such a function make a new one.
BASELINES = {
    "frequencies": Baseline("baselines.frequencies"),
    "colours": Baseline("baselines.colours", (POSTER,)),
    "tfidf": Baseline("baselines.tfidf", (OVERVIEW,)),
    "tfidf_colours": Baseline("baselines.average", (POSTER, OVERVIEW), averages=("tfidf", "colours")),
    "features_poster": Baseline("baselines.features", (POSTER,), of_presets=True),
    "features_overview": Baseline("baselines.features", (OVERVIEW,), of_presets=True),
    "features": Baseline("baselines.features", (POSTER, OVERVIEW), of_presets=True),
}
# Sections of a configuration that each reads beside [data]; of an encoder's own, the posters' size.
SECTIONS_READ = {
    name: tuple(one.section for one in of.reads) if of.of_presets else ("poster_size",) * (POSTER in of.reads)
    for name, of in BASELINES.items()
}


def _read_by_presets(prepared, config):
    """The films as a network of the same modalities reads them."""
    variants = {(POSTER,): "poster", (OVERVIEW,): "overview", (POSTER, OVERVIEW): "early_features"}
    reads = BASELINES[config.variant].reads
    return prepared.inputs(config.with_values(variant=variants[reads], modalities=(POSTER, OVERVIEW)))


def _logistic(prepared, features, name: str):
    """One logistic regression a genre; a genre that all training films have, or none, keeps that share.

    Of `PENALTIES` the one is taken that has the least cross-entropy on this seed's validation films.
    """
    from sklearn.linear_model import LogisticRegression

    from mmfusion.evaluation.metrics import film_losses

    training, validation = features("train"), features("validation")
    labels, truth = (
        prepared.films.labels[prepared.rows[split]].astype(np.float32) for split in ("train", "validation")
    )
    learned = np.flatnonzero(labels.min(axis=0) != labels.max(axis=0))

    def fitted(penalty: float) -> dict:
        return {
            genre: LogisticRegression(C=penalty, max_iter=1000).fit(training, labels[:, genre]) for genre in learned
        }

    def probabilities(models: dict, of) -> np.ndarray:
        found = np.tile(labels.mean(axis=0), (of.shape[0], 1))
        for genre, model in models.items():
            found[:, genre] = model.predict_proba(of)[:, 1]
        return found

    candidates = [fitted(penalty) for penalty in PENALTIES[name]]
    losses = [film_losses(truth, probabilities(models, validation)).mean() for models in candidates]
    best = candidates[int(np.argmin(losses))]
    parameters = sum(model.coef_.size + 1 for model in best.values())
    return lambda split: probabilities(best, features(split)), parameters
