"""`python -m benchmarks.throughput`: how fast the product is, beside a plain Keras notebook.

With --data-dir the two take turns on the same films, question by question, so that a machine whose
speed drifts does so for both. With --films the product alone is timed on more and more synthetic films.
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
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import write_atomically
from mmfusion.models import VARIANTS
from mmfusion.runs import PARTS
from mmfusion.startup import cache_folder

NAMES = ("mmfusion", "notebook")
COMPARED = {*PARTS, "joint"}  # what a notebook has: two models; for `joint` both, one after the other


@dataclass
class Row:
    """One question and each side's answers; seconds unless the unit says otherwise."""

    name: str
    unit: str = "s"
    answers: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in NAMES})
    flops: dict[str, float] = field(default_factory=dict)

    def median(self, side: str) -> float | None:
        return statistics.median(self.answers[side]) if self.answers[side] else None

    @property
    def ratio(self) -> float | None:
        """How many times better the product is."""
        product, notebook = map(self.median, NAMES)
        if product is None or notebook is None:
            return None
        return product / notebook if self.unit == "films/s" else notebook / product


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.split("\n\n")[1])
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--data-dir", type=Path, metavar="DIR", help="real films, and the notebook beside")
    which.add_argument("--films", type=int, nargs="+", metavar="N", help="so many synthetic films")
    p.add_argument("--recipe", default="report", help="the product's (default: report, the notebook's layers)")
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="answers to each question (default: 3)")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="for throughput.csv and throughput.md")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    return p


def main() -> None:
    """Times everything, then prints and writes the table."""
    args = parser().parse_args()
    if args.repeats < 1:
        raise UserError("--repeats must be at least 1")
    cache = cache_folder(args.cache_dir)
    args.out.mkdir(parents=True, exist_ok=True)
    tables, lines = [], []
    for data in _data(args):
        rows, about = _time(args, data, cache)
        tables.append(_markdown(rows, about))
        lines += _lines(rows, about)
        print(f"\n{tables[-1]}", flush=True)
    write_atomically(args.out / "throughput.md", "\n\n".join(tables) + "\n")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(args.out / "throughput.csv", text.getvalue())
    print(f"\nThe tables are in {args.out / 'throughput.md'}, all answers in throughput.csv there")


def _data(args: argparse.Namespace) -> list[dict]:
    """What to time on, as overrides of the recipe."""
    if args.films:
        return [{"data.dataset": "synthetic", "data.films": films} for films in args.films]
    if not args.data_dir.is_dir():
        raise UserError(f"--data-dir {args.data_dir}: there is no such folder")
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
                    _say(f"{name}: {side}")
                    row.answers[side].append(sides[side].ask(question, *of))
        rows.append(row)
        return row

    cold = timed("cold preparation", "cold")
    cold.unit = "films/s"
    cold.answers = {side: [films / seconds for seconds in answers] for side, answers in cold.answers.items()}
    timed("an epoch's input alone, prepared", "input")
    for variant in VARIANTS:
        who = NAMES if variant in COMPARED else NAMES[:1]
        for side in who:
            if side in sides:
                sides[side].ask("warm_up", variant)
        name = "late: fitting the combiner" if variant == "late" else f"{variant}: training epoch"
        row = timed(name, "epoch", variant, who=who)
        if variant != "late":
            row.flops = {side: sides[side].ask("flops", variant) for side in who if side in sides}
    for variant in VARIANTS:
        timed(
            f"{variant}: predicting the test films",
            "predict",
            variant,
            who=NAMES if variant in COMPARED else NAMES[:1],
        )
    memory = Row("posters, ready for training", "MB")
    memory.answers |= {side: [worker.ask("poster_bytes") / 1e6] for side, worker in sides.items()}
    rows.append(memory)
    for worker in sides.values():
        worker.close()
    return [*rows, *_fresh(args, data, cache)], about


def _fresh(args: argparse.Namespace, data: dict, cache: Path) -> list[Row]:
    """What only a process of its own tells: the way to the first step, and the most memory it took."""
    rows = []
    sides = NAMES if args.data_dir else NAMES[:1]
    for variant in PARTS:
        first, memory = Row(f"{variant}: command to first training step"), Row(f"{variant}: peak memory", "MB")
        for _ in range(args.repeats):
            for name in sides:
                _say(f"{first.name}: {name}")
                start = time.time()
                flags = [name, variant, args.recipe, json.dumps(data), str(cache)]
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.fresh", *flags], capture_output=True, text=True
                )
                if done.returncode:
                    raise UserError(f"the {name} side ended with: {done.stderr.strip().splitlines()[-1]}")
                answer = json.loads(done.stdout.strip().splitlines()[-1])
                first.answers[name].append(answer["first_step"] - start)
                memory.answers[name].append(answer["peak"] / 1e6)
        rows += [first, memory]
    helped = Row("python -m mmfusion.train --help")
    for _ in range(args.repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmfusion.train", "--help"], capture_output=True, check=True)
        helped.answers["mmfusion"].append(time.perf_counter() - start)
    return [*rows, helped]


def _say(what: str) -> None:
    """Where it stands, for whoever waits."""
    print(f"  {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def _lines(rows: list[Row], about: dict) -> list[dict]:
    """The CSV: an answer a line."""
    lines = []
    for row in rows:
        for side, answers in row.answers.items():
            for repeat, answer in enumerate(answers, 1):
                share = row.flops[side] / answer / about["peak"] if side in row.flops else None
                lines.append(
                    {
                        "films": about["films"],
                        "recipe": about["recipe"],
                        "row": row.name,
                        "unit": row.unit,
                        "side": side,
                        "repeat": repeat,
                        "answer": f"{answer:.4f}",
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
        shares = [
            f"{row.flops[side] / row.median(side) / about['peak']:.0%}" for side in NAMES if side in row.flops
        ]
        cells.append(" / ".join(shares) or "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(row: Row, side: str) -> str:
    answers = row.answers[side]
    if not answers:
        return "–"
    digits = 0 if row.unit != "s" or row.median(side) >= 100 else 2
    number = f"{row.median(side):,.{digits}f} {row.unit}"
    if len(answers) == 1:
        return number
    return f"{number} ({min(answers):,.{digits}f} to {max(answers):,.{digits}f})"


if __name__ == "__main__":
    sys.exit(run_command(main))
