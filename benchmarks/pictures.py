"""The benchmark's figures, each as PNG and SVG with its numbers in a CSV beside it."""

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve

from benchmarks.collect import Results
from benchmarks.findings import Analysis, Model
from benchmarks.missing import SHARES
from benchmarks.sheets import frame, write_frame
from mmfusion.evaluation.comparison import MICRO
from mmfusion.reports.figures import COLOURS, drawn, legend_columns
from mmfusion.schema import PLURAL

_ALL = "all (micro)"
_RECALLS = np.linspace(0.01, 1, 100)  # where curves are drawn
_DASHES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))  # baselines are told apart by these, networks by colour


def draw_pictures(analysis: Analysis, results: Results, folder: Path) -> dict[str, str]:
    """Draws all of them.

    Args:
        analysis: all numbers.
        results: the runs, for the curves.
        folder: where to write.

    Returns:
        Captions by file name, in the order in which they should be read.
    """
    networks = sorted((m for m in analysis.models.values() if not m.is_baseline), key=lambda m: m.modalities)
    captions = {}
    for name, caption, draw in (
        (
            "precision_recall",
            "Precision against recall over all predictions of all seeds; solid lines are networks, the others "
            "baselines. In brackets the mean micro-AP.",
            lambda path: _precision_recall(analysis, results, path),
        ),
        (
            "genres",
            "Average precision by genre, the most frequent at the top, with 95% intervals over films where a "
            "genre has enough of them; the line across a genre is what a random order would give.",
            lambda path: _genres(analysis, networks, path),
        ),
        (
            "gains",
            "Gain in average precision over the better model of one modality, by genre, with 95% intervals over "
            "films; filled marks are gains or losses that these films show.",
            lambda path: _gains(analysis, path),
        ),
        (
            "missing",
            "Micro-AP where a share of the test films has no poster (left) or no overview (right), the mean over "
            "seeds. The floor is the best without fusion on what is left. Filled marks: above or below "
            "it, by a 95% interval of paired draws of the films.",
            lambda path: _missing(analysis, path),
        ),
        ("heat_map", "Average precision by genre and model.", lambda path: _heat_map(analysis, path)),
        (
            "reliability",
            "How often predictions of a probability are true, all seeds together; on the diagonal a model is "
            "calibrated. The larger a mark, the more predictions.",
            lambda path: _reliability(analysis, path),
        ),
    ):
        if draw(folder / name):
            captions[f"{name}.png"] = caption
    return captions


def _drawn(path: Path, size: tuple[float, float]):
    return drawn(size, path.with_suffix(".png"), path.with_suffix(".svg"))


def _with_numbers(path: Path, header: Sequence[str], rows) -> bool:
    write_frame(frame(header, rows), path.with_suffix(".csv"))
    return True


def _precision_recall(analysis: Analysis, results: Results, path: Path) -> bool:
    if not any(analysis.support.values()):
        return False
    with _drawn(path, (7, 5)) as figure:
        axis = figure.subplots()
        networks, baselines, rows = 0, 0, []
        for name, model in analysis.models.items():
            tests = [result.test for result in results[name].values()]
            truth = np.concatenate([test.y_true.ravel() for test in tests])
            if not truth.any():
                continue
            found = precision_recall_curve(truth, np.concatenate([test.y_prob.ravel() for test in tests]))
            # At the highest threshold that reaches this recall; both arrays start with the lowest.
            precision = found[0][::-1][np.searchsorted(found[1][::-1], _RECALLS)]
            if model.is_baseline:
                style = {"color": "0.35", "linestyle": _DASHES[baselines % len(_DASHES)], "linewidth": 1.3}
                baselines += 1
            else:
                style = {"color": COLOURS[networks % len(COLOURS)], "linewidth": 1.8}
                networks += 1
            axis.plot(_RECALLS, precision, label=f"{name} ({model.scores[MICRO].mean:.3f})", **style)
            rows += [(name, f"{recall:.2f}", value) for recall, value in zip(_RECALLS, precision, strict=True)]
        axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axis.grid(color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=9, frameon=False)
    return _with_numbers(path, ["model", "recall", "precision"], rows)


