"""That intervals, p-values, calibration and the modalities' shares mean what the report says that they mean."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import kstest, norm
from sklearn import metrics as sk

from mmfusion.evaluation import calibration, metrics
from mmfusion.evaluation.contributions import (
    PermutedPredictions,
    additive_approximation,
    coalitions,
    contribution,
)
from mmfusion.evaluation.resampling import (
    FEWEST,
    Predicted,
    draw_films,
    holm,
    interval,
    mean_over_seeds,
    paired_p_values,
    weighted_scores,
)


def random_case(seed: int, films: int = 60, genres: int = 5) -> Predicted:
    """With a genre that no film has, one that all have, a film without genres, and many equal probabilities."""
    rng = np.random.default_rng(seed)
    y_true = (rng.random((films, genres)) < 0.3).astype(np.uint8)
    y_true[:, 1], y_true[:, 3], y_true[0, :3] = 0, 1, 0
    y_prob = rng.random((films, genres)).round(int(rng.integers(1, 8)))
    thresholds = np.where(rng.random(genres) < 0.3, np.nan, rng.random(genres))
    return Predicted(np.arange(films), y_true, y_prob, thresholds)


class TestScoresOfADraw:
    @pytest.mark.parametrize("seed", range(8))
    def test_are_those_of_scikit_learn_when_every_film_is_drawn_once(self, seed):
        case = random_case(seed)
        scores, ap = weighted_scores(case, np.ones((1, 60), int))
        expected = metrics.scores(case.y_true, case.y_prob, case.thresholds)
        for name, values in scores.items():
            assert values[0] == pytest.approx(expected[name], abs=1e-12), name
        for genre in range(5):
            if case.y_true[:, genre].any():
                by_sklearn = sk.average_precision_score(case.y_true[:, genre], case.y_prob[:, genre])
                assert ap[0, genre] == pytest.approx(by_sklearn, abs=1e-12)
            else:
                assert np.isnan(ap[0, genre])

    @pytest.mark.parametrize("seed", range(4))
    def test_are_those_of_the_drawn_films_repeated(self, seed):
        case = random_case(seed)
        draws = draw_films(60, 5, seed)
        scores, _ = weighted_scores(case, draws)
        for number, draw in enumerate(draws):
            rows = np.repeat(np.arange(60), draw)
            expected = metrics.scores(case.y_true[rows], case.y_prob[rows], case.thresholds)
            for name, values in scores.items():
                assert values[number] == pytest.approx(expected[name], abs=1e-12), name

    def test_a_film_that_a_run_did_not_score_has_no_weight(self):
        case = random_case(0)
        some = Predicted(case.films[10:40], case.y_true[10:40], case.y_prob[10:40], case.thresholds)
        alone = Predicted(np.arange(30), some.y_true, some.y_prob, some.thresholds)
        draws = draw_films(60, 3, 0)
        of_all, of_some = weighted_scores(some, draws)[0], weighted_scores(alone, draws[:, 10:40])[0]
        for name, values in of_all.items():
            np.testing.assert_array_equal(values, of_some[name])

    def test_a_genre_without_films_stays_undefined(self):
        y_true = np.zeros((4, 2), np.uint8)
        case = Predicted(np.arange(4), y_true, np.full((4, 2), 0.5), np.full(2, np.nan))
        scores, ap = weighted_scores(case, draw_films(4, 3, 0))
        assert np.isnan(ap).all()
        assert np.isnan(scores["ap_macro"]).all()
        assert np.isnan(interval(ap[:, 0], float("nan"))).all()

    @pytest.mark.filterwarnings("error")
    def test_a_draw_without_any_of_its_films_is_undefined(self):
        case = random_case(0)
        scores, ap = weighted_scores(case, np.zeros((2, 60), int))
        assert np.isnan(ap).all()
        assert all(np.isnan(values).all() for values in scores.values())


SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)  # of films with each genre, as uneven as those of real films
_SPREAD = 1.7  # of what decides, in logits


def _offset(share: float) -> float:
    """The mean logit with which so large a share of films has the genre."""
    quantiles = norm.ppf(np.arange(1, 400) / 400) * _SPREAD
    return brentq(lambda offset: expit(quantiles + offset).mean() - share, -15, 5)


def simulated(rng, films: int, noise: tuple[float, ...]) -> list[Predicted]:
    """Films, and models that see what decides the genres through more or less noise."""
    truth = rng.normal([_offset(share) for share in SHARES], _SPREAD, (films, len(SHARES)))
    y_true = (rng.random(truth.shape) < expit(truth)).astype(np.uint8)
    return [
        Predicted(
            np.arange(films), y_true, expit(truth + rng.normal(0, one, truth.shape)), np.full(len(SHARES), 0.3)
        )
        for one in noise
    ]


def scored(models: list[list[Predicted]], draws: np.ndarray) -> dict[tuple, np.ndarray]:
    """Scores (D,) of the first model and of its gains over the second, means over seeds; by genre as well."""
    found = {}
    for first, second in models:
        (ours, our_ap), (theirs, their_ap) = (weighted_scores(one, draws) for one in (first, second))
        values = {name: ours[name] for name in PATHS} | {
            ("gain", name): ours[name] - theirs[name] for name in PATHS
        }
        values |= {("ap", share): our_ap[:, g] for g, share in enumerate(SHARES)}
        values |= {("gain in ap", share): our_ap[:, g] - their_ap[:, g] for g, share in enumerate(SHARES)}
        for key, value in values.items():
            found.setdefault(key, []).append(value)
    return {key: mean_over_seeds(values) for key, values in found.items()}


PATHS = ["bce", "ap_micro", "ap_macro", "lrap", "tuned.f1_micro"]


def coverage(data_sets: int, films: int, draws: int) -> dict[tuple, float]:
    """How often 95% intervals hold the mean score of such test sets, by score.

    Two seeds, each tested on its own two thirds of the films, as in the benchmark.
    """
    rng, tested = np.random.default_rng(0), films * 2 // 3

    def two_seeds():
        models, seeds = simulated(rng, films, (1.0, 1.5, 1.0, 1.5)), []
        for seed in range(2):
            some = np.sort(rng.permutation(films)[:tested])
            pair = models[2 * seed : 2 * seed + 2]
            seeds.append([Predicted(some, one.y_true[some], one.y_prob[some], one.thresholds) for one in pair])
        return seeds

    once = np.ones((1, films), int)
    truth = {}
    for _ in range(3 * data_sets):
        for key, value in scored(two_seeds(), once).items():
            truth.setdefault(key, []).append(value[0])
    truth = {key: np.nanmean(values) for key, values in truth.items()}
    held = {key: [] for key in truth}
    for number in range(data_sets):
        models = two_seeds()
        drawn, found = scored(models, draw_films(films, draws, number)), scored(models, once)
        for key, value in truth.items():
            if key[0] in ("ap", "gain in ap") and key[1] * tested < FEWEST:
                continue
            low, high = interval(drawn[key], found[key][0])
            held[key].append(low <= value <= high)
    return {key: float(np.mean(hits)) for key, hits in held.items() if hits}


def test_bootstrap_intervals_hold_the_mean_about_as_often_as_they_say():
    found = coverage(60, films=300, draws=200)
    assert all(share >= 0.85 for share in found.values()), found
    assert np.mean(list(found.values())) == pytest.approx(0.95, abs=0.03)


@pytest.mark.slow
def test_bootstrap_intervals_hold_the_mean_in_93_to_97_of_100_data_sets():
    found = coverage(1000, films=1200, draws=400)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found


def null_p_values(data_sets: int, change) -> np.ndarray:
    """P-values for two models that rank equally well; the second one's logits are changed."""
    rng, found = np.random.default_rng(0), []
    for number in range(data_sets):
        first, second = simulated(rng, 150, (1.0, 1.0))
        second = dataclasses.replace(second, y_prob=expit(change(logit(second.y_prob))))
        found.append(paired_p_values([first], [second], 199, number, by_genre=False)[0])
    return np.array(found)


