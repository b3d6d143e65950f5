"""`python -m mmfusion.predict`: the genres of one film, or of all films of a table."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from mmfusion import api
from mmfusion.config.flags import add_table_flags, columns_of, other_films
from mmfusion.errors import ArgumentParser, UserError, printable, run_command
from mmfusion.files import is_text
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER, TABLE
from mmfusion.startup import begin_command, import_tensorflow


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m mmfusion.predict", description=__doc__)
    p.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    p.add_argument("--poster", type=Path, metavar="FILE", help="JPEG, PNG, GIF, WebP or BMP")
    p.add_argument("--overview", metavar="TEXT", help="a few sentences on what the film is about")
    p.add_argument(
        "--table",
        nargs="+",
        action="extend",
        default=[],
        metavar="COLUMN=VALUE",
        help="what its table says, such as Year=1994",
    )
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    p.add_argument("--films", type=Path, metavar="FILE", help="all films of a table, as train --films takes it")
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="their posters (default: below the table's folder)")
    add_table_flags(p)
    p.add_argument("--keep-placeholders", action="store_true", help="of these films; see train")
    p.add_argument("--out", type=Path, metavar="FILE", help="where their predictions go: .csv or .parquet")
    return p


def main() -> None:
    """Reads the flags, predicts and prints."""
    args = parser().parse_args()
    run = Run.open(args.run)
    if args.films:
        _predict_table(args, run)
    else:
        _predict_one(args, run)


def _predict_table(args: argparse.Namespace, run: Run) -> None:
    if given := [f"--{name}" for name in ("poster", "overview", "table", "json") if getattr(args, name)]:
        raise UserError(f"{given[0]} is of one film, and --films names a table; leave one out")
    if not args.out:
        raise UserError("--films needs --out FILE for the predictions, a .csv or .parquet")
    data = other_films(
        run.config.data,
        films=args.films,
        data_dir=args.data_dir,
        named=columns_of(args.columns),
        labelled=False,
        encoding=args.encoding,
        separator=args.separator,
        keep_placeholders=args.keep_placeholders,
    )
    begin_command()
    import_tensorflow()
    from mmfusion.inference.sheet import predict_table

    started = time.monotonic()
    many = predict_table(run, data, args.out, say=lambda line: print(printable(line), file=sys.stderr))
    seconds = time.monotonic() - started
    total = sum(many.counts.values())
    for read, count in sorted(many.counts.items()):
        of_what = f"by {read}" if read else "nothing that the run reads, no prediction"
        print(f"{count:,} film{'s' * (count != 1)}: {of_what}")
    if many.unreadable:
        film, why = next(iter(many.unreadable.items()))
        count = f"{len(many.unreadable):,}, as {printable(film)}'s: {printable(why)}"
        print(f"posters that cannot be read and count as missing: {count}")
    if many.films.without_id:
        print(f"rows without an id, which are passed over: {many.films.without_id:,}")
    if repeated := many.films.repeated:
        print(f"rows with the id of a row before them, which are predicted like others: {repeated:,}")
    print(f"{total:,} films in {seconds:.1f} s; their predictions are in {args.out}")


def _predict_one(args: argparse.Namespace, run: Run) -> None:
    for name in ("data_dir", "columns", "encoding", "separator", "keep_placeholders", "out"):
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')} goes with --films FILE")
    variant, overview = run.config.variant, args.overview or ""
    if not is_text(overview):
        raise UserError("--overview is not a text: it has bytes that are not UTF-8")
    poster, row = api.poster_bytes(args.poster) if args.poster else b"", _row(args.table, run)
    begin_command()
    import_tensorflow()
    from mmfusion import inference
    from mmfusion.data.posters import BadPoster
    from mmfusion.evaluation.metrics import tune_thresholds
    from mmfusion.models import model_class

    given = {POSTER: args.poster is not None, OVERVIEW: bool(overview.strip()), TABLE: bool(row)}
    model_class(variant)  # a baseline has none, and is refused
    reads = run.config.reads
    used, missing = ([one for one in reads if given[one] == has] for has in (True, False))
    if not used:
        read, flags = " and the ".join(missing), " or ".join(f"--{word}" for word in missing)
        raise UserError(f"{run.folder} is a run of {run.config.label} and reads the {read}: add {flags}")
    if missing:
        flags = " and no ".join(f"--{one}" for one in missing)
        print(f"No {flags}: {run.folder} decides from the {' and the '.join(used)} alone", file=sys.stderr)
    try:
        probabilities = inference.predict(run, {POSTER: [poster], OVERVIEW: [overview], TABLE: [row]})[0]
    except BadPoster as error:
        raise UserError(f"--poster {args.poster}: {error}") from error
    validation = run.predictions("validation")
    thresholds = tune_thresholds(validation.y_true, validation.y_prob)  # NaN for a genre that none of them has
    rows = [
        {
            "genre": run.genres[i],
            "probability": float(probabilities[i]),
            "threshold": None if np.isnan(thresholds[i]) else float(thresholds[i]),
            "predicted": bool(probabilities[i] >= (0.5 if np.isnan(thresholds[i]) else thresholds[i])),
        }
        for i in np.argsort(-probabilities, kind="stable")
    ]
    if args.json:
        print(json.dumps({"run": str(run.folder), "variant": variant, "genres": rows}, indent=2))
        return
    width = max(map(len, run.genres))
    print(f"{'genre':{width}}  probability  threshold")
    for row in rows:
        threshold = "        –" if row["threshold"] is None else f"{row['threshold']:9.3f}"
        print(f"{row['genre']:{width}}  {row['probability']:11.3f}  {threshold}{'  ✓' if row['predicted'] else ''}")


def _row(words: list[str], run: Run) -> dict[str, str]:
    """Gives the cells of a film's table, by column."""
    row = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not value.strip():
            raise UserError(f"--table {word}: write COLUMN=VALUE")
        if name in row:
            raise UserError(f"--table {word}: {name} is {row[name]} already")
        row[name] = value
    return api.checked_row(run, row)


api.as_function(__name__, api.predict)

if __name__ == "__main__":
    sys.exit(run_command(main))