def _genres(analysis: Analysis, networks: list[Model], path: Path) -> bool:
    genres = [genre for genre in analysis.genres if analysis.support[genre]]
    if not networks or not genres:
        return False
    height = 0.8 / len(networks)
    with _drawn(path, (8, 1.3 + 0.16 * len(genres) * (len(networks) + 1))) as figure:
        axis = figure.subplots()
        places, rows = np.arange(len(genres)), []
        for number, model in enumerate(networks):
            scores = [model.genres[genre] for genre in genres]
            means = np.array([np.nan if score.mean is None else score.mean for score in scores])
            low, high = np.array([(score.low, score.high) for score in scores], float).T  # NaN where there is none
            at = places + height * (number - (len(networks) - 1) / 2)
            colour = COLOURS[number % len(COLOURS)]
            axis.barh(at, means, height, color=colour, edgecolor="white", linewidth=0.3, label=model.name)
            axis.hlines(at, low, high, color="0.25", linewidth=0.8)
            rows += [
                (model.name, genre, analysis.support[genre], *values)
                for genre, *values in zip(genres, means.tolist(), low.tolist(), high.tolist(), strict=True)
            ]
        shares = [analysis.support[genre] / statistics.fmean(analysis.films["test"]) for genre in genres]
        axis.vlines(shares, places - 0.44, places + 0.44, color="black", linewidth=1, label="random order")
        axis.set_yticks(places, genres)
        axis.set_ylim(len(genres) - 0.5, -0.5)
        axis.set_xlim(0, 1.02)
        axis.set_xlabel("average precision")
        axis.grid(axis="x", color="0.92")
        axis.set_axisbelow(True)
        axis.spines[["top", "right", "left"]].set_visible(False)
        columns = legend_columns(model.name for model in networks)
        figure.legend(loc="outside upper center", ncols=columns, fontsize=9, frameon=False)
    return _with_numbers(path, ["model", "genre", "films", "ap", "low", "high"], rows)


def _gains(analysis: Analysis, path: Path) -> bool:
    fusion = [one for one in analysis.fusion if one.genres]
    if not fusion:
        return False
    lines = [_ALL, *(genre for genre in analysis.genres if any(genre in one.genres for one in fusion))]
    with _drawn(path, (1.2 + 2.6 * len(fusion), 1.4 + 0.24 * len(lines))) as figure:
        axes = figure.subplots(1, len(fusion), sharex=True, sharey=True, squeeze=False)
        rows = []
        for axis, one in zip(axes[0], fusion, strict=True):
            gains = {_ALL: one.micro, **one.genres}
            axis.axvline(0, color="0.5", linewidth=0.8)
            for place, genre in enumerate(lines):
                if (gain := gains.get(genre)) is None:
                    continue
                colour = {"better": COLOURS[0], "worse": COLOURS[4], "": "0.45"}[gain.verdict]
                axis.plot(
                    [gain.low, gain.high], [place, place], color=colour, linewidth=1.4
                )  # none where it is NaN
                axis.plot(gain.gain, place, "o", color=colour, markerfacecolor=colour if gain.verdict else "white")
                p = gain.p if gain.p_holm is None else gain.p_holm
                rows.append((one.name, one.over, genre, gain.gain, gain.low, gain.high, p, gain.verdict))
            axis.set_title(f"{textwrap.fill(one.name, 30)}\n{textwrap.fill(f'over {one.over}', 30)}", fontsize=10)
            axis.set_yticks(range(len(lines)), lines)
            axis.set_ylim(len(lines) - 0.4, -0.6)
            axis.grid(axis="x", color="0.92")
            axis.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("gain in average precision", fontsize=10)
    return _with_numbers(path, ["model", "over", "genre", "gain", "low", "high", "p", "verdict"], rows)


