"""`python -m mmfusion.evaluate`: reports on one finished run, or on several side by side."""

import argparse
import sys
from functools import partial
from pathlib import Path

from mmfusion import api
from mmfusion.config import DATASETS, DataConfig
from mmfusion.config.flags import add_table_flags, columns_of, other_films
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.runs import Run
from mmfusion.runs.overlap import splits_of
from mmfusion.schema import TABLE
from mmfusion.startup import begin_command, import_tensorflow


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m mmfusion.evaluate", description=__doc__)
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder; gains are over the first")
    p.add_argument(
        "--split",
        choices=["validation", "test", "all"],
        help="which films (default: test; of other films all that no run was trained or tuned on)",
    )
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="films of another folder")
    p.add_argument("--films", nargs="+", default=[], metavar="FILE", help="films of another table, see train")
    add_table_flags(p)
    p.add_argument("--table", type=Path, metavar="FILE", help="a CSV of those films' columns")
    p.add_argument("--dataset", choices=list(DATASETS), help="the form of other films (default: the run's)")
    p.add_argument("--skip-bad", action="store_true", help="drop other films that cannot be read")
    p.add_argument("--keep-placeholders", action="store_true", help="of other films; see train")
    p.add_argument("--show", nargs="+", default=[], metavar="ID", help="draw these films, of any split")
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write report and figures there; without it one run's go into its folder, others nowhere",
    )
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    p.add_argument("--rehash", action="store_true", help="read films anew whose files look unchanged")
    return p


def main() -> None:
    """Reads the flags, scores and prints; TensorFlow is needed only for films not yet predicted."""
    args = parser().parse_args()
    args.films = _one_file(args.films)
    args.other = args.films or args.data_dir
    cache = begin_command(args.cache_dir)
    if args.rehash:
        forget(cache)
    runs = [Run.open(folder) for folder in args.runs]
    _check(args, runs)
    from mmfusion.evaluation import scoring
    from mmfusion.reports import report

    kept, predicted = None, []
    if args.other:
        scored, predicted, kept = _score_other_films(runs, args, cache)
    else:
        scored = [scoring.score(run, args.split or "test") for run in runs]
    scoring.check_comparable(scored)
    gains = scoring.gains(scored)
    print(report.summary(scored, gains))

    if args.out:
        report.write_comparison(scored, args.out, kept, gains)
        _write_sheets(scored, predicted, args.out)
        print(f"\nReport and figures are in {args.out}")
    elif len(runs) == 1 and not args.other and args.split in (None, "test"):
        report.write_report(runs[0])
        print(f"\nReport and figures are in {runs[0].folder}")
    else:
        print("\nNothing was written; --out DIR keeps this report, with figures")
    if args.show:
        picture = (args.out or runs[0].folder) / "figures" / "films.png"
        _draw(runs, args, cache, picture)
        print(f"The films are in {picture}")


def _one_file(named: list[str]) -> Path | None:
    """The table of films; ids of films to draw came by this flag once, and are refused."""
    if len(named) > 1 or not all(Path(name).is_file() for name in named):
        raise UserError(f"--films {' '.join(named)}: this is no file; the flag that draws films is now --show")
    return Path(named[0]) if named else None


def _check(args: argparse.Namespace, runs: list[Run]) -> None:
    from mmfusion.evaluation.scoring import row_name

    names = [row_name(run) for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"two runs have one name ({', '.join(names)}); rename a folder to tell them apart")
    if args.split == "all" and not args.other:
        raise UserError("--split all goes with --data-dir or --films: a run was trained on some of its own films")
    if args.split == "validation" and args.other:
        raise UserError("--split validation does not go with other films: those films tuned the run; leave one out")
    if args.show and len(runs) > 1 and not args.out:
        raise UserError("--show with several runs needs --out DIR for the picture")
    if args.table and not any(TABLE in run.config.reads or run.config.overview.columns for run in runs):
        raise UserError("--table does nothing here: no run reads a table; leave it out")
    for flag in ("dataset", "table", "skip_bad", "columns", "encoding", "separator", "keep_placeholders"):
        if getattr(args, flag) and not args.other:
            raise UserError(f"--{flag.replace('_', '-')} goes with --data-dir or --films")


def _films_for(runs: list[Run], args: argparse.Namespace, cache: Path):
    """For each run the films that are named, or else its own, with posters of the run's size."""
    import_tensorflow()
    from mmfusion.data.films import films_of

    loaded = {}
    for run in runs:
        config, data = run.config, run.config.data
        if args.other:
            data = _other(data, args)
            # Not the run's own: a stranger's would name any file of this machine, and has not these films.
            table = config.table.model_copy(update={"file": str(args.table or "")})
            config = config.with_values(data=data, table=table)
        key = (data, config.poster_size, config.in_batches, config.table, config.overview)
        if key not in loaded:
            loaded[key] = films_of(config, cache)
        yield run, loaded[key]


