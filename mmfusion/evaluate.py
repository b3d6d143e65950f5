"""`python -m mmfusion.evaluate`: reports on one finished run, or on several side by side."""

import argparse
import dataclasses
import io
import sys
from pathlib import Path

from mmfusion import assessment
from mmfusion.assessment import Scored
from mmfusion.data import DATASETS
from mmfusion.errors import UserError, run_command
from mmfusion.runs import Run
from mmfusion.startup import import_tensorflow


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser(prog="python -m mmfusion.evaluate", description=__doc__.split(": ", 1)[1])
    p.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    p.add_argument(
        "--split",
        choices=["validation", "test", "all"],
        help="which films (default: test; with --data-dir all that no run was trained or tuned on)",
    )
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="films of another folder")
    p.add_argument("--dataset", choices=list(DATASETS), help="the form of --data-dir (default: the run's)")
    p.add_argument("--films", nargs="+", default=[], metavar="ID", help="draw these films, of any split")
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write report and figures there; without it one run's go into its folder, a comparison's nowhere",
    )
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    return p


def main() -> None:
    """Reads the flags, scores and prints; TensorFlow is needed only for films not yet predicted."""
    args = parser().parse_args()
    runs = [Run.open(folder) for folder in args.runs]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise UserError(f"two runs have one name ({', '.join(names)}); rename a folder to tell them apart")
    if args.split == "all" and not args.data_dir:
        raise UserError("--split all goes with --data-dir: a run was trained on some of its own films")
    if args.films and len(runs) > 1 and not args.out:
        raise UserError("--films with several runs needs --out DIR for the picture")
    if args.dataset and not args.data_dir:
        raise UserError("--dataset goes with --data-dir")

    if args.data_dir:
        scored = _score_other_films(runs, args)
    else:
        scored = [assessment.score(run, args.split or "test") for run in runs]
    assessment.check_comparable(scored)
    print(assessment.summary(scored))

    out = args.out
    if out:
        assessment.write_comparison(scored, out)
    elif len(runs) == 1 and not args.data_dir and args.split in (None, "test"):
        out = assessment.write_report(runs[0]).run.folder
    if args.films:
        out = out or runs[0].folder
        _draw(runs, args, out / "figures" / "films.png")
    if out:
        print(f"\nReport and figures are in {out}")
    else:
        print("\nNothing was written; --out DIR keeps this report, with figures")


def _films(runs: list[Run], args):
    """The films of --data-dir, or else the runs' own, and where they come from."""
    import_tensorflow()
    from mmfusion.data.films import cache_folder, load_films

    data = runs[0].config.data
    if args.data_dir:
        dataset = args.dataset or ("multimodal_imdb" if data.dataset == "synthetic" else data.dataset)
        data = dataclasses.replace(data, data_dir=str(args.data_dir.resolve()), dataset=dataset)
    cache = cache_folder(args.cache_dir)
    return load_films(data, cache), data, cache


def _score_other_films(runs: list[Run], args) -> list[Scored]:
    films, _, _ = _films(runs, args)
    from mmfusion import experiment

    if args.split in (None, "all"):
        seen = {film for run in runs for split in ("train", "validation") for film in run.split[split]}
        ids = [film for film in films.ids if film not in seen]
        if left_out := len(films) - len(ids):
            print(f"{left_out} of {len(films)} films were trained or tuned on by these runs: left out\n")
        split = "unseen"
    else:
        split, wanted = args.split, {film for run in runs for film in run.split[args.split]}
        ids = [film for film in films.ids if film in wanted]
    if not ids:
        raise UserError(f"--data-dir {args.data_dir} holds no film to score")
    return [assessment.score(run, split, experiment.predict_films(run, films, ids)) for run in runs]


def _draw(runs: list[Run], args, path: Path) -> None:
    films, data, cache = _films(runs, args)
    from mmfusion import experiment
    from mmfusion.data.films import encoded_posters

    unknown = [film for film in args.films if film not in films.ids]
    if unknown:
        raise UserError(f"--films: {', '.join(unknown)} not among the {len(films)} films of {films.dataset}")
    posters = encoded_posters(data, cache, args.films)
    kept = {
        film: (io.BytesIO(posters[film]), films.overviews[row])
        for film, row in zip(args.films, films.rows(args.films))
    }
    scored = [assessment.score(run, "chosen", experiment.predict_films(run, films, args.films)) for run in runs]
    path.parent.mkdir(parents=True, exist_ok=True)
    assessment.draw_films(scored, args.films, kept, "Chosen films", path)


if __name__ == "__main__":
    sys.exit(run_command(main))
