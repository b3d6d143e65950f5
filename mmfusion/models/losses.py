"""Losses of training that give the few positives of a rare genre more to say.

What such a loss is least at is not the share of films with the genre: probabilities would be too high, by so much
that no temperature could mend it. Call *link* the function from the true logit to the logit that a loss is least
at. Each loss here is applied to the link of the model's logits, so that these mean what binary cross-entropy's
mean: thresholds, validation losses and averages of models need to know nothing of the loss. (Menon et al. 2021,
"Long-tail learning via logit adjustment", arXiv:2007.07314, do so with the classes' frequencies.) To subtract
the link after training would be the same but for the start: here all losses start from the same probabilities.
"""

from collections.abc import Callable

import numpy as np
from keras import ops

MOST_WEIGHT = 10.0  # of a genre's positives; reached at one film in a hundred

# The settings that Ridnik et al. 2021 recommend.
GAMMA_POSITIVE = 0.0
GAMMA_NEGATIVE = 4.0
MARGIN = 0.05
# With these, asymmetric loss is least at the q with p / (1 - p) = q (q'^4 / (1 - q') - 4 q'^3 log(1 - q')), where
# q' = q - MARGIN. Its link is taken for the line through its points at p = 1/10 and 1/2, between which most
# probabilities of genres lie that matter.
_SLOPE, _OFFSET = 0.3917887, 0.7708576

# The temperature that a model is trained at. At the link's slope, the loss reads the network's own numbers, as in
# the paper, and a validation loss the probabilities that it is right to take them for.
TRAINING_TEMPERATURE = {"bce": 1.0, "weighted_bce": 1.0, "asymmetric": _SLOPE}


def training_loss(name: str, frequencies: np.ndarray | None) -> Callable | None:
    """The loss of training steps.

    Args:
        name: one of `config.LOSSES`.
        frequencies: (G,) shares of the training films with each genre; "weighted_bce" alone reads them.

    Returns:
        (labels (B, G), logits (B, G)) -> (B,), each film's mean over genres; None for "bce", which a model is
        compiled with.
    """
    if name == "weighted_bce":
        if frequencies is None:
            raise ValueError("weighted_bce needs the frequencies of the genres")
        weights = positive_weights(frequencies)
        link = np.log(weights)  # exact: the weight multiplies the odds
        return lambda labels, logits: weighted_cross_entropy(labels, logits + link, weights)
    if name == "asymmetric":
        return lambda labels, logits: asymmetric_loss(labels, _SLOPE * logits + _OFFSET)
    return None


def log_odds(frequencies: np.ndarray) -> np.ndarray:
    """Computes the log odds of genres, those that hardly a film or nearly every film has cut at one in a thousand.

    Args:
        frequencies: (G,) shares of the training films with each genre, from 0 to 1.

    Returns:
        (G,) float32.
    """
    shares = np.clip(np.asarray(frequencies, np.float64), 1e-3, 1 - 1e-3)
    return np.log(shares / (1 - shares)).astype(np.float32)


def positive_weights(frequencies: np.ndarray) -> np.ndarray:
    """Weighs a positive film of each genre: the root of negatives / positives, from 1/10 to 10.

    With the ratio itself both sides of every genre would count alike: at one film in a hundred a positive would
    count 99 times, and a few films decide the gradient. The root goes half of the way on the scale of logits; it is
    the usual compromise (Mahajan et al. 2018, "Exploring the limits of weakly supervised pretraining",
    arXiv:1805.00932, draw pictures by it). The cap is for genres with hardly a film, or with all but a few.

    Args:
        frequencies: (G,) shares of the training films with each genre, from 0 to 1.

    Returns:
        (G,) float32.
    """
    positives = np.maximum(np.asarray(frequencies, np.float64), 1e-9)
    weights = np.sqrt((1 - positives) / positives)
    return np.clip(weights, 1 / MOST_WEIGHT, MOST_WEIGHT).astype(np.float32)


def weighted_cross_entropy(labels, logits, weights):
    """Binary cross-entropy with positives weighted by genre.

    Args:
        labels: (B, G) from 0 to 1.
        logits: (B, G).
        weights: (G,) of positives.

    Returns:
        (B,), each film's mean over genres.
    """
    positive, negative = ops.log_sigmoid(logits), ops.log_sigmoid(-logits)
    return -ops.mean(weights * labels * positive + (1 - labels) * negative, axis=-1)  # of (B, G)


def asymmetric_loss(
    labels,
    logits,
    *,
    gamma_positive: float = GAMMA_POSITIVE,
    gamma_negative: float = GAMMA_NEGATIVE,
    margin: float = MARGIN,
):
    """Asymmetric loss (Ridnik et al. 2021, "Asymmetric loss for multi-label classification", arXiv:2009.14119).

    Negatives that are told with ease count little, and not at all where their probability is below the margin. The
    paper takes the sum over genres; this is the mean, as binary cross-entropy is here.

    Args:
        labels: (B, G) from 0 to 1.
        logits: (B, G).
        gamma_positive: of the factor (1 - p)^gamma on positives.
        gamma_negative: of the factor p_m^gamma on negatives, p_m = max(p - margin, 0).
        margin: m, taken off the probability of negatives.

    Returns:
        (B,), each film's mean over genres.
    """
    positive = ops.log_sigmoid(logits)
    negative = ops.log_sigmoid(-logits)  # finite where 1 - p rounds to 0
    if margin:
        negative = ops.minimum(ops.log(ops.sigmoid(-logits) + margin), 0.0)  # log(1 - p_m)
    if gamma_positive:
        positive *= ops.power(ops.sigmoid(-logits), gamma_positive)
    if gamma_negative:
        negative *= ops.power(ops.maximum(ops.sigmoid(logits) - margin, 0.0), gamma_negative)
    return -ops.mean(labels * positive + (1 - labels) * negative, axis=-1)  # of (B, G)
