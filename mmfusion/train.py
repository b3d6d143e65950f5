"""`python -m mmfusion.train`: trains one variant into a run folder and reports on it."""

import argparse
import sys
import tomllib
from pathlib import Path

from mmfusion.config import COMBINERS, recipe_names, resolve
from mmfusion.data import DATASETS
from mmfusion.errors import UserError, run_command
from mmfusion.models import VARIANTS
from mmfusion.runs import PARTS, Run
from mmfusion.startup import import_tensorflow


def parser() -> argparse.ArgumentParser:
    """The command's flags; TensorFlow is not imported to answer --help."""
    p = argparse.ArgumentParser(prog="python -m mmfusion.train", description=__doc__.split(": ", 1)[1])
    p.add_argument("--variant", choices=list(VARIANTS), help="what to train (needed unless --resume)")
    p.add_argument(
        "--dataset",
        choices=list(DATASETS),
        help="default: multimodal_imdb with --data-dir, synthetic without",
    )
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder that holds the films")
    p.add_argument("--recipe", choices=recipe_names(), help="all settings by one name (default: default)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with what differs from the recipe")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting by its name in config.json, such as data.poster_size=96 or data.augment=false",
    )
    p.add_argument("--epochs", type=int, metavar="N", help="the most epochs to train")
    p.add_argument("--seed", type=int, metavar="N", help="of split, weights, order, augmentation and dropout")
    p.add_argument("--skip-bad", action="store_true", help="drop films that cannot be read, and list them")
    p.add_argument("--combiner", choices=COMBINERS, help="late fusion's")
    p.add_argument(
        "--parts", nargs=2, type=Path, metavar="RUN", help="late fusion of a finished cnn and bilstm run"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: under runs/)")
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    p.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs into the run folder")
    return p


def main() -> None:
    """Reads the flags, trains and reports."""
    args = parser().parse_args()
    if args.resume:
        _refuse_beside_resume(args)
        run = Run.open(args.resume, finished=False)
        if run.finished:
            raise UserError(f"the run {run.folder} is finished; there is nothing to go on with")
    elif not args.variant:
        raise UserError(f"--variant is missing; one of {', '.join(VARIANTS)}")
    elif args.parts and args.variant != "late":
        raise UserError("--parts goes with --variant late")
    else:
        config = _config(args, args.variant)
        out = args.out or Path("runs") / f"{config.variant}-{config.data.dataset}-{config.recipe}-{config.seed}"
        if not args.data_dir and not args.dataset:
            print("No --data-dir: using the embedded default, --dataset synthetic.", flush=True)

    import_tensorflow()
    from mmfusion import assessment, experiment
    from mmfusion.data.films import cache_folder

    cache = cache_folder(args.cache_dir)
    if args.resume:
        run = experiment.resume(run, cache, tensorboard=args.tensorboard)
    else:
        parts = args.parts or ()
        if args.variant == "late" and not args.parts:
            parts = {variant: _config(args, variant) for variant in PARTS}
        run = experiment.train(config, out, cache, parts=parts, tensorboard=args.tensorboard)
    for part in run.parts:
        assessment.write_report(part)
    scored = assessment.write_report(run)
    print(f"\n{assessment.summary([scored])}\n\nThe run is in {run.folder}, its report in report.md")


def _config(args: argparse.Namespace, variant: str):
    overrides = dict(_setting(text) for text in args.set)
    named = {
        "seed": args.seed,
        "data.dataset": args.dataset or ("multimodal_imdb" if args.data_dir else None),
        "data.data_dir": str(args.data_dir.resolve()) if args.data_dir else None,
        "data.skip_bad": args.skip_bad or None,
        "training.epochs": args.epochs,
        "late.combiner": args.combiner,
    }
    overrides |= {key: value for key, value in named.items() if value is not None}
    return resolve(variant, recipe=args.recipe or "default", file=args.config, overrides=overrides)


def _setting(text: str) -> tuple[str, object]:
    """`KEY=VALUE` with the value as in TOML; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _refuse_beside_resume(args: argparse.Namespace) -> None:
    allowed = ("resume", "cache_dir", "tensorboard")
    for name, value in vars(args).items():
        if name not in allowed and value not in (None, False, []):
            raise UserError(f"--resume takes its settings from the run; leave out --{name.replace('_', '-')}")


if __name__ == "__main__":
    sys.exit(run_command(main))
