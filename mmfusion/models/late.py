"""Late fusion."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold

from mmfusion.models.base import GenreModel
from mmfusion.models.missing import padding_of, presence
from mmfusion.models.unimodal import Unimodal

_REGRESSIONS = ("stacked", "confidence")


@keras.saving.register_keras_serializable(package="mmfusion")
class Combiner(keras.layers.Layer):
    """Puts the decisions of M models on each genre together; it is fitted, never trained by gradients.

    "mean" and "weighted" average the probabilities, alike or with the genre's own weights; "product" multiplies the
    odds and divides by the genre's own, M - 1 times, which is right if the modalities tell independent things of a
    genre (Kittler et al. 1998, doi:10.1109/34.667881); "stacked" is a logistic regression on the logits, one for
    each genre (Wolpert 1992); "confidence" is one for all genres, on the logits, on how rare a genre is, and on
    each model's logits times its confidence in the film: how far its probabilities are from one half, on average.

    Of a film that lacks modalities, the models of the others decide: by the mean of their logits where the kind is
    a regression, or where one is left.

    Args:
        kind: one of `config.COMBINERS`.
    """

    def __init__(self, kind: str, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs}, trainable=False)
        self.kind = kind

    def build(self, logits_shape, present_shape=None):
        count, genres = len(logits_shape), logits_shape[0][-1]
        alike = keras.initializers.Constant(1 / count)
        self.model_weights = self.add_weight(shape=(count, genres), initializer=alike, name="model_weights")
        self.bias = self.add_weight(shape=(genres,), initializer="zeros", name="bias")
        if self.kind == "confidence":
            self.of_confidence = self.add_weight(shape=(count,), initializer="zeros", name="of_confidence")
        super().build(logits_shape)

    def call(self, logits, present=None):
        """
        Args:
            logits: (B, G) of each of M models.
            present: float32 (B, 1) for each, 1 where a film has what the model reads, else 0;
                without it every film has everything.

        Returns:
            (B, G) logits; of a film that lacks everything, as if nothing were missing.
        """
        present = [ops.ones_like(one[:, :1]) for one in logits] if present is None else present
        count = sum(present)  # (B, 1)
        some = ops.logical_and(count > 0, count < len(logits))
        there = [ops.where(count > 0, one, 1.0) for one in present]  # (B, 1) each
        mean = _weighted_sum(there, logits) / ops.maximum(count, 1)  # (B, G)
        by_mean = some if self.kind in _REGRESSIONS else ops.logical_and(some, count == 1)
        return ops.where(by_mean, mean, self._together(logits, there))

    def _together(self, logits, there):
        weights = [self.model_weights[place] * one for place, one in enumerate(there)]  # M times (B, G)
        if self.kind == "confidence":
            sure = [ops.mean(ops.abs(ops.tanh(one / 2)), axis=1, keepdims=True) for one in logits]  # (B, 1)
            weights = [w + self.of_confidence[place] * sure[place] for place, w in enumerate(weights)]
        if self.kind in ("product", *_REGRESSIONS):
            others = (sum(there) - 1) / (len(logits) - 1)  # (B, 1); 1 where all are there
            return _weighted_sum(weights, logits) + self.bias * others
        # logit(w p + v q) with w + v = 1, from log-sigmoids: exact where a probability rounds to 0 or 1.
        yes = [ops.log(w) + ops.log_sigmoid(z) for w, z in zip(weights, logits, strict=True)]
        no = [ops.log(w) + ops.log_sigmoid(-z) for w, z in zip(weights, logits, strict=True)]
        return functools.reduce(ops.logaddexp, yes) - functools.reduce(ops.logaddexp, no)  # (B, G) logits

    def compute_output_shape(self, logits_shape, present_shape=None):
        return logits_shape[0]

    def fit(self, logits: Sequence[np.ndarray], labels: np.ndarray) -> None:
        """Fits the weights of each genre.

        A genre without a positive or a negative film among these says nothing and keeps its start; to
        "product" it says how rare it is.

        Args:
            logits: of each of M models (N, G), of the same validation films.
            labels: (N, G) multi-hot.
        """
        if self.kind == "mean":
            return
        if self.kind == "product":
            positives = labels.sum(axis=0)
            # Every model's logits have the genre's own in them. One film more of each: a rare genre may have none.
            prior = np.log((len(labels) - positives + 1) / (positives + 1))
            self.model_weights.assign(np.ones(self.model_weights.shape))
            self.bias.assign((len(logits) - 1) * prior)
            return
        if self.kind == "confidence":
            self._fit_confidence([np.asarray(one, np.float64) for one in logits], labels)
            return
        weights, bias = np.array(self.model_weights), np.array(self.bias)
        for genre in range(labels.shape[1]):
            truth = labels[:, genre]
            if not truth.any() or truth.all():
                continue
            fit = _fit_weights if self.kind == "weighted" else _fit_logistic
            weights[:, genre], bias[genre] = fit([one[:, genre] for one in logits], truth)
        self.model_weights.assign(weights)
        self.bias.assign(bias)

    def _fit_confidence(self, logits, labels) -> None:
        if labels.all() or not labels.any():
            return
        positives = labels.sum(axis=0)
        rare = np.log((positives + 1) / (len(labels) - positives + 1))  # (G,)
        sure = [one * np.abs(np.tanh(one / 2)).mean(axis=1, keepdims=True) for one in logits]
        features = [*logits, *sure, np.broadcast_to(rare, labels.shape)]
        model = LogisticRegression().fit(np.stack([one.ravel() for one in features], axis=1), labels.ravel())
        own, of_confidence, (of_rare,) = np.split(model.coef_[0], [len(logits), 2 * len(logits)])
        self.model_weights.assign(np.broadcast_to(own[:, None], self.model_weights.shape))
        self.of_confidence.assign(of_confidence)
        self.bias.assign(of_rare * rare + model.intercept_[0])

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("trainable")
        return {**config, "kind": self.kind}


def _weighted_sum(weights, values):
    # Not a chain of additions, whose order TensorFlow decides by the names of its operations.
    return ops.sum(ops.stack([w * v for w, v in zip(weights, values, strict=True)]), axis=0)


_STEPS = 20  # of a weight between 0 and 1


def _fit_weights(logits, truth):
    """The shares of the models' probabilities, in steps of 0.05, with the least cross-entropy."""
    probabilities = [_sigmoid(one) for one in logits]
    # Never 0 or 1: every model keeps a say.
    steps = itertools.product(range(1, _STEPS), repeat=len(logits) - 1)
    shares = [np.array([*some, _STEPS - sum(some)]) / _STEPS for some in steps if sum(some) < _STEPS]
    losses = [log_loss(truth, sum(w * p for w, p in zip(of, probabilities)), labels=[0, 1]) for of in shares]
    return shares[int(np.argmin(losses))], 0.0


