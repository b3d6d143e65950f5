"""Scores as one long table: a row a score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "encoders", "split_seed", "seed", "split", "metric", "genre", "value")


def long_frame(reports: Iterable[dict]) -> pd.DataFrame:
    """Makes the long table of some runs' reports.

    Args:
        reports: as `report.json` has them.

    Returns:
        Columns `COLUMNS`; `metric` by its dotted name, such as "tuned.f1_macro", `genre` "" for a score of all, and
        `value` NaN where a score is undefined.
    """
    import pandas as pd

    return pd.DataFrame(
        [(*_run(report), *score) for report in reports for score in _scores(report)], columns=list(COLUMNS)
    ).astype({"value": float})


def _run(report: dict) -> tuple:
    encoders = " + ".join(report["encoders"].values())
    return report["name"], encoders, report["split_seed"], report["seed"], report["split"]


def _scores(report: dict) -> Iterator[tuple[str, str, float | None]]:
    for name, value in report["metrics"].items():
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        yield from ((f"{name}.{key}" if key else name, "", score) for key, score in inner)
    for row in report["genres"]:
        yield from (("ap", row["genre"], row["ap"]), ("f1", row["genre"], row["f1"]))
