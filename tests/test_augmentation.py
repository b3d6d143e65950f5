"""What each change does to training posters, on a smooth one and on one that is absent."""

import numpy as np
import tensorflow as tf

from mmfusion.config.sections import AugmentConfig
from mmfusion.data.augmentation import augment_posters

KEY = tf.constant([3, 5], tf.int64)
RAMP = np.linspace(0.2, 0.8, 32, dtype=np.float32)
SMOOTH = np.stack([np.tile(RAMP, (32, 1)), np.tile(RAMP, (32, 1)).T, np.full((32, 32), 0.5)], axis=2)
POSTERS = np.float32([SMOOTH] * 100 + [np.zeros((32, 32, 3))])


def changed(key=KEY, **most):
    """Each copy of the smooth poster after one change, with what was flipped flipped back."""
    found = np.asarray(augment_posters(POSTERS, key, AugmentConfig(**{"shift": 0.0, "turn": 0.0, **most})))
    assert not found[-1].any()  # what is absent stays absent
    assert 0 <= found.min() <= found.max() <= 1
    return np.array([one if one[-1, -1, 0] > one[-1, 0, 0] else one[:, ::-1] for one in found[:-1]])


def test_without_a_change_a_poster_is_flipped_or_not():
    np.testing.assert_allclose(changed(), POSTERS[:-1], atol=1e-6)


def test_a_key_gives_the_same_pictures_and_another_key_others():
    most = {"shift": 0.1, "turn": 0.1, "crop": 0.2, "contrast": 0.2, "colour": 0.2, "erase": 0.3}
    np.testing.assert_array_equal(changed(**most), changed(**most))
    assert not np.allclose(changed(**most), changed(KEY + 1, **most), atol=0.05)


def test_a_crop_shows_a_part_larger():
    found = changed(crop=0.5)
    parts = (found[:, 0, -1, 0] - found[:, 0, 0, 0]) / 0.6
    assert 0.49 < parts.min() < 0.55 < 0.95 < parts.max() <= 1.001
    starts = (found[:, 0, 0, 0] - 0.2) / 0.6
    assert starts.min() >= -0.001
    assert starts.max() > 0.3  # anywhere


def test_contrast_goes_both_ways_about_the_mean():
    found, ratio = changed(contrast=0.5), POSTERS[0].std()
    spread = found.std((1, 2, 3)) / ratio
    assert 0.49 < spread.min() < 0.6 < 1.35 < spread.max() < 1.51
    np.testing.assert_allclose(found.mean((1, 2, 3)), 0.5, atol=0.01)


def test_each_colour_changes_by_itself():
    factors = changed(colour=0.2).mean((1, 2)) / 0.5  # (N, 3)
    assert 0.79 < factors.min() < 0.82 < 1.18 < factors.max() < 1.21
    assert np.abs(np.corrcoef(factors.T)[np.triu_indices(3, 1)]).max() < 0.4


def test_a_rectangle_is_erased_in_the_mean_colour():
    found = changed(erase=0.6)
    erased = np.isclose(found, 0.5, atol=1e-5).all(3)
    kept = np.isclose(found, POSTERS[:-1], atol=1e-5).all(3)
    assert (erased | kept).all()
    rows, columns = erased.any(2).sum(1), erased.any(1).sum(1)
    np.testing.assert_array_equal(erased.sum((1, 2)), rows * columns)
    assert max(rows.max(), columns.max()) <= 0.6 * 32 + 1
    assert erased.mean() > 0.03
