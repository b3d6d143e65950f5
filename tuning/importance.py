"""Importance of hyperparameters, as far as the trials of one search can tell."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from tuning import spaces
from tuning.oracles import EPOCHS
from tuning.records import Search

FEWEST = 10  # scored trials


class Importance(NamedTuple):
    """By hyperparameter the drop of a forest's R² without it; none where nothing can be said."""

    shares: dict[str, tuple[float, float]]  # mean and standard deviation over permutations
    sentence: str


def estimate(trials: pd.DataFrame, search: Search) -> Importance:
    """Fits a random forest to the scores and shuffles one hyperparameter after the other (Breiman 2001).

    The forest must first predict the score of trials that it has not seen; where it does not, the
    importances that it would give all the same mean nothing and are left out.

    Args:
        trials: of `tuning.summary.table_of`.
    """
    scored = trials.dropna(subset=search.objective)
    of_length = ""
    if search.tuner == "hyperband" and len(scored):  # its scores differ most by how long a trial was trained
        length = scored[EPOCHS].mode().max()
        scored = scored[scored[EPOCHS] == length]
        of_length = f" of {length} epochs"
    if len(scored) < FEWEST:
        few = f"{len(scored)} scored trials{of_length} are too few to tell"
        return Importance({}, f"{few}; there must be {FEWEST}.")
    space = spaces.declare(search.start, search.names).space
    columns = np.column_stack([spaces.places(one, scored[one.name]) for one in space])
    scores = np.array(scored[search.objective], float)
    forest = RandomForestRegressor(100, min_samples_leaf=2, random_state=search.seed)
    seen = r2_score(scores, cross_val_predict(forest, columns, scores, cv=LeaveOneOut()))
    if seen <= 0:
        return Importance(
            {},
            f"The {len(scored)} trials{of_length} cannot tell: a random forest of their hyperparameters predicts "
            f"the score of a trial that was left out no better than the others' mean (R² {seen:.2f}).",
        )
    shuffled = permutation_importance(forest.fit(columns, scores), columns, scores, n_repeats=30, random_state=0)
    means, deviations = shuffled["importances_mean"], shuffled["importances_std"]
    shares = {space[i].name: (float(means[i]), float(deviations[i])) for i in np.argsort(-np.asarray(means))}
    return Importance(
        shares,
        f"A random forest predicts the score of a trial that was left out with R² {seen:.2f} ({len(scored)} "
        f"trials{of_length}). The bars say how much of its own fit is lost when one hyperparameter is shuffled. "
        "With so few trials the order is a hint, not a result.",
    )
