"""Late fusion."""

import keras
import numpy as np
from keras import ops
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from mmfusion.models.base import GenreModel
from mmfusion.models.missing import padding_of, presence
from mmfusion.models.unimodal import Unimodal
from mmfusion.schema import OVERVIEW, POSTER


@keras.saving.register_keras_serializable(package="mmfusion")
class Combiner(keras.layers.Layer):
    """Puts two models' decisions on each genre together; it is fitted, never trained by gradients.

    "mean" and "weighted" average the two probabilities, with one half each or with the genre's own
    weight; "product" multiplies the two odds and divides by the genre's own, which is right if poster and
    overview tell independent things of a genre (Kittler et al. 1998, doi:10.1109/34.667881); "stacked" is a
    logistic regression on the two logits, one for each genre (Wolpert 1992).

    Args:
        kind: one of `config.COMBINERS`.
    """

    def __init__(self, kind: str, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs}, trainable=False)
        self.kind = kind

    def build(self, input_shape):
        genres = (input_shape[0][-1],)
        one_half = keras.initializers.Constant(0.5)
        self.poster_weight = self.add_weight(shape=genres, initializer=one_half, name="poster_weight")
        self.overview_weight = self.add_weight(shape=genres, initializer=one_half, name="overview_weight")
        self.bias = self.add_weight(shape=genres, initializer="zeros", name="bias")
        super().build(input_shape)

    def call(self, logits):
        poster, overview = logits  # each (B, G)
        if self.kind in ("product", "stacked"):
            return self.poster_weight * poster + self.overview_weight * overview + self.bias
        # logit(w p + v q) with w + v = 1, from log-sigmoids: exact where a probability rounds to 0 or 1.
        weights = (ops.log(self.poster_weight), ops.log(self.overview_weight))
        yes = [w + ops.log_sigmoid(z) for w, z in zip(weights, logits, strict=True)]
        no = [w + ops.log_sigmoid(-z) for w, z in zip(weights, logits, strict=True)]
        return ops.logaddexp(*yes) - ops.logaddexp(*no)  # (B, G) logits

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def fit(self, poster_logits: np.ndarray, overview_logits: np.ndarray, labels: np.ndarray) -> None:
        """Fits the weights of each genre.

        A genre without a positive or a negative film among these says nothing and keeps its start; to
        "product" it says how rare it is.

        Args:
            poster_logits: (N, G) of validation films.
            overview_logits: (N, G) of the same films.
            labels: (N, G) multi-hot.
        """
        if self.kind == "mean":
            return
        weights = (self.poster_weight, self.overview_weight, self.bias)
        if self.kind == "product":
            positives = labels.sum(axis=0)
            # Both logits have the genre's own in them. One film more of each: a rare genre may have none.
            for weight, value in zip(weights, (1.0, 1.0, np.log((len(labels) - positives + 1) / (positives + 1)))):
                weight.assign(np.broadcast_to(value, weight.shape))
            return
        values = [np.array(w) for w in weights]
        for genre in range(labels.shape[1]):
            truth = labels[:, genre]
            if not truth.any() or truth.all():
                continue
            fit = _fit_weight if self.kind == "weighted" else _fit_logistic
            fitted = fit(poster_logits[:, genre], overview_logits[:, genre], truth)
            for value, one in zip(values, fitted, strict=True):
                value[genre] = one
        for weight, value in zip(weights, values, strict=True):
            weight.assign(value)

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("trainable")
        return {**config, "kind": self.kind}


def _fit_weight(poster, overview, truth):
    """The share of the poster's probability, in steps of 0.05, with the least cross-entropy."""
    p, q = _sigmoid(poster), _sigmoid(overview)
    shares = np.linspace(0.05, 0.95, 19)  # never 0 or 1: either model keeps a say
    losses = [log_loss(truth, share * p + (1 - share) * q, labels=[0, 1]) for share in shares]
    best = shares[int(np.argmin(losses))]
    return best, 1 - best, 0.0


def _fit_logistic(poster, overview, truth):
    model = LogisticRegression().fit(np.stack([poster, overview], axis=1), truth)
    return model.coef_[0, 0], model.coef_[0, 1], model.intercept_[0]


def _sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


@keras.saving.register_keras_serializable(package="mmfusion")
class LateFusion(GenreModel):
    """The modalities meet after each has decided: two trained, frozen models and a combiner.

    Late fusion of Huang et al. 2020 (npj Digital Medicine 3:136) and Snoek et al. 2005. Only the
    combiner is fitted, on validation films; no gradient reaches anything. Averaging the logits of two
    branches that are trained end to end is something else. Of a film that has only one of the modalities, the
    model of that one decides alone.

    Args:
        num_genres: G.
        poster_model: a trained model that reads the poster only.
        overview_model: a trained model that reads the overview only.
        combiner: how their logits are put together.
    """

    handed = ("poster_model", "overview_model", "combiner")

    def __init__(
        self,
        num_genres: int,
        *,
        poster_model: GenreModel,
        overview_model: GenreModel,
        combiner: Combiner,
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.poster_model = poster_model
        self.overview_model = overview_model
        self.combiner = combiner
        self.trainable = False

    @classmethod
    def from_run_config(cls, config, num_genres):
        return cls(
            num_genres,
            poster_model=Unimodal.of(POSTER, config, num_genres, name=str(POSTER)),
            overview_model=Unimodal.of(OVERVIEW, config, num_genres, name=str(OVERVIEW)),
            combiner=Combiner(config.late.combiner),
            name="late",
        )

    def call(self, inputs, training=False):
        poster = self.poster_model(inputs, training=False)  # (B, G) logits
        overview = self.overview_model(inputs, training=False)  # (B, G) logits
        logits = self.combiner([poster, overview])  # (B, G), here the modalities meet
        there = presence(inputs, padding=padding_of(self.overview_model.encoder))
        no_poster, no_overview = (ops.logical_not(there[one]) for one in (POSTER, OVERVIEW))  # (B,)
        no_poster, no_overview = ops.expand_dims(no_poster, 1), ops.expand_dims(no_overview, 1)  # (B, 1)
        alone = ops.where(no_poster, overview, poster)  # (B, G), for films that have one
        logits = ops.where(ops.logical_xor(no_poster, no_overview), alone, logits)
        return self.calibrated(logits)  # (B, G); by 1, for its parts have temperatures of their own