def _other(own: DataConfig, args: argparse.Namespace) -> DataConfig:
    """Names the other films."""
    dataset = "films" if args.films or own.dataset == "synthetic" else own.dataset
    return other_films(
        own,
        films=args.films,
        data_dir=args.data_dir,
        named=columns_of(args.columns),
        labelled=True,
        encoding=args.encoding,
        separator=args.separator,
        dataset=args.dataset or dataset,
        skip_bad=args.skip_bad,
        keep_placeholders=args.keep_placeholders,
        all_genres=own.all_genres,
    )


def _score_other_films(runs: list[Run], args: argparse.Namespace, cache: Path):
    """Scores other films, and gives what the panels show of the best and the worst."""
    pairs = list(_films_for(runs, args, cache))
    from mmfusion import inference
    from mmfusion.evaluation import scoring
    from mmfusion.reports import report

    films = pairs[0][1]
    known = _known(runs, films)
    used = {film for of in known for film, split in of.items() if split in ("train", "validation")}
    wanted = list(films.ids)
    if args.split == "test":
        wanted = [film for film in films.ids if any(of.get(film) == "test" for of in known)]
    ids = [film for film in wanted if film not in used]
    if left_out := len(wanted) - len(ids):
        what = "test films" if args.split == "test" else "films"
        print(f"{left_out} of {len(wanted)} {what} were trained or tuned on by these runs: left out\n")
    if args.split == "test":  # of one run only, and unknown to another
        ids = [film for film in ids if all(of.get(film) == "test" for of in known)]
        if apart := len(wanted) - left_out - len(ids):
            print(f"{apart} test films are not those of all these runs: left out\n")
    if not ids:
        what = "no test film of all these runs" if args.split == "test" else "no film"
        raise UserError(f"{args.other} holds {what} that none of them was trained or tuned on")
    split = "test" if args.split == "test" else "unseen"
    predict = partial(inference.predict_films, keep_placeholders=args.keep_placeholders)
    predicted = [predict(run, own, ids) for run, own in pairs]
    scored = [
        scoring.score(run, split, *inference.with_truth(run, own, one)) for (run, own), one in zip(pairs, predicted)
    ]
    well, badly = report.choose_films(scored)
    return scored, predicted, _shown(films, [*well, *badly])


def _write_sheets(scored, predicted, folder: Path) -> None:
    """Writes the probabilities of other films, a file a run."""
    if predicted:
        from mmfusion.inference.sheet import thresholds_of, write_sheet
    for one, some in zip(scored, predicted):
        name = "predictions" if len(scored) == 1 else f"predictions-{one.run.name}"
        write_sheet(folder / f"{name}.csv", one.run.genres, [some], thresholds_of(one.run))


def _known(runs: list[Run], films) -> list[dict[str, str]]:
    """For each run the split that has the same film, by id of these films."""
    for run in runs:
        if run.hashes is None:
            print(f"{run.folder} keeps no hashes of its films: they are known by their ids only\n")
    return [splits_of(run, films.ids, films.hashes) for run in runs]


def _shown(films, ids) -> dict:
    """Poster and overview of some films, by id."""
    posters = films.encoded_posters(ids)
    if gone := [film for film in ids if film not in posters]:
        raise UserError(f"the posters of {', '.join(gone)} cannot be read any more")
    overviews = films.overviews.take(films.rows(ids))
    return {
        film: (partial(posters.get, film) if posters[film] else None, overview)
        for film, overview in zip(ids, overviews)
    }


def _draw(runs: list[Run], args: argparse.Namespace, cache: Path, picture: Path) -> None:
    pairs = list(_films_for(runs, args, cache))
    from mmfusion import inference
    from mmfusion.evaluation import scoring
    from mmfusion.reports import report

    films = pairs[0][1]
    if unknown := [film for film in args.show if film not in films.ids]:
        raise UserError(f"--show: {', '.join(unknown)} not among the {len(films)} films of {films.dataset}")
    predict = partial(inference.predict_films, keep_placeholders=args.keep_placeholders)
    scored = [
        scoring.score(run, "chosen", *inference.with_truth(run, own, predict(run, own, args.show)))
        for run, own in pairs
    ]
    known = dict(zip((one.report["name"] for one in scored), _known(runs, films), strict=True))
    picture.parent.mkdir(parents=True, exist_ok=True)
    report.draw_films(scored, args.show, _shown(films, args.show), "Chosen films", picture, known)


api.as_function(__name__, api.evaluate)

if __name__ == "__main__":
    sys.exit(run_command(main))
