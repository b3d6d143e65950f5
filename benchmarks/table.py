"""`python -m benchmarks.table`: tables, figures and a report of finished runs, from their folders alone."""

import os
import shutil
import sys
from pathlib import Path

from benchmarks import readme
from benchmarks.run import COMMANDS
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.startup import begin_command


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.table", description=__doc__)
    p.add_argument("results", type=Path, metavar="RESULTS_DIR", help="the --out of benchmarks.run")
    p.add_argument("--keep-going", action="store_true", help="leave out runs that cannot be compared with the rest")
    p.add_argument("--readme", type=Path, metavar="FILE", help="also put the table between this file's two markers")
    return p


def main() -> None:
    """Reads, scores, writes and prints."""
    args = parser().parse_args()
    begin_command()
    from benchmarks import page, sheets, writeup
    from benchmarks.analysis import analyse
    from benchmarks.collect import collect

    results, left_out = collect(args.results, keep_going=args.keep_going)
    for problem in left_out:
        print(f"left out: {problem}", file=sys.stderr)
    analysis = analyse(results, left_out)
    figures = args.results / "figures"
    drawn, shown = _draw(analysis, results, figures)
    sheets.write_csv(analysis, args.results)
    text = writeup.results_markdown(analysis, drawn, commands=_commands(args.results), machine=_machine(results))
    write_atomically(args.results / "RESULTS.md", text)
    write_atomically(args.results / "report.html", page.page(analysis, figures, drawn, shown))
    if args.readme:
        readme.write_between(args.readme, readme.NAME, readme.table(args.results))
    print(readme.table(args.results))
    print("", *writeup.sentences(analysis), sep="\n")
    print(f"\nRESULTS.md, report.html, CSV files and figures are in {args.results}")


def _draw(analysis, results, figures: Path) -> tuple[dict[str, str], dict[str, str]]:
    """All pictures anew: what an earlier report drew of other runs does not stay."""
    from benchmarks.galleries import draw_galleries
    from benchmarks.pictures import draw_pictures

    beside = figures.with_name(f".{figures.name}-{os.getpid()}")
    make_folder(beside)
    try:
        captions = draw_pictures(analysis, results, beside), draw_galleries(results, beside)
        shutil.rmtree(figures, ignore_errors=True)
        beside.replace(figures)
    except OSError as error:
        raise UserError(f"cannot write {figures}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return captions


def _commands(folder: Path) -> list[str]:
    """Reads what `benchmarks.run` was called with, as it wrote it down."""
    file = folder / COMMANDS
    return file.read_text("utf-8").splitlines() if file.is_file() else ["(unknown: there is no commands.txt)"]


def _machine(results) -> str:
    """Says where and when, as the runs do."""
    facts = [result.facts for of_seed in results.values() for result in of_seed.values()]
    machines = sorted({f"{f['cores']} cores ({f['processor']})" for f in facts})
    versions = facts[0]["versions"]
    dates = sorted(f["started"] for f in facts)
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    return f"{', '.join(machines)}; TensorFlow {versions['tensorflow']}, Keras {versions['keras']}; {days}"


if __name__ == "__main__":
    sys.exit(run_command(main))
