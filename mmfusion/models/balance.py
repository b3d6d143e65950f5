"""OGM-GE: slows the encoder down that is ahead of the other, for joint fusion.

On-the-fly gradient modulation with generalisation enhancement of Peng et al. 2022 (arXiv:2203.15332): in each
training step the gradient of the encoder whose modality tells more is made smaller, so that the other goes on
learning; and Gaussian noise of the size of the gradient is added to that of both.

Made for several genres a film. The paper scores a modality by the probability (softmax) that its own part of the
linear head gives to the true class. Here the head is not linear in the encoders' features, so a modality's own
logits are those of a linear head of its own, and its score is the sum of the probabilities (sigmoid) that these
give to the films' true genres. Genres that are not true do not count, as in the paper; they are most, and would
make the two scores nearly equal.

Adam, which divides each step by the size of the last gradients, takes a part of the modulation back.
"""

import keras
import tensorflow as tf
from keras import ops

ALPHA = 0.3  # how much is modulated; the authors choose it for each data set, and their program has no default


def coefficients(logits, labels, whole):
    """Computes the coefficient of each encoder's gradient, equations 9 and 10 of the paper.

    The paper has two modalities; of more, each is compared with the mean of the others.

    Args:
        logits: of each of M modalities' own head, float (B, G).
        labels: (B, G) multi-hot.
        whole: bool (B,), true for films that have every modality; only these are compared.

    Returns:
        M float scalars: 1 - tanh(ALPHA r) where a modality's score is r > 1 times the others', else 1.
    """
    counted = ops.cast(whole, "float32")[:, None] * labels  # (B, G)
    scores = [ops.sum(counted * ops.sigmoid(ops.cast(one, "float32"))) for one in logits]
    found = []
    for place, score in enumerate(scores):
        others = [other for i, other in enumerate(scores) if i != place]
        # Without a true genre in the batch there is no ratio: 0, and nothing is modulated.
        ratio = ops.divide_no_nan(score, sum(others) / len(others))
        found.append(ops.where(ratio > 1, 1 - ops.tanh(ALPHA * ratio), 1.0))
    return tuple(found)


def modulate(gradient, coefficient, seed: keras.random.SeedGenerator):
    """One weight's gradient, modulated and with noise, equation 12 of the paper.

    The noise has the standard deviation of the gradient before. What has no gradient in this step, as
    embeddings of words that are not in the batch, gets no noise either: Adam would make large steps of it.

    Args:
        gradient: float32 of any shape, or None; an embedding's may be `tf.IndexedSlices`.
        coefficient: as `coefficients` gives it.
        seed: of the noise.

    Returns:
        float32 of the same shape, or None.
    """
    if gradient is None:
        return None
    gradient = tf.convert_to_tensor(gradient)
    moved = ops.cast(ops.not_equal(gradient, 0), gradient.dtype)
    count = ops.maximum(ops.sum(moved), 1)
    mean = ops.sum(gradient) / count
    deviation = ops.sqrt(ops.sum(moved * ops.square(gradient - mean)) / count)
    noise = keras.random.normal(ops.shape(gradient), seed=seed) * deviation
    return coefficient * gradient + moved * noise