def assert_uniform(p: np.ndarray, tolerance: float) -> None:
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(p <= level) == pytest.approx(level, abs=tolerance)
    assert kstest(p, "uniform").pvalue > 0.01


CHANGES = {
    "the same scale": lambda logits: logits,
    "less sure": lambda logits: 0.3 * logits,
    "always lower": lambda logits: logits - 3,
}


@pytest.mark.parametrize("change", CHANGES)
def test_p_values_are_uniform_when_there_is_no_effect(change):
    assert_uniform(null_p_values(150, CHANGES[change]), tolerance=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_p_values_are_uniform_when_there_is_no_effect_in_2000_data_sets(change):
    assert_uniform(null_p_values(2000, CHANGES[change]), tolerance=0.03)


def test_an_effect_is_found_and_no_test_is_made_where_nothing_is_true():
    better, worse = simulated(np.random.default_rng(0), 300, (0.5, 3.0))
    better.y_true[:, 3] = 0
    p_micro, p_genres = paired_p_values([better], [worse], 199, 0)
    assert p_micro == 1 / 100  # two-sided: twice the least of 200
    assert np.isnan(p_genres[3])
    assert p_genres[[4, 5]].max() < 0.05


def test_several_seeds_are_swapped_together():
    """Seeds that only repeat each other are no more evidence than one."""
    first, second = simulated(np.random.default_rng(3), 100, (1.0, 1.4))
    one = paired_p_values([first], [second], 499, 0)
    three = paired_p_values([first] * 3, [second] * 3, 499, 0)
    assert three[0] == one[0]
    np.testing.assert_array_equal(three[1], one[1])


def test_models_of_other_films_are_not_compared():
    first, second = simulated(np.random.default_rng(0), 10, (1.0, 1.0))
    with pytest.raises(ValueError, match="same films"):
        paired_p_values([first], [Predicted(second.films + 1, *list(vars(second).values())[1:])], 9, 0)


def test_holm_corrects_for_the_genres_that_were_tested():
    # By hand: 0.01 * 3, 0.02 * 2 and 0.4 * 1.
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.4, 0.01])), [0.04, np.nan, 0.4, 0.03])
    assert np.isnan(holm(np.array([np.nan]))).all()


