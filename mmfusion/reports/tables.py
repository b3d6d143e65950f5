"""Reports as Markdown tables, which read well on a screen too."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any

from mmfusion.evaluation.comparison import LEAST_P, Comparison, Gain
from mmfusion.evaluation.metrics import AVERAGES, columns

# Heading of a column -> where its number is in a report's `metrics`.
_OVERALL = {
    heading: tuple(filter(None, name.rpartition(".")[::2])) for heading, name in columns("overall", "f1").items()
}
_SCORES = {"precision": "precision", "recall": "recall", "F1": "f1"}
UNDEFINED = "–"


def gain_table(comparisons: Sequence[Comparison]) -> str:
    """Tables what models gain over others in micro-AP."""
    rows = []
    for one in comparisons:
        gain = one.micro
        interval = UNDEFINED if is_undefined(gain.low) else f"[{gain.low:+.3f}, {gain.high:+.3f}]"
        rows.append([one.name, one.over, number(gain.gain, "+.3f"), interval, _p(gain.p)])
    return markdown(["model", "over", "gain", "95% interval", "p"], rows)


def comparison_sentence(comparison: Comparison) -> str:
    """Says what a comparison shows, without a full stop."""
    gain = comparison.micro
    numbers = f"{signed(gain)}, p {'' if gain.p <= LEAST_P else '= '}{_p(gain.p)}"
    if gain.verdict:
        return f"**{comparison.name}** is {gain.verdict} than {comparison.over}: micro-AP {numbers}"
    return (
        f"**{comparison.name}** has no gain over {comparison.over} that these films can show, nor a loss: "
        f"micro-AP {numbers}"
    )


def signed(gain: Gain) -> str:
    """Writes a gain with its interval, "+0.021 [+0.010, +0.032]"."""
    return with_interval(gain.gain, gain.low, gain.high)


def with_interval(value: float | None, low: float, high: float) -> str:
    """Writes a difference with its interval, if that is defined."""
    return number(value, "+.3f") + ("" if is_undefined(low) else f" [{low:+.3f}, {high:+.3f}]")


def number(value: float | None, form: str = ".3f") -> str:
    """Writes a number; a dash where it is undefined."""
    return UNDEFINED if is_undefined(value) else format(value, form)


def is_undefined(value) -> bool:
    """Tells if a value is None, or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _p(p: float) -> str:
    return f"≤ {LEAST_P}" if p <= LEAST_P else number(p)


def overall_table(reports: Sequence[dict]) -> str:
    """A row a model, and first what the genres' frequencies alone would give."""
    rows = [["genre frequencies", *_numbers(reports[0]["frequencies"], _OVERALL.values())]]
    rows += [[r["name"], *_numbers(r["metrics"], _OVERALL.values())] for r in reports]
    return markdown(["model", *_OVERALL], rows)


def average_table(report: dict) -> str:
    """One model's averages at 0.5 and at the thresholds tuned on validation films."""
    heads = [f"{name} {at}" for at in ("at 0.5", "tuned") for name in _SCORES]
    rows = []
    for average in AVERAGES:
        keys = [(at, f"{key}_{average}") for at in ("at_0.5", "tuned") for key in _SCORES.values()]
        rows.append([average, *_numbers(report["metrics"], keys)])
    return markdown(["average", *heads], rows)


def genre_table(report: dict) -> str:
    """One model's scores by genre, the most frequent genre first; P, R and F1 at 0.5 and tuned."""
    heads = ["AP", "P at 0.5", "R at 0.5", "F1 at 0.5", "threshold", "P", "R", "F1"]
    keys = [("ap",), *(("at_0.5", key) for key in _SCORES.values())]
    keys += [("threshold",), *((key,) for key in _SCORES.values())]
    for modality in report["genres"][0].get("gates", ()):
        heads, keys = [*heads, f"gate {modality}"], [*keys, ("gates", modality)]
    rows = [[row["genre"], str(row["support"]), *_numbers(row, keys)] for row in by_frequency(report["genres"])]
    return markdown(["genre", "films", *heads], rows)


def comparison_table(reports: Sequence[dict]) -> str:
    """Average precision by genre, a column a model, beside that of a random order."""
    films = reports[0]["films"]
    columns = [{row["genre"]: row["ap"] for row in report["genres"]} for report in reports]
    rows = []
    for row in by_frequency(reports[0]["genres"]):
        chance = row["support"] / films if row["support"] else None
        scores = [column[row["genre"]] for column in columns]
        rows.append([row["genre"], str(row["support"]), number(chance), *map(number, scores)])
    return markdown(["AP by genre", "films", "random", *(report["name"] for report in reports)], rows)


def undefined_sentence(report: dict) -> str:
    """Names the genres that nothing can be said of; "" where there is none."""
    missing = [row["genre"] for row in report["genres"] if not row["support"]]
    if not missing:
        return ""
    return f"No film of these genres: {', '.join(missing)}. They are undefined and in no macro average."


def by_frequency(genres: Sequence[dict]) -> list[dict]:
    """A report's genre rows, those with most films first, equal ones in the data set's order."""
    return sorted(genres, key=lambda row: -row["support"])


def _numbers(values: Any, paths) -> list[str]:
    return [number(functools.reduce(operator.getitem, path, values)) for path in paths]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: names to the left, numbers to the right, columns in line."""
    header, *rows = ([cell.replace("|", "\\|") for cell in line] for line in (header, *rows))
    widths = [max(2, *map(len, column)) for column in zip(header, *rows)]  # as a rule needs

    def line(cells):
        first, *rest = cells
        aligned = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:]))]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *map(line, rows)])