def _missing(analysis: Analysis, path: Path) -> bool:
    if not analysis.missing:
        return False
    with _drawn(path, (3 + 3 * len(analysis.missing), 4.2)) as figure:
        axes = figure.subplots(1, len(analysis.missing), sharey=True, squeeze=False)[0]
        networks = [name for name, model in analysis.models.items() if not model.is_baseline]
        percent, rows = 100 * np.array(SHARES), []
        for axis, one in zip(axes, analysis.missing, strict=True):
            if None not in one.floor:  # broad and pale: a model of one modality lies on it
                axis.plot(percent, one.floor, color="0.8", linewidth=4, label="floor", solid_capstyle="butt")
                rows += [(one.modality, "floor", *pair, *[None] * 4) for pair in zip(SHARES, one.floor)]
            for name in [
                name for name in networks if name in one.scores
            ]:  # without switches, which are in the floor
                scores = one.scores[name]
                colour = COLOURS[networks.index(name) % len(COLOURS)]
                means = [score.mean for score in scores]
                margins = one.margins.get(name, [None] * len(SHARES))
                style = (
                    {"linewidth": 1.8} if analysis.models[name].modalities > 1 else {"linewidth": 1.2, "ls": ":"}
                )
                axis.plot(percent, means, color=colour, label=name, **style)
                for x, y, margin in zip(percent, means, margins):
                    if margin is not None:
                        axis.plot(x, y, "o", color=colour, markerfacecolor=colour if margin.is_shown else "white")
                rows += [
                    (one.modality, name, share, mean, *(vars(margin).values() if margin else [None] * 4))
                    for share, mean, margin in zip(SHARES, means, margins)
                ]
            axis.set_title(f"{PLURAL[one.modality]} missing", fontsize=10)
            axis.set(xlabel="share of the films, %", xticks=percent)
            axis.grid(color="0.92")
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylabel("micro-AP")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9, frameon=False)
    return _with_numbers(path, ["missing", "model", "share", "ap", "over", "difference", "low", "high"], rows)


def _heat_map(analysis: Analysis, path: Path) -> bool:
    genres = [genre for genre in analysis.genres if analysis.support[genre]]
    models = list(analysis.models.values())
    if not genres:
        return False
    values = np.array([[m.genres[genre].mean for m in models] for genre in genres], float)  # (G, models)
    with _drawn(path, (2 + 0.8 * len(models), 1.3 + 0.28 * len(genres))) as figure:
        axis = figure.subplots()
        image = axis.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < 0.55 else "black"
                axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(models)), [m.name for m in models], rotation=35, ha="right")
        axis.set_yticks(range(len(genres)), genres)
        axis.tick_params(length=0)
        figure.colorbar(image, label="average precision", shrink=0.6)
        rows = [
            (model.name, genre, value)
            for genre, line in zip(genres, values.tolist(), strict=True)
            for model, value in zip(models, line, strict=True)
        ]
    return _with_numbers(path, ["model", "genre", "ap"], rows)


def _reliability(analysis: Analysis, path: Path) -> bool:
    models = list(analysis.models.values())
    columns = min(5, len(models))
    lines = -(-len(models) // columns)
    with _drawn(path, (2.2 * columns, 2.6 * lines + 0.3)) as figure:
        axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        rows = []
        for axis in axes.flat[len(models) :]:
            axis.axis("off")
        for axis, model in zip(axes.flat, models):
            bins = model.reliability
            axis.plot([0, 1], [0, 1], color="0.6", linewidth=0.8)
            axis.plot(bins.predicted, bins.observed, "-", color=COLOURS[0], linewidth=1)
            sizes = 6 + 90 * np.sqrt(bins.count / bins.count.max())
            axis.scatter(bins.predicted, bins.observed, sizes, color=COLOURS[0], alpha=0.75, linewidths=0)
            axis.set_title(f"{textwrap.fill(model.name, 30)}\nECE {model.scores['ece'].mean:.3f}", fontsize=9)
            axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
            axis.spines[["top", "right"]].set_visible(False)
            triples = zip(bins.predicted.tolist(), bins.observed.tolist(), bins.count.tolist(), strict=True)
            rows += [(model.name, *triple) for triple in triples]
        figure.supxlabel("predicted probability", fontsize=10)
        figure.supylabel("share that is true", fontsize=10)
    return _with_numbers(path, ["model", "predicted", "observed", "predictions"], rows)