def _fit_logistic(logits, truth):
    model = LogisticRegression().fit(np.stack(logits, axis=1), truth)
    return model.coef_[0], model.intercept_[0]


def _sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def cross_fitted(
    kind: str, logits: Sequence[np.ndarray], labels: np.ndarray, present: np.ndarray, *, folds: int, seed: int
) -> np.ndarray:
    """Predicts by a combiner films that it was not fitted on.

    Scored on the films that fitted it, the combiner with the most weights would always look best.

    Args:
        kind: of the combiner.
        logits: of each of M models (N, G), of the validation films.
        labels: (N, G) multi-hot.
        present: (M, N) which films have what each model reads; of a film that lacks some, the others decide.
        folds: as many parts of the films, at most one a film.
        seed: of which film is in which.

    Returns:
        (N, G) probabilities, those of each fold from a combiner fitted on the other folds.
    """
    y_prob = np.empty(labels.shape, np.float32)
    for others, fold in KFold(min(folds, len(labels)), shuffle=True, random_state=seed).split(labels):
        combiner = Combiner(kind)
        combiner.build([one.shape for one in logits])
        others = others[present[:, others].all(axis=0)]
        combiner.fit([one[others] for one in logits], labels[others])
        has = [one[fold, None].astype(np.float32) for one in present]  # (B, 1) each
        y_prob[fold] = ops.sigmoid(combiner([one[fold] for one in logits], has))
    return y_prob


@keras.saving.register_keras_serializable(package="mmfusion")
class LateFusion(GenreModel):
    """The modalities meet after each has decided: trained, frozen models and a combiner.

    Late fusion of Huang et al. 2020 (npj Digital Medicine 3:136) and Snoek et al. 2005. Only the
    combiner is fitted, on validation films; no gradient reaches anything. Averaging the logits of
    branches that are trained end to end is something else.

    Args:
        num_genres: G.
        models: by modality a trained model that reads this one only.
        combiner: how their logits are put together.
    """

    handed = ("models", "combiner")

    def __init__(self, num_genres: int, *, models: Mapping[str, GenreModel], combiner: Combiner, **kwargs):
        super().__init__(num_genres, **kwargs)
        self.models = dict(models)
        self.combiner = combiner
        self.padding = padding_of({modality: model.encoder for modality, model in models.items()})
        self.trainable = False

    @classmethod
    def from_run_config(cls, config, num_genres):
        return cls(
            num_genres,
            models={one: Unimodal.of(one, config, num_genres, name=str(one)) for one in config.reads},
            combiner=Combiner(config.late.combiner),
            name="late",
        )

    def call(self, inputs, training=False):
        decided = {name: model(inputs, training=False) for name, model in self.models.items()}  # (B, G) logits each
        present = presence({name: inputs[name] for name in self.models}, padding=self.padding)
        has = [ops.cast(ops.expand_dims(one, 1), "float32") for one in present.values()]  # (B, 1) each
        logits = self.combiner(list(decided.values()), has)  # (B, G), here the modalities meet
        return self.calibrated(logits)  # by 1, for its parts have temperatures of their own
