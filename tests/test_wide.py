"""The wide path against scikit-learn's own TF-IDF and logistic regression, and its place in a model."""

import keras
import numpy as np
import pytest
from conftest import run_variant, tiny_config
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from mmfusion import inference
from mmfusion.config.idle import acts_nowhere
from mmfusion.models.wide import WidePath

RNG = np.random.default_rng(0)
WORDS = ["war", "warrior", "love", "lovers", "alien", "space", "spaceship", "detective", "house"]
VOCABULARY = ["", "[UNK]", *WORDS]
# Each word once at most, so that a film's n-grams are counted as scikit-learn counts them.
TOKENS = np.zeros((80, 6), np.int32)
for row in TOKENS:
    count = RNG.integers(1, 6)
    row[:count] = 2 + RNG.permutation(len(WORDS))[:count]
LABELS = np.stack([(TOKENS < 4).all(1), (TOKENS == 6).any(1), np.zeros(80)], axis=1).astype(np.float32)


def fitted(units, tokens=TOKENS, labels=LABELS, c=3.0):
    path = WidePath(len(VOCABULARY), labels.shape[1])
    path.build((None, labels.shape[1]), (None, None))
    path.fit(tokens, labels, VOCABULARY, units, c)
    return path


def test_words_are_weighed_and_fitted_as_scikit_learn_does_it():
    texts = [" ".join(VOCABULARY[token] for token in row if token) for row in TOKENS]
    features = TfidfVectorizer(min_df=2).fit_transform(texts)
    linear, there = fitted("words").linear(TOKENS)
    assert np.asarray(there).all()
    for genre in range(2):
        model = LogisticRegression(C=3.0, solver="liblinear").fit(features, LABELS[:, genre])
        np.testing.assert_allclose(linear[:, genre], model.decision_function(features), atol=1e-4)
    np.testing.assert_allclose(linear[:, 2], np.log(0.001 / 0.999), rtol=1e-5)  # nobody has it


def test_n_grams_make_words_alike_that_share_letters():
    only = TOKENS.copy()
    only[only == 3] = 0  # no film has "warrior"
    labels = (only == 2).any(1, keepdims=True).astype(np.float32)  # "war"
    asked = np.array([[3], [6]], np.int32)
    _, known = fitted("words", only, labels).linear(asked)
    assert np.asarray(known)[:, 0].tolist() == [False, True]
    (warrior, alien), _ = fitted("ngrams", only, labels).linear(asked)
    assert warrior > alien + 0.3


@pytest.mark.parametrize("units", ["words", "ngrams"])
def test_padding_and_films_without_a_known_word_change_nothing(units):
    path = fitted(units)
    path.share.assign(0.5)
    logits = RNG.normal(size=(80, 3)).astype(np.float32)
    padded = np.pad(TOKENS, ((0, 0), (0, 9)))
    np.testing.assert_allclose(path(logits, padded), path(logits, TOKENS), atol=1e-6)
    np.testing.assert_allclose(path(logits, TOKENS), (logits + path.linear(TOKENS)[0]) / 2, atol=1e-6)
    nothing = np.array([[0, 0], [1, 1]], np.int32)
    np.testing.assert_array_equal(path(logits[:2], nothing), logits[:2])


def test_a_vocabulary_without_words_is_fitted_too():
    path = WidePath(2, 1)
    path.build((None, 1), (None, None))
    for units in ("words", "ngrams"):
        path.fit(np.zeros((4, 3), np.int32), np.eye(4, 1, dtype=np.float32), ["", "[UNK]"], units, 1.0)
        assert np.asarray(path(np.ones((1, 1)), np.zeros((1, 3), np.int32))).tolist() == [[1.0]]


@pytest.fixture(scope="module")
def pair(trained):
    """The same training without and with a wide path."""
    return trained("overview"), trained("overview", wide__units="ngrams")


class TestRuns:
    def test_the_network_is_the_same_and_the_path_is_mixed_in_as_validation_films_ask_for(self, pair):
        plain, mixed = pair
        assert [row["val_loss"] for row in plain.history] == [row["val_loss"] for row in mixed.history]
        losses = []
        for run in pair:
            one = run.predictions("validation")
            p = one.y_prob.astype(np.float64)
            losses.append(-np.mean(one.y_true * np.log(p) + (1 - one.y_true) * np.log1p(-p)))
        assert losses[1] <= losses[0] + 1e-6
        share = float(inference.load_model(mixed).wide.share)
        assert 0 <= share <= 1

    def test_its_name_says_that_it_is_there(self, pair):
        assert [run.config.label for run in pair] == ["overview (bag)", "overview (bag, wide)"]
        assert tiny_config("late", wide__units="words").label == "late (resnet + bag, wide)"

    def test_keras_and_we_load_it_with_its_path(self, pair):
        _, run = pair
        films = {"overview": TOKENS % 20, "poster": np.zeros((80, 16, 16, 3), np.float32)}
        ours = inference.load_model(run)
        theirs = keras.saving.load_model(run.model_file)
        assert float(np.abs(np.asarray(ours.wide.word_logits)).max()) > 0
        np.testing.assert_array_equal(ours(films), theirs(films))


def test_late_fusion_has_the_paths_of_its_parts(tmp_path, cache):
    run = run_variant("late", tmp_path / "late", cache, wide__units="words", training__epochs=1)
    late, part = inference.load_model(run), inference.load_model(run.part("overview"))
    np.testing.assert_array_equal(late.models["overview"].wide.word_logits, part.wide.word_logits)
    assert late.models["poster"].wide is None


@pytest.mark.parametrize(
    ("variant", "settings", "key"),
    [
        ("poster", {}, "wide.units"),
        ("early", {}, "wide.units"),
        ("overview", {}, "wide.c"),
        ("overview", {"overview_encoder__name": "preset:some"}, "wide.units"),
    ],
)
def test_it_is_refused_where_it_would_do_nothing(variant, settings, key):
    assert acts_nowhere(key, [tiny_config(variant, **settings)], {})
    assert not acts_nowhere("wide.units", [tiny_config("joint")], {})
