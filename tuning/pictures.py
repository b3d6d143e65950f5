"""Pictures of a search."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from keras_tuner.engine.hyperparameters import Choice, Float
from matplotlib.ticker import MaxNLocator

from mmfusion.reports.figures import COLOURS, drawn
from tuning import OBJECTIVES, spaces
from tuning.importance import Importance
from tuning.oracles import EPOCHS
from tuning.records import START, Search


def draw_scores(trials: pd.DataFrame, search: Search, path: Path) -> None:
    """The score of each trial in the order of their numbers, and the best so far.

    Args:
        trials: of `tuning.summary.table_of`.
        path: the PNG to write.
    """
    scores = trials[search.objective].dropna().astype(float)
    so_far = scores.cummax() if OBJECTIVES[search.objective] == "max" else scores.cummin()
    # Hyperband's trials are of different lengths, and a short one must not be taken for a bad one.
    by_length = scores.groupby(trials[EPOCHS] if search.tuner == "hyperband" else lambda trial: 0)
    shades = np.linspace(0.9, 0.45, len(by_length))[::-1]  # of one length: the darkest
    with drawn((7, 3.6), path) as figure:
        axis = figure.subplots()
        axis.step(so_far.index, so_far, where="post", color="0.6", label="best so far", zorder=1)
        for shade, marker, (length, some) in zip(shades, itertools.cycle("osv^D"), by_length):
            label, colour = f"{length} epochs" if length else "trial", matplotlib.colormaps["Blues"](shade)
            axis.scatter(some.index, some, s=30, color=colour, marker=marker, zorder=2, label=label)
        if START in scores:
            axis.axhline(scores.at[START], color=COLOURS[1], lw=1, ls="--", label="starting configuration")
        if failed := list(trials.index.difference(scores.index)):
            low = axis.get_ylim()[0]
            axis.plot(failed, [low] * len(failed), "x", color=COLOURS[4], label="failed", clip_on=False)
            axis.set_ylim(bottom=low)
        axis.set(xlabel="trial", ylabel=f"{search.objective}, validation films")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=6, fontsize=9, frameon=False)


def draw_parallel(trials: pd.DataFrame, search: Search, path: Path) -> None:
    """A line a trial through its values, the better the darker; the starting configuration is dashed.

    Args:
        trials: of `tuning.summary.table_of`.
        path: the PNG to write.
    """
    rising = OBJECTIVES[search.objective] == "max"
    scored = trials.dropna(subset=search.objective).sort_values(search.objective, ascending=rising, kind="stable")
    scores = scored[search.objective].astype(float)
    axes = spaces.declare(search.start, search.names).space
    if search.tuner == "hyperband":
        axes.append(Choice(EPOCHS, sorted(scored[EPOCHS].unique())))
    axes.append(Float(search.objective, scores.min(), scores.max()))
    places = np.column_stack([spaces.places(one, scored[one.name]) for one in axes])
    shades = np.linspace(1, 0.15, len(scored))[::-1]  # of one trial: the darkest
    # Names run down the page: there are many of them, and they are long.
    with drawn((8, 1.4 + 0.42 * len(axes)), path) as figure:
        axis = figure.subplots()
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        for height, one in enumerate(axes):
            axis.axhline(height, color="0.88", zorder=0)
            marks = [one.min_value, one.max_value] if isinstance(one, Float) else one.values
            for mark, place in zip(marks, spaces.places(one, marks)):
                label = f"{mark:.3g}" if isinstance(mark, float) else str(mark)
                axis.text(place, height - 0.14, label, ha="center", va="bottom", fontsize=7, zorder=4, bbox=box)
        for trial, line, shade in zip(scored.index, places, shades):  # the best is drawn last, on top
            style, width = "--" if trial == START else "-", 2.4 if shade == 1 else 1.2
            colour = matplotlib.colormaps["Blues"](shade)
            axis.plot(line, range(len(axes)), linestyle=style, linewidth=width, color=colour)
        axis.set_yticks(range(len(axes)), [one.name for one in axes], fontsize=8)
        axis.set(ylim=(len(axes) - 0.5, -0.7), xlim=(-0.06, 1.06), xticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title("a line a trial, the better the darker; dashed: the starting configuration", fontsize=9)


def draw_importance(weights: Importance, path: Path) -> None:
    """Bars of the importances, the greatest at the top.

    Args:
        weights: with shares.
        path: the PNG to write.
    """
    means, deviations = np.array(list(weights.shares.values())).T
    with drawn((7, 1.0 + 0.26 * len(means)), path) as figure:
        axis = figure.subplots()
        axis.barh(list(weights.shares), means, xerr=deviations, color=COLOURS[0], ecolor="0.4", height=0.65)
        axis.invert_yaxis()
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set_xlabel("drop of the forest's R² (mean ± SD of 30 shuffles)")
        axis.tick_params(axis="y", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
