"""Pictures of numbers: training curves and scores by genre."""

import contextlib
import functools
import io
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.ticker import MaxNLocator

from mmfusion.files import write_atomically

# Okabe and Ito's colours can be told apart by the colour-blind; markers tell them apart in print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
_MARKERS = "osD^vPX"
# For overviews in other scripts than matplotlib's own font has, where one of these is installed.
_OTHER_SCRIPTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans Arabic",
    "PingFang SC",
    "Microsoft YaHei",
    "Arial Unicode MS",
)


@contextlib.contextmanager
def drawn(
    size: tuple[float, float], *paths: Path, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """Gives a figure to draw on, and writes it at the end of the block; the same drawing gives the same bytes.

    The style holds in the block only, and no window or notebook is asked for: the caller's own figures stay as
    they are. A character that no installed font has is drawn as a box.

    Args:
        size: width and height in inches.
        paths: the files to write, each in the format that its ending names.
        layout: of matplotlib.

    Raises:
        UserError: a file cannot be written.
    """
    with matplotlib.style.context(["default", _style()]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # one for every character
        figure = Figure(figsize=size, layout=layout)
        yield figure
        for path in paths:
            write_atomically(path, rendered(figure, path.suffix[1:]))


def rendered(figure: Figure, form: str) -> memoryview:
    """Gives the content of a picture's file in the format of this name."""
    picture = io.BytesIO()
    figure.savefig(picture, format=form, dpi=150, metadata={"Date": None} if form == "svg" else {})
    return picture.getbuffer()


@functools.cache
def _style() -> dict:
    return {
        "text.parse_math": False,  # a genre's or a model's name is no formula
        "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in get_font_names())],
        "svg.hashsalt": "mmfusion",  # else the names inside a file are random
    }


def legend_columns(names: Iterable[str]) -> int:
    """Columns of a legend of these names above a picture of 8 inches."""
    return max(1, 90 // (8 + max(map(len, names))))


def draw_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Loss, precision and recall of training and validation films against the epoch, a row a model.

    Args:
        histories: by model, a dict an epoch, as in `history.csv`.
        path: the PNG to write.
    """
    names = ("loss", "precision", "recall")
    with drawn((11, 3.1 * len(histories)), path) as figure:
        axes = figure.subplots(len(histories), 3, squeeze=False)
        for row, (model, history) in zip(axes, histories.items()):
            epochs = [epoch["epoch"] for epoch in history]
            best = int(np.argmin([epoch["val_loss"] for epoch in history]))
            for axis, name in zip(row, names):
                for prefix, label, style in (("", "training", "--"), ("val_", "validation", "-")):
                    values = [epoch[prefix + name] for epoch in history]
                    colour = COLOURS[0 if prefix else 1]
                    axis.plot(epochs, values, style, color=colour, label=label, marker="." * (len(epochs) == 1))
                axis.axvline(epochs[best], color="0.6", linewidth=1, label="epoch kept")
                axis.set_xlabel("epoch")
                what = "binary cross-entropy" if name == "loss" else name
                axis.set_title(f"{textwrap.fill(model, 40)}\n{what}", fontsize=10)
                axis.grid(color="0.92")
                if name != "loss":
                    axis.set_ylim(0, 1)
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            row[0].legend(fontsize=8)


def draw_genres(
    genres: Sequence[str],
    shares: Sequence[float],
    scores: Mapping[str, Sequence[float | None]],
    path: Path,
) -> None:
    """Average precision by genre, a mark a model; the cross is what guessing would give.

    Args:
        genres: the names, in the order to be drawn in, from the top.
        shares: the share of films of each genre, which is the average precision of a random order.
        scores: by model, the average precision of each genre.
        path: the PNG to write.
    """
    size = (8, 1.2 + (0.26 + 0.06 * len(scores)) * len(genres))
    with drawn(size, path) as figure:
        axis = figure.subplots()
        places = np.arange(len(genres))
        apart = 0.5 / max(len(scores), 2)  # models one below the other, so that equal scores do not hide
        for place in range(len(genres)):
            axis.axhline(place, color="0.92", zorder=0)
        axis.plot(shares, places, "x", color="0.45", label="random order", markersize=6)
        for number, (model, values) in enumerate(scores.items()):
            axis.plot(
                np.array(values, float),
                places + apart * (number - (len(scores) - 1) / 2),
                _MARKERS[number % len(_MARKERS)],
                color=COLOURS[number % len(COLOURS)],
                label=model,
                markersize=6,
                alpha=0.9,
            )
        axis.set_yticks(places, genres)
        axis.invert_yaxis()
        axis.set_xlim(0, 1.02)
        axis.set_xlabel("average precision")
        axis.spines[["top", "right", "left"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=legend_columns(scores), fontsize=9, frameon=False)
