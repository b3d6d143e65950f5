"""`python -m benchmarks.run`: trains all variants on the same films and compares them."""

import argparse
import dataclasses
import sys
from pathlib import Path

from mmfusion.config import Config
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.models import VARIANTS
from mmfusion.runs import PARTS, Run
from mmfusion.startup import cache_folder, import_tensorflow
from mmfusion.train import add_config_flags, configure, say_which_films


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.run", description=__doc__.split(": ", 1)[1])
    p.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="default: all")
    add_config_flags(p)
    p.add_argument("--out", type=Path, required=True, metavar="RESULTS_DIR", help="a run folder a variant")
    return p


def main() -> None:
    """Trains what is not finished yet, then prints and writes the comparison."""
    args = parser().parse_args()
    cache = cache_folder(args.cache_dir)
    configs = {variant: configure(args, variant) for variant in VARIANTS if variant in args.variants}
    runs = {variant: Run(args.out / variant) for variant in configs}
    for variant, run in runs.items():
        if run.config_file.is_file():
            _check_same(run, configs[variant])
    say_which_films(next(iter(configs.values())), args)
    for variant, run in runs.items():
        if run.finished:
            print(f"\n{variant}: finished already, in {run.folder}", flush=True)
        else:
            print(f"\n{variant}: training into {run.folder}", flush=True)
            _train(run, configs[variant], runs, args, cache)
    from mmfusion import assessment

    scored = [assessment.score(run, "test") for run in runs.values()]
    assessment.check_comparable(scored)
    assessment.write_comparison(scored, args.out)
    print(f"\n{assessment.summary(scored)}\n\nThe runs are in {args.out}, the comparison in report.md there")


def _check_same(run: Run, wanted: Config) -> None:
    """A run that is there already counts only if it is the one that would be trained now."""
    found = run.config
    if wanted.variant == "late":  # it takes its encoders over from its parts
        found = dataclasses.replace(
            found, poster_encoder=wanted.poster_encoder, overview_encoder=wanted.overview_encoder
        )
    if found != wanted:
        raise UserError(f"{run.folder} was trained with other settings; remove it or name another --out")


def _train(run: Run, config: Config, runs: dict[str, Run], args: argparse.Namespace, cache: Path) -> None:
    import_tensorflow()
    from mmfusion import assessment, experiment

    if run.config_file.is_file():
        experiment.resume(run, cache)
    elif config.variant == "late" and set(PARTS) <= set(runs):
        # This comparison's unimodal runs are its parts; they are trained before, in VARIANTS' order.
        experiment.train(config, run.folder, cache, part_runs=[runs[part] for part in PARTS])
    elif config.variant == "late":
        part_configs = {part: configure(args, part) for part in PARTS}
        experiment.train(config, run.folder, cache, part_configs=part_configs)
    else:
        experiment.train(config, run.folder, cache)
    assessment.write_report(run)


if __name__ == "__main__":
    sys.exit(run_command(main))