class TestCalibration:
    def test_a_probability_that_is_right_so_often_is_calibrated(self):
        y_prob = np.repeat([0.1, 0.5, 0.9], 10)[:, None]
        y_true = np.concatenate([np.arange(10) < right for right in (1, 5, 9)])[:, None]
        found = calibration.reliability(y_true, y_prob)
        np.testing.assert_array_equal(found.count, [10, 10, 10])
        assert calibration.expected_calibration_error(y_true, y_prob) == pytest.approx(0)

    def test_the_error_is_weighed_by_predictions(self):
        y_prob = np.array([[0.9]] * 3 + [[0.2]])
        found = calibration.expected_calibration_error(np.array([[1], [1], [0], [0]]), y_prob)
        assert found == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.2)
        assert calibration.brier_score([[1], [0]], [[0.5], [0.2]]) == pytest.approx((0.25 + 0.04) / 2)

    def test_bins_are_those_of_scikit_learn(self):
        rng = np.random.default_rng(0)
        y_prob = np.append(rng.random((500, 3)), np.array([[0, 1, 1 / 15]]), axis=0)
        y_true = rng.random(y_prob.shape) < y_prob
        found = calibration.reliability(y_true, y_prob)
        right = found.observed * found.count
        np.testing.assert_allclose(right, right.round(), atol=1e-9)  # whole films, so the counts are of these bins
        assert right.sum() == pytest.approx(y_true.sum())
        assert (found.predicted * found.count).sum() == pytest.approx(y_prob.sum())


