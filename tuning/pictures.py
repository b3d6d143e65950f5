"""Pictures of a search."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from mmfusion.reports.figures import COLOURS, drawn
from tuning import OBJECTIVES
from tuning.importance import Importance
from tuning.oracles import EPOCHS
from tuning.records import START

_MARKERS = "osv^D"


def draw_scores(found, search, path: Path) -> None:
    """The score of each trial in the order of their numbers, and the best so far.

    Args:
        found: `tuning.summary.Row`s.
        search: a `tuning.search.Search`.
        path: the PNG to write.
    """
    scored = [row for row in found if row.score is not None]
    failed = [row.number for row in found if row.score is None]
    running = np.maximum if OBJECTIVES[search.objective] == "max" else np.minimum
    numbers, scores = [row.number for row in scored], [row.score for row in scored]
    with drawn((7, 3.6), path) as figure:
        axis = figure.subplots()
        axis.step(numbers, running.accumulate(scores), where="post", color="0.6", label="best so far", zorder=1)
        # Hyperband's trials are of different lengths, and a short one must not be taken for a bad one.
        lengths = sorted({row.values.get(EPOCHS) for row in scored})
        shades = matplotlib.colormaps["Blues"](np.linspace(0.45, 0.9, len(lengths)) if len(lengths) > 1 else [0.8])
        for colour, marker, length in zip(shades, itertools.cycle(_MARKERS), lengths):
            of_length = [row for row in scored if row.values.get(EPOCHS) == length]
            label = "trial" if length is None else f"{length} epochs"
            places = [row.number for row in of_length], [row.score for row in of_length]
            axis.scatter(*places, color=colour, marker=marker, s=30, label=label, zorder=2)
        start = next((row for row in scored if row.number == START), None)
        if start:
            axis.axhline(start.score, color=COLOURS[1], linewidth=1, linestyle="--", label="starting configuration")
        if failed:
            low = axis.get_ylim()[0]
            axis.plot(failed, [low] * len(failed), "x", color=COLOURS[4], label="failed", clip_on=False)
            axis.set_ylim(bottom=low)
        axis.set_xlabel("trial")
        axis.set_ylabel(f"{search.objective}, validation films")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=6, fontsize=9, frameon=False)


def draw_parallel(found, search, path: Path) -> None:
    """A line a trial through its values, the better the darker; the starting configuration is dashed.

    Args:
        found: `tuning.summary.Row`s.
        search: a `tuning.search.Search`.
        path: the PNG to write.
    """
    scored = [row for row in found if row.score is not None]
    sign = 1 if OBJECTIVES[search.objective] == "max" else -1
    scored.sort(key=lambda row: sign * row.score)  # the best is drawn last, on top
    axes = [*search.names, *([EPOCHS] if search.tuner == "hyperband" else []), search.objective]
    places, ticks = zip(*(_places([_value(row, name, search) for row in scored]) for name in axes))
    # Names run down the page: there are many of them, and they are long.
    with drawn((8, 1.4 + 0.42 * len(axes)), path) as figure:
        axis = figure.subplots()
        heights = np.arange(len(axes))
        for height, marks in enumerate(ticks):
            axis.axhline(height, color="0.88", zorder=0)
            for x, label in marks:
                box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
                axis.text(x, height - 0.14, label, ha="center", va="bottom", fontsize=7, zorder=4, bbox=box)
        ranks = np.linspace(0.15, 1.0, len(scored)) if len(scored) > 1 else np.ones(1)
        lines = LineCollection(
            [np.column_stack([[column[i] for column in places], heights]) for i in range(len(scored))],
            colors=matplotlib.colormaps["Blues"](ranks),
            linestyles=["--" if row.number == START else "-" for row in scored],
            linewidths=np.where(ranks == 1.0, 2.4, 1.2),
        )
        axis.add_collection(lines)
        axis.set_yticks(heights, axes, fontsize=8)
        axis.set_ylim(len(axes) - 0.5, -0.7)
        axis.set_xlim(-0.06, 1.06)
        axis.set_xticks([])
        axis.spines[:].set_visible(False)
        axis.set_title("a line a trial, the better the darker; dashed: the starting configuration", fontsize=9)


def draw_importance(weights: Importance, path: Path) -> None:
    """Bars of the importances, the greatest at the top.

    Args:
        weights: with shares.
        path: the PNG to write.
    """
    names = list(weights.shares)
    means, deviations = np.array(list(weights.shares.values())).T
    with drawn((7, 1.0 + 0.26 * len(names)), path) as figure:
        axis = figure.subplots()
        axis.barh(names, means, xerr=deviations, color=COLOURS[0], ecolor="0.4", height=0.65)
        axis.invert_yaxis()
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set_xlabel("drop of the forest's R² (mean ± SD of 30 shuffles)")
        axis.tick_params(axis="y", labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)


def _value(row, name: str, search):
    return row.score if name == search.objective else row.values[name]


def _places(values: list) -> tuple[list[float], list[tuple[float, str]]]:
    """Places each value from 0 to 1, with the marks of its axis."""
    different = {str(value): value for value in values}
    if any(not isinstance(value, float) for value in values) or len(different) <= 4:
        order = sorted(different.values(), key=lambda v: (sum(v), v) if isinstance(v, list) else v)
        step = 1 / max(len(order) - 1, 1)
        at = {str(value): number * step for number, value in enumerate(order)}
        return [at[str(value)] for value in values], [(at[name], name) for name in map(str, order)]
    low, high = min(values), max(values)
    scale = np.log if low > 0 and high / low > 20 else np.asarray
    low_at, high_at = scale(low), scale(high)
    return (
        [float((scale(value) - low_at) / (high_at - low_at)) for value in values],
        [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")],
    )
