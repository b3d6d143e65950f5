"""Losses against NumPy, written from the papers' equations, and what they have a model's probabilities mean."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config
from scipy.special import expit, logit

from mmfusion.config import LOSSES
from mmfusion.models import build_model
from mmfusion.models.losses import MOST_WEIGHT, asymmetric_loss, positive_weights, training_loss
from mmfusion.training import fitting

FREQUENCIES = np.array([0.5, 0.1, 0.01, 0.0])
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, (50, 4)).astype(np.float32)
LOGITS = RNG.normal(scale=4, size=(50, 4)).astype(np.float32)


@pytest.mark.parametrize(("gamma_positive", "gamma_negative", "margin"), [(0, 4, 0.05), (1, 2, 0.2), (0, 2, 0)])
def test_asymmetric_loss_is_the_papers(gamma_positive, gamma_negative, margin):
    """L+ = (1 - p)^g+ log(p), L- = p_m^g- log(1 - p_m), p_m = max(p - m, 0), L = -y L+ - (1 - y) L-."""
    p = expit(LOGITS.astype(np.float64))
    p_m = np.maximum(p - margin, 0)
    positive = (1 - p) ** gamma_positive * np.log(p)
    negative = p_m**gamma_negative * np.log(1 - p_m)
    expected = np.mean(-LABELS * positive - (1 - LABELS) * negative)
    settings = {"gamma_positive": gamma_positive, "gamma_negative": gamma_negative, "margin": margin}
    assert np.mean(asymmetric_loss(LABELS, LOGITS, **settings)) == pytest.approx(expected, rel=1e-5)
    if settings == {"gamma_positive": 0, "gamma_negative": 4, "margin": 0.05}:
        assert np.mean(asymmetric_loss(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_asymmetric_loss_that_treats_both_sides_alike_is_binary_cross_entropy():
    found = asymmetric_loss(LABELS, LOGITS, gamma_positive=0, gamma_negative=0, margin=0)
    expected = keras.losses.BinaryCrossentropy(from_logits=True)(LABELS, LOGITS)
    assert np.mean(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("name", ["weighted_bce", "asymmetric"])
def test_a_certain_error_costs_a_finite_loss_with_a_gradient_that_says_where_to_go(name):
    loss = training_loss(name, FREQUENCIES)
    logits = tf.constant([[-200.0, -30.0, -200.0, -200.0], [30.0, 200.0, 30.0, 200.0]])
    labels = np.array([[1.0] * 4, [0.0] * 4], np.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = tf.reduce_mean(loss(labels, logits))
    gradient = np.asarray(tape.gradient(value, logits))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (gradient[0] < 0).all()
    assert (gradient[1] >= 0).all()  # asymmetric loss takes them for labels that are wrong


@pytest.mark.parametrize(("name", "shares"), [("weighted_bce", (0.02, 0.3, 0.9)), ("asymmetric", (0.1, 0.5))])
def test_a_loss_is_least_where_the_probability_is_the_share_of_films_with_the_genre(name, shares):
    loss = training_loss(name, FREQUENCIES)
    for share in shares:
        logits = tf.fill((1, 4), tf.cast(logit(share), tf.float32))
        with tf.GradientTape() as tape:
            tape.watch(logits)
            expected = share * loss(np.ones((1, 4)), logits) + (1 - share) * loss(np.zeros((1, 4)), logits)
        np.testing.assert_allclose(tape.gradient(expected, logits), 0, atol=1e-7)


def test_a_rare_genres_films_count_by_the_root_of_the_odds_against_them_and_no_more_than_the_cap():
    found = positive_weights(np.array([0.5, 0.1, 0.0, 1.0, 0.001]))
    np.testing.assert_allclose(found, [1, 3, MOST_WEIGHT, 1 / MOST_WEIGHT, MOST_WEIGHT], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_training_is_by_the_loss_and_validation_by_binary_cross_entropy(name):
    config = tiny_config("overview", training__loss=name)
    model = build_model(config, 4)
    fitting.compile_model(model, config, FREQUENCIES)
    plain = keras.losses.BinaryCrossentropy(from_logits=True)
    training = model.compute_loss(y=LABELS, y_pred=LOGITS, training=True)
    validation = model.compute_loss(y=LABELS, y_pred=LOGITS, training=False)
    expected = training_loss(name, FREQUENCIES) or plain
    assert float(training) == pytest.approx(float(np.mean(expected(LABELS, LOGITS))))
    weights = np.arange(50) % 2.0  # of films, as the encoders' own losses of joint fusion have them
    some = model.compute_loss(y=LABELS, y_pred=LOGITS, sample_weight=weights, training=True)
    assert float(some) == pytest.approx(float(np.mean(expected(LABELS[1::2], LOGITS[1::2]))) / 2)
    assert float(validation) == pytest.approx(float(plain(LABELS, LOGITS)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_which_the_labels_were_drawn_is_found_whatever_it_was_before(temperature, monkeypatch):
    rng = np.random.default_rng(1)
    logits = rng.normal(-1, 2, (4000, 5))
    labels = (rng.random(logits.shape) < expit(logits / temperature)).astype(np.float32)
    model = build_model(tiny_config("overview"), 5)
    monkeypatch.setattr(fitting, "logits_of", lambda model, source, rows: logits[rows] / float(model.temperature))
    found = []
    for before in (1.0, 7.0):  # as where a run was killed after it was fitted
        model.temperature.assign(before)
        fitting.calibrate(model, None, {"validation": np.arange(2000, 4000)}, labels)
        found.append(float(model.temperature))
    assert found[0] == found[1] == pytest.approx(temperature, rel=0.05)


def test_films_that_are_all_told_apart_ask_for_no_certainty_without_end(monkeypatch):
    model = build_model(tiny_config("overview"), 2)
    logits = np.array([[3.0, -2.0], [-1.0, 4.0]])
    monkeypatch.setattr(fitting, "logits_of", lambda *args: logits)
    fitting.calibrate(model, None, {"validation": np.arange(2)}, (logits > 0).astype(np.float32))
    assert float(model.temperature) == pytest.approx(0.1, rel=1e-3)
