"""`python -m benchmarks.run`: trains all variants over several seeds on the same films and compares them."""

import argparse
import dataclasses
import statistics
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
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="train with the seeds 0 to N-1 (default: 1)")
    add_config_flags(p)
    p.add_argument("--out", type=Path, required=True, metavar="RESULTS_DIR", help="for seed-S/VARIANT, a run each")
    return p


def main() -> None:
    """Trains what is not finished yet, then prints and writes each seed's comparison."""
    args = parser().parse_args()
    if args.seeds < 1:
        raise UserError("--seeds must be at least 1")
    cache = cache_folder(args.cache_dir)
    variants = [variant for variant in VARIANTS if variant in args.variants]
    sweep = [(seed, variant, configure(args, variant, seed)) for seed in range(args.seeds) for variant in variants]
    for seed, variant, config in sweep:
        if (run := _run(args.out, seed, variant)).config_file.is_file():
            _check_same(run, config)
    say_which_films(sweep[0][2], args)
    for number, (seed, variant, config) in enumerate(sweep):
        run = _run(args.out, seed, variant)
        if run.finished:
            print(f"\nseed {seed}, {variant}: finished already, in {run.folder}", flush=True)
        else:
            left = _time_left(args.out, sweep[number:])
            print(
                f"\nseed {seed}, {variant}: run {number + 1} of {len(sweep)}{left}, into {run.folder}", flush=True
            )
            _train(run, config, args, cache)
    from mmfusion import assessment

    for seed in range(args.seeds):
        scored = [assessment.score(_run(args.out, seed, variant), "test") for variant in variants]
        assessment.check_comparable(scored)
        assessment.write_comparison(scored, args.out / f"seed-{seed}")
        print(f"\nSeed {seed}: {assessment.summary(scored)}")
    print(f"\nThe runs are in {args.out}, the comparison of each seed in its report.md there")


def _run(out: Path, seed: int, variant: str) -> Run:
    return Run(out / f"seed-{seed}" / variant)


def _check_same(run: Run, wanted: Config) -> None:
    """A run that is there already counts only if it is the one that would be trained now."""
    found = run.config
    if wanted.variant == "late":  # it takes its encoders over from its parts
        found = dataclasses.replace(
            found, poster_encoder=wanted.poster_encoder, overview_encoder=wanted.overview_encoder
        )
    if found != wanted:
        raise UserError(f"{run.folder} was trained with other settings; remove it or name another --out")


def _time_left(out: Path, todo: list[tuple[int, str, Config]]) -> str:
    """What is still to be trained, at the pace of this sweep's finished runs; "" before the first."""
    took = {}
    for file in out.glob("seed-*/*/report.json"):
        report = Run(file.parent).report
        # Late fusion's parts were counted as runs of their own.
        took.setdefault(report["variant"], []).append(0 if report["variant"] == "late" else report["train_seconds"])
    if not took:
        return ""
    typical = statistics.mean(statistics.mean(seconds) for seconds in took.values())
    left = [statistics.mean(took[v]) if v in took else typical for s, v, _ in todo if not _run(out, s, v).finished]
    return f", about {max(1, round(sum(left) / 60))} min left"


def _train(run: Run, config: Config, args: argparse.Namespace, cache: Path) -> None:
    import_tensorflow()
    from mmfusion import assessment, experiment

    # In the order of VARIANTS late fusion comes after its parts, which are this seed's unimodal runs.
    parts = [_run(args.out, config.seed, part) for part in PARTS]
    if run.config_file.is_file():
        experiment.resume(run, cache)
    elif config.variant == "late" and set(PARTS) <= set(args.variants):
        experiment.train(config, run.folder, cache, part_runs=parts)
    elif config.variant == "late":
        part_configs = {part: configure(args, part, config.seed) for part in PARTS}
        experiment.train(config, run.folder, cache, part_configs=part_configs)
    else:
        experiment.train(config, run.folder, cache)
    assessment.write_report(run)


if __name__ == "__main__":
    sys.exit(run_command(main))
