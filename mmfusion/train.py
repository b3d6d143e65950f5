"""`python -m mmfusion.train`: trains one variant into a run folder and reports on it."""

import argparse
import sys
from pathlib import Path

from mmfusion import api
from mmfusion.config import VARIANTS
from mmfusion.config.flags import add_config_flags, configure, flags_of, say_which_films
from mmfusion.config.idle import refuse_idle
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.runs import Run
from mmfusion.startup import begin_command, import_tensorflow


def parser() -> ArgumentParser:
    """The command's flags; TensorFlow is not imported to answer --help."""
    p = ArgumentParser(prog="python -m mmfusion.train", description=__doc__)
    p.add_argument("--variant", choices=list(VARIANTS), help="what to train (needed unless --resume)")
    add_config_flags(p)
    p.add_argument("--seed", type=int, metavar="N", help="of weights, order, augmentation, dropout")
    p.add_argument(
        "--parts", nargs="+", type=Path, metavar="RUN", help="late fusion of finished runs, one of each modality"
    )
    p.add_argument("--check", action="store_true", help="say how the films are read and split, and train nothing")
    p.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: under runs/)")
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    p.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs into the run folder")
    return p


def main() -> None:
    """Reads the flags, trains and reports."""
    args = parser().parse_args()
    cache = begin_command(args.cache_dir)
    if args.rehash:
        forget(cache)
    if args.check and not args.resume:
        _check(args, cache)
        return
    run = _resume(args, cache) if args.resume else _train(args, cache)
    from mmfusion.reports import report

    scored = report.finish(run)
    print(f"\n{report.summary([scored])}\n\nThe run is in {run.folder}, its report in report.md")


def _check(args: argparse.Namespace, cache: Path) -> None:
    """Prepares the films, which says how they were read, and splits them; what is wrong ends the command."""
    config = configure(args, _named(args.variant), args.seed)
    refuse_idle(flags_of(args), [config])
    say_which_films(config, args.dataset)
    import_tensorflow()
    from mmfusion.training.preparation import prepare

    prepared = prepare(config, cache)
    counts = ", ".join(f"{len(ids):,} {name}" for name, ids in prepared.split.items())
    print(f"split (seed {config.split_seed}): {counts} films")


def _named(variant: str | None) -> str:
    if not variant:
        raise UserError(f"--variant is missing; one of {', '.join(VARIANTS)}")
    return variant


def _train(args: argparse.Namespace, cache: Path) -> Run:
    return api.run_training(
        _named(args.variant),
        lambda name: configure(args, name, args.seed),
        given=flags_of(args),
        parts=args.parts or (),
        out=args.out,
        cache=cache,
        tensorboard=args.tensorboard,
    )


def _resume(args: argparse.Namespace, cache: Path) -> Run:
    allowed = ("resume", "cache_dir", "rehash", "tensorboard")
    for name, value in vars(args).items():
        if name not in allowed and not (value is None or value is False or value == []):
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"--resume takes its settings from the run; leave out {flag}")
    run = Run.open(args.resume, finished=False)
    if run.finished:
        raise UserError(f"the run {run.folder} is finished; there is nothing to go on with")

    import_tensorflow()
    from mmfusion.training import experiment

    return experiment.resume(run, cache, tensorboard=args.tensorboard)


api.as_function(__name__, api.train)

if __name__ == "__main__":
    sys.exit(run_command(main))