class TestContributions:
    """Models of a number of each modality."""

    films, paired = 200, 60

    def asked(self, model, names="ab") -> tuple:
        rng = np.random.default_rng(0)
        numbers = rng.normal(size=(len(names), self.films))
        y_true = (model(*numbers) + rng.normal(0, 0.2, self.films) > 0)[:, None]

        def logits(**rows):
            return model(*(x[rows.get(name, same)] for name, x in zip(names, numbers)))[..., None]

        def says(**rows):
            return 1 / (1 + np.exp(-logits(**rows)))

        same, few = np.arange(self.films), np.arange(self.paired)
        orders = [{name: rng.permutation(same) for name in names} for _ in range(3)]
        permuted = {
            some: np.stack([says(**{n: order[n] for n in some}) for order in orders]) for some in coalitions(names)
        }
        own, beside = few[:, None], few[None, :]
        effects = [logits(**{n: own if n == name else beside for n in names}) for name in names]
        films = logits(**dict.fromkeys(names, few))
        whole, additive = additive_approximation(effects, films, of_probabilities=False)
        answers = PermutedPredictions(permuted, few, whole, additive)
        return answers, contribution(y_true, says(), answers), y_true, says()

    def test_a_modality_that_is_not_read_brings_nothing(self):
        _, found, _, _ = self.asked(lambda a, b: 3 * b)
        assert found.perceptual["a"] == pytest.approx(0)
        assert found.perceptual["b"] > 0.2
        assert abs(found.shapley["a"]) < 0.1 < found.shapley["b"]

    def test_shapley_values_add_up_to_what_the_model_gains(self):
        answers, found, y_true, y_prob = self.asked(lambda a, b: 2 * a + 3 * b)
        exchanged = np.mean([metrics.average_precision(y_true, one) for one in answers.permuted["a", "b"]])
        gain = metrics.average_precision(y_true, y_prob) - exchanged
        assert sum(found.shapley.values()) == pytest.approx(gain)
        assert 0 < found.shapley["a"] < found.shapley["b"]

    def test_a_sum_is_its_own_additive_approximation_and_a_product_is_not(self):
        answers, found, _, _ = self.asked(lambda a, b: 2 * a - b)
        np.testing.assert_allclose(answers.additive, answers.whole, atol=1e-12)
        assert found.additive == pytest.approx(found.whole)
        _, product, _, _ = self.asked(lambda a, b: 3 * a * b)
        assert product.whole > product.additive + 0.2

    def test_an_average_of_probabilities_is_additive_in_probabilities(self):
        p, q = np.random.default_rng(0).random((2, 20))
        mean = (p[:, None] + q[None, :]) / 2
        square = np.log(mean / (1 - mean))[:, :, None]
        films = np.diagonal(square[:, :, 0])[:, None]
        effects = [square, square.swapaxes(0, 1)]
        whole, additive = additive_approximation(effects, films, of_probabilities=True)
        np.testing.assert_allclose(additive, whole, atol=1e-12)

    def test_nothing_is_said_of_a_genre_without_films(self):
        answers, _, y_true, y_prob = self.asked(lambda a, b: a + b)
        assert np.isnan(list(contribution(np.zeros_like(y_true), y_prob, answers).flat().values())).all()

    def test_shapley_values_of_three_add_up_and_leave_out_what_is_not_read(self):
        answers, found, y_true, y_prob = self.asked(lambda a, b, c: 2 * a + 3 * c, "abc")
        exchanged = np.mean([metrics.average_precision(y_true, one) for one in answers.permuted["a", "b", "c"]])
        gain = metrics.average_precision(y_true, y_prob) - exchanged
        assert sum(found.shapley.values()) == pytest.approx(gain)
        assert abs(found.shapley["b"]) < 0.02 < found.shapley["a"] < found.shapley["c"]
        np.testing.assert_allclose(answers.additive, answers.whole, atol=1e-12)

    def test_a_product_of_three_is_shared_among_them(self):
        _, found, _, _ = self.asked(lambda a, b, c: 3 * a * b * c, "abc")
        assert found.whole > found.additive + 0.2
        assert min(found.shapley.values()) > 0.05
