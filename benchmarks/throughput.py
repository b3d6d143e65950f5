"""`python -m benchmarks.throughput`: how fast the product is, beside a plain Keras notebook.

With --data-dir the two take turns on the same films, question by question, so that a machine whose
speed drifts does so for both. With --film-count the product alone is timed on more and more synthetic films.
"""

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.sides import PlainNotebook, Product, Worker
from mmfusion.config import recipe_names, resolve
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.startup import begin_command

NAMES = ("mmfusion", "notebook")
NOTEBOOKS = (POSTER, OVERVIEW)  # a plain notebook has the report's two models
VARIANTS = ("poster", "overview", "early", "joint", "late")


@dataclass
class Row:
    """One question and each side's answers; seconds unless the unit says otherwise."""

    name: str
    unit: str = "s"
    answers: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    flops: dict[str, float] = field(default_factory=dict)

    def median(self, side: str) -> float | None:
        return statistics.median(self.answers[side]) if self.answers[side] else None

    def share_of_peak(self, side: str, peak: float) -> float | None:
        """Of the matrix product's floating-point operations a second, how much this work reaches."""
        median = self.median(side)
        return self.flops[side] / median / peak if median and side in self.flops else None

    @property
    def ratio(self) -> float | None:
        """Ratio by which the product is better."""
        product, notebook = map(self.median, NAMES)
        if product is None or notebook is None:
            return None
        return product / notebook if self.unit == "films/s" else notebook / product


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.throughput", description=(__doc__ or "").split("\n\n")[-1])
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--data-dir", type=Path, metavar="DIR", help="real films, and the notebook beside")
    which.add_argument("--film-count", type=int, nargs="+", metavar="N", help="so many synthetic films")
    which.add_argument("--films", nargs="+", help=argparse.SUPPRESS)  # what --film-count was called
    p.add_argument("--recipe", choices=recipe_names(), help="with --film-count, the product's (default: report)")
    p.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help="default: all")
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="answers to each question (default: 3)")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="for throughput.csv and throughput.md")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    p.add_argument("--rehash", action="store_true", help="read films anew whose files look unchanged")
    return p


def main() -> None:
    """Times everything, then prints and writes the table."""
    args = parser().parse_args()
    if args.repeats < 1:
        raise UserError("--repeats must be at least 1")
    if args.films:
        raise UserError("--films: the number of synthetic films is --film-count now")
    if args.data_dir and args.recipe:
        raise UserError("--recipe goes with --film-count; beside the notebook it is report, which has its layers")
    args.recipe = args.recipe or "report"
    cache = begin_command(args.cache_dir)
    if args.rehash:
        forget(cache)
    make_folder(args.out)
    tables, lines = [], []
    for data in _data(args):
        rows, about = _time(args, data, cache)
        tables.append(_markdown(rows, about))
        lines += _lines(rows, about)
        print(f"\n{tables[-1]}", flush=True)
        _write(args.out, tables, lines)  # now, so that a size that is too large costs only itself
    print(f"\nThe tables are in {args.out / 'throughput.md'} and throughput.csv there")


