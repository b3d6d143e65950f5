"""`python -m benchmarks.tuned`: what tuning brought, from the runs of the default and of the tuned settings."""

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import readme
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.startup import begin_command

NAME = "tuned table"  # of its markers in a README
FILE = "tuned.csv"
DRAWS, SEED = 1000, 0
# Column of the CSV file -> (of which films, by which of a result's scores).
SCORES = {
    "validation_ap_micro": ("validation", "ap_micro"),
    "test_ap_micro": ("test", "ap_micro"),
    "test_ap_macro": ("test", "ap_macro"),
    "test_bce": ("test", "bce"),
}


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.tuned", description=__doc__)
    p.add_argument("default", type=Path, metavar="DEFAULT_DIR", help="the --out of benchmarks.run")
    p.add_argument("tuned", type=Path, metavar="TUNED_DIR", help="that of benchmarks.run --config-dir")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"for {FILE}")
    p.add_argument("--readme", type=Path, metavar="FILE", help="also put the table between this file's two markers")
    return p


def main() -> None:
    """Reads, scores, writes and prints."""
    args = parser().parse_args()
    begin_command()
    from benchmarks.collect import collect

    default, tuned = (collect(folder)[0] for folder in (args.default, args.tuned))
    rows = []
    for name, of_seed in tuned.items():
        if any(result.is_baseline for result in of_seed.values()):
            continue
        missing = [str(seed) for seed in of_seed if seed not in default.get(name, {})]
        if missing:
            raise UserError(f"{args.default} has no run of {name} with seed {', '.join(missing)}")
        rows += _rows(name, [(default[name][seed], result) for seed, result in of_seed.items()])
    if not rows:
        raise UserError(f"{args.tuned} holds no variant's run")
    make_folder(args.out)
    columns = list(rows[0])
    lines = [",".join(columns), *(",".join(str(row[column]) for column in columns) for row in rows)]
    write_atomically(args.out / FILE, "\n".join(lines) + "\n")
    text = table(args.out)
    if args.readme:
        readme.write_between(args.readme, NAME, text)
    print(text)


def _rows(name: str, pairs: Sequence[tuple]) -> list[dict]:
    """One a seed, and one with the means and the interval of the gain in micro-AP."""
    import numpy as np

    from mmfusion.evaluation import metrics, resampling

    rows, drawn = [], []
    ids = sorted({film for one, _ in pairs for film in one.test.ids})
    number = {film: place for place, film in enumerate(ids)}
    weights = resampling.draw_films(len(ids), DRAWS, SEED)
    for default, tuned in pairs:
        if (default.test.ids, default.validation.ids) != (tuned.test.ids, tuned.validation.ids):
            raise UserError(f"{tuned.run.folder} was scored on other films than {default.run.folder}")
        row = {"model": name, "seed": tuned.seed}
        draws = weights[:, [number[film] for film in tuned.test.ids]]
        gains = []
        for what, result in (("default", default), ("tuned", tuned)):
            for column, (split, score) in SCORES.items():
                found = getattr(result, split)
                row[f"{column}_{what}"] = metrics.overall(found.y_true, found.y_prob, result.thresholds)[score]
            gains.append(resampling.weighted_average_precision(result.test.y_true, result.test.y_prob, draws))
        rows.append({**row, "gain": row["test_ap_micro_tuned"] - row["test_ap_micro_default"]})
        drawn.append(gains[1] - gains[0])
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key not in ("model", "seed")}
    low, high = resampling.interval(resampling.mean_over_seeds(drawn), means["gain"])
    rows = [{**row, "low": "", "high": ""} for row in rows]
    return [*rows, {"model": name, "seed": "mean", **means, "low": low, "high": high}]


def table(folder: Path) -> str:
    """The README's table, from `tuned.csv` in `folder`."""
    from mmfusion.reports.tables import markdown

    rows = readme.read_csv(folder / FILE)
    lines = []
    for mean in (row for row in rows if row["seed"] == "mean"):
        of_seeds = [row for row in rows if row["model"] == mean["model"] and row["seed"] != "mean"]
        scores = [f"{_said(mean, f'{column}_default')} → {_said(mean, f'{column}_tuned')}" for column in SCORES]
        gain = f"{float(mean['gain']):+.3f} [{float(mean['low']):+.3f}, {float(mean['high']):+.3f}]"
        each = ", ".join(f"{float(row['gain']):+.3f}" for row in of_seeds)
        lines.append([mean["model"], *scores, gain, each])
    heads = ["validation micro-AP", "test micro-AP", "test macro-AP", "test BCE"]
    return markdown(["default → tuned", *heads, "gain in test micro-AP", "by seed"], lines)


def _said(row: dict, column: str) -> str:
    return f"{float(row[column]):.3f}"


if __name__ == "__main__":
    sys.exit(run_command(main))
