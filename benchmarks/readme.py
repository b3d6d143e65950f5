"""The README's tables: that of a report, from its CSV files, and where any of them goes."""

import csv
import io
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.evaluation.metrics import METRICS
from mmfusion.files import write_atomically

NAME = "benchmark table"  # of its markers
COLUMNS = {metric.heading: metric.name for metric in METRICS if metric.in_readme}  # -> score in summary.csv


def table(folder: Path) -> str:
    """The README's table, from `summary.csv` and `gains.csv` in `folder`."""
    from mmfusion.reports.tables import UNDEFINED, markdown

    summary, gains = read_csv(folder / "summary.csv"), read_csv(folder / "gains.csv")
    cells = {(row["model"], row["metric"]): row for row in summary if not row["genre"]}
    over_all = {row["model"]: row for row in reversed(gains) if not row["genre"]}  # fusion's rows come first

    def cell(name, metric):
        row = cells[name, metric]
        deviation = f" ± {float(row['deviation']):.3f}" if row["deviation"] else ""
        return (f"{float(row['mean']):.3f}" if row["mean"] else UNDEFINED) + deviation

    rows = []
    for name in dict.fromkeys(row["model"] for row in summary):
        gain = over_all.get(name)
        said = UNDEFINED
        if gain and gain["gain"]:
            interval = "[{:+.3f}, {:+.3f}] ".format(float(gain["low"]), float(gain["high"])) if gain["low"] else ""
            said = f"{float(gain['gain']):+.3f} {interval}over {gain['over']}"
        rows.append([name, *(cell(name, metric) for metric in COLUMNS.values()), said])
    return markdown(["model", *COLUMNS, "gain in micro-AP"], rows)


def read_csv(file: Path) -> list[dict[str, str]]:
    """A dict a line, by column."""
    try:
        return list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error


def write_between(readme: Path, name: str, text: str) -> None:
    """Puts a table between the two markers of a README that have this name.

    Raises:
        UserError: the README cannot be read, or has no such markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    try:
        old = readme.read_text("utf-8")
    except OSError as error:
        raise UserError(f"cannot read {readme}: {error.strerror}") from error
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise UserError(f"{readme} must hold one line {begin} and, further down, one line {end}")
    before, after = old.split(begin)[0], old.split(end)[1]
    write_atomically(readme, f"{before}{begin}\n\n{text}\n\n{end}{after}")