def _write(folder: Path, tables: list[str], lines: list[dict]) -> None:
    write_atomically(folder / "throughput.md", "\n\n".join(tables) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(folder / "throughput.csv", text.getvalue())


def _data(args: argparse.Namespace) -> list[dict]:
    """Gives what to time on, as overrides of the recipe."""
    if args.film_count:
        return [{"data.dataset": "synthetic", "data.films": films} for films in args.film_count]
    return [{"data.dataset": "multimodal_imdb", "data.data_dir": str(args.data_dir.resolve())}]


def _time(args: argparse.Namespace, data: dict, cache: Path) -> tuple[list[Row], dict]:
    folder = Path(data["data.data_dir"]) if args.data_dir else None
    _say("starting")
    sides = {"mmfusion": Worker(Product, args.recipe, data, cache)}
    if folder:
        sides["notebook"] = Worker(PlainNotebook, folder)
    split = sides["mmfusion"].ask("films")
    films = sum(split.values())
    peak = sides["mmfusion"].ask("matmul_peak")
    about = {"films": films, "training films": split["train"], "recipe": args.recipe, "peak": peak}
    rows = []

    def timed(name: str, question: str, *of, who=NAMES) -> Row:
        row = Row(name)
        for _ in range(args.repeats):
            for side in who:
                if side in sides:
                    row.answers[side].append(sides[side].ask(question, *of))
                    _say(f"{name}: {side} {row.answers[side][-1]:.2f} s")
        rows.append(row)
        return row

    cold = timed("cold preparation", "cold")
    cold.unit = "films/s"
    cold.answers = {side: [films / seconds for seconds in answers] for side, answers in cold.answers.items()}
    timed("an epoch's input alone, prepared", "input")
    variants = [variant for variant in VARIANTS if variant in args.variants]
    by_variant = {}
    for variant in variants:
        who = NAMES if variant in NOTEBOOKS else NAMES[:1]  # a notebook has the report's two models
        for side in who:
            if side in sides:
                sides[side].ask("warm_up", variant)
        config = resolve(variant, recipe=args.recipe)
        name = f"{config.label}: {'fitting a stacked combiner' if config.parts else 'training epoch'}"
        by_variant[variant] = row = timed(name, "epoch", variant, who=who)
        if not config.parts:
            row.flops = {side: sides[side].ask("flops", variant) for side in who if side in sides}
    if folder and {*NOTEBOOKS, "joint"} <= set(variants):
        _one_after_the_other(by_variant)
    for variant in variants:
        who = NAMES if variant in NOTEBOOKS else NAMES[:1]
        label = resolve(variant, recipe=args.recipe).label
        timed(f"{label}: predicting {films - split['train']:,} films", "predict", variant, who=who)
    memory = Row("posters, ready for training", "MB")
    memory.answers |= {side: [worker.ask("poster_bytes") / 1e6] for side, worker in sides.items()}
    rows.append(memory)
    for worker in sides.values():
        worker.close()
    return [*rows, *_fresh(args, data, cache)], about


def _one_after_the_other(rows: dict[str, Row]) -> None:
    """For joint fusion the notebook's two models: it has no fusion, and fusing them takes both."""
    parts = [rows[part] for part in NOTEBOOKS]
    rows["joint"].answers["notebook"] = [sum(pair) for pair in zip(*[row.answers["notebook"] for row in parts])]
    rows["joint"].flops["notebook"] = sum(row.flops["notebook"] for row in parts)


def _fresh(args: argparse.Namespace, data: dict, cache: Path) -> list[Row]:
    """Measures what only a process of its own tells: the way to the first step, and the most memory it took."""
    rows = []
    sides = NAMES if args.data_dir else NAMES[:1]
    for variant in [one for one in VARIANTS if one in (*NOTEBOOKS, "joint") and one in args.variants]:
        label = resolve(variant, recipe=args.recipe).label
        first, memory = Row(f"{label}: command to first training step"), Row(f"{label}: memory", "MB")
        for _ in range(args.repeats):
            for name in sides if variant in NOTEBOOKS else NAMES[:1]:
                start = time.time()
                answer = _ask_fresh(name, variant, args.recipe, json.dumps(data), str(cache))
                first.answers[name].append(answer["first_step"] - start)
                memory.answers[name].append(answer["memory"] / 1e6)
                _say(f"{first.name}: {name} {first.answers[name][-1]:.2f} s")
        rows += [first, memory]
    helped = Row("python -m mmfusion.train --help")
    for _ in range(args.repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmfusion.train", "--help"], capture_output=True, check=True)
        helped.answers["mmfusion"].append(time.perf_counter() - start)
    return [*rows, helped]


def _ask_fresh(*flags: str) -> dict:
    done = subprocess.run([sys.executable, "-m", "benchmarks.fresh", *flags], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"a process of its own for {flags[0]} {flags[1]} ended with: {last}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _say(what: str) -> None:
    """Tells where it stands, for whoever waits."""
    print(f"  {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _lines(rows: list[Row], about: dict) -> list[dict]:
    """The CSV: a side of a row a line."""
    lines = []
    for row in rows:
        for side, answers in row.answers.items():
            if not answers:
                continue
            share, ratio = row.share_of_peak(side, about["peak"]), row.ratio
            lines.append(
                {
                    "films": about["films"],
                    "recipe": about["recipe"],
                    "row": row.name,
                    "side": side,
                    "unit": row.unit,
                    "median": f"{row.median(side):.4f}",
                    "lowest": f"{min(answers):.4f}",
                    "highest": f"{max(answers):.4f}",
                    "answers": len(answers),
                    "times_better": f"{ratio:.2f}" if ratio and side == "mmfusion" else "",
                    "share_of_peak": "" if share is None else f"{share:.3f}",
                }
            )
    return lines


def _markdown(rows: list[Row], about: dict) -> str:
    both = any(row.answers["notebook"] for row in rows)
    repeats = max(len(answers) for row in rows for answers in row.answers.values())
    head = ["", "mmfusion", *(["notebook", "times better"] if both else []), "share of peak"]
    lines = [
        f"{about['films']:,} films, {about['training films']:,} of them for training; recipe `{about['recipe']}`; "
        f"{os.cpu_count()} cores; float32 matrix products reach {about['peak'] / 1e9:.0f} GFLOP/s; medians of "
        f"{repeats} (lowest to highest).",
        "",
        f"| {' | '.join(head)} |",
        f"| --- |{' ---: |' * (len(head) - 1)}",
    ]
    for row in rows:
        cells = [row.name, _shown(row, "mmfusion")]
        if both:
            cells += [_shown(row, "notebook"), f"{row.ratio:.1f}" if row.ratio else "–"]
        shares = [f"{share:.0%}" for side in NAMES if (share := row.share_of_peak(side, about["peak"]))]
        cells.append(" / ".join(shares) or "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(row: Row, side: str) -> str:
    answers, median = row.answers[side], row.median(side)
    if median is None:
        return "–"
    digits = 0 if row.unit != "s" or median >= 100 else 2
    number = f"{median:,.{digits}f} {row.unit}"
    if len(answers) == 1:
        return number
    return f"{number} ({min(answers):,.{digits}f} to {max(answers):,.{digits}f})"


if __name__ == "__main__":
    sys.exit(run_command(main))
