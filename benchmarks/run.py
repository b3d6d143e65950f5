"""`python -m benchmarks.run`: trains all variants on the same films and compares them."""

import argparse
import sys
from pathlib import Path

from mmfusion import assessment
from mmfusion.config import recipe_names, resolve
from mmfusion.data import DATASETS
from mmfusion.errors import run_command
from mmfusion.models import VARIANTS
from mmfusion.runs import PARTS, Run
from mmfusion.startup import import_tensorflow


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split(": ", 1)[1])
    p.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder that holds the films")
    p.add_argument(
        "--dataset",
        choices=list(DATASETS),
        help="default: multimodal_imdb with --data-dir, synthetic without",
    )
    p.add_argument("--recipe", choices=recipe_names(), default="default", help="(default: default)")
    p.add_argument("--epochs", type=int, metavar="N", help="the most epochs to train")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="(default: 0)")
    p.add_argument("--out", type=Path, required=True, metavar="RESULTS_DIR", help="a run folder a variant")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    return p


def main() -> None:
    """Trains what is not finished yet, then prints and writes the comparison."""
    args = parser().parse_args()
    variants = [variant for variant in VARIANTS if variant in args.variants]
    configs = {variant: _config(args, variant) for variant in variants}
    if not args.data_dir and not args.dataset:
        print("No --data-dir: using the embedded default, --dataset synthetic.", flush=True)
    runs = []
    for variant, config in configs.items():
        run = Run(args.out / variant)
        if run.finished:
            print(f"\n{variant}: finished already, in {run.folder}", flush=True)
        else:
            print(f"\n{variant}: training into {run.folder}", flush=True)
            _train(run, config, args, configs)
        runs.append(run)
    scored = [assessment.score(run, "test") for run in runs]
    assessment.check_comparable(scored)
    assessment.write_comparison(scored, args.out)
    print(f"\n{assessment.summary(scored)}\n\nThe runs are in {args.out}, the comparison in report.md there")


def _train(run: Run, config, args, configs) -> None:
    import_tensorflow()
    from mmfusion import experiment
    from mmfusion.data.films import cache_folder

    cache = cache_folder(args.cache_dir)
    if run.config_file.is_file():
        experiment.resume(run, cache)
    else:
        parts = ()
        if config.variant == "late":  # the unimodal runs of this comparison are its parts, where there are any
            own = {variant: _config(args, variant) for variant in PARTS}
            parts = [args.out / variant for variant in PARTS] if set(PARTS) <= set(configs) else own
        experiment.train(config, run.folder, cache, parts=parts)
    assessment.write_report(run)


def _config(args, variant: str):
    overrides = {"seed": args.seed}
    if args.data_dir:
        overrides |= {"data.data_dir": str(args.data_dir.resolve()), "data.dataset": "multimodal_imdb"}
    if args.dataset:
        overrides["data.dataset"] = args.dataset
    if args.epochs:
        overrides["training.epochs"] = args.epochs
    return resolve(variant, recipe=args.recipe, overrides=overrides)


if __name__ == "__main__":
    sys.exit(run_command(main))
