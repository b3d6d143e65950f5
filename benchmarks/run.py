"""`python -m benchmarks.run`: trains all variants and baselines over several seeds, on the same films."""

import argparse
import functools
import shlex
import statistics
import sys
import time
from pathlib import Path

from benchmarks import sweep
from mmfusion import cluster, jobs
from mmfusion.config import PRESET, VARIANTS, Config, is_preset
from mmfusion.config.flags import KEYS, add_config_flags, say_which_films
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.runs import Run
from mmfusion.startup import begin_command, import_tensorflow

COMMANDS = "commands.txt"  # in the results' folder, what was called


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    p.add_argument(
        "--variants",
        nargs="+",
        choices=list(sweep.NAMES),
        help="default: all that there can be; baselines are some",
    )
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="train with the seeds 0 to N-1 (default: 1)")
    add_config_flags(p)
    cluster.add_flags(p)
    p.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a folder with VARIANT.toml files, such as the best of tuning.search; others keep the recipe",
    )
    p.add_argument(
        "--missing",
        action="store_true",
        help="also ask the networks for their test films without each of their modalities",
    )
    p.add_argument("--out", type=Path, required=True, metavar="RESULTS_DIR", help="for seed-S/VARIANT, a run each")
    return p


def main() -> None:
    """Trains what is not finished yet."""
    args = parser().parse_args()
    if args.seeds < 1:
        raise UserError("--seeds must be at least 1")
    cache = begin_command(args.cache_dir)
    place = cluster.place_of(args, cache)
    if args.rehash:
        forget(cache)
    sweep.check_config_dir(args)
    names = sweep.names_of(args)
    configs = {(seed, name): sweep.configured(args, name, seed) for seed in range(args.seeds) for name in names}
    sweep.refuse_idle_flags(args, list(configs.values()))
    runs = {key: sweep.run_of(args, config) for key, config in configs.items()}
    for key, run in runs.items():
        if run.config_file.is_file():
            sweep.check_same(run, configs[key], args)
    say_which_films(configs[0, names[0]], args.dataset)
    todo = [(seed, name) for (seed, name), run in runs.items() if not sweep.is_done(run, name, args)]
    took = {}  # by name, the seconds of each run of this sweep
    for (seed, name), run in runs.items():
        if (seed, name) not in todo:
            print(f"seed {seed}, {configs[seed, name].label}: finished already, in {run.folder}", flush=True)
            # Late fusion's parts were counted as runs of their own.
            took.setdefault(name, []).append(
                0 if sweep.parts_of(configs[seed, name]) else run.report["train_seconds"]
            )
    if todo:
        import_tensorflow()
        from mmfusion.models import model_class

        for name in {name for _, name in todo if name in VARIANTS}:  # not when those before it are trained
            model_class(name).check(configs[0, name])
        _keep_command(args.out)
        with place:
            place.expect(len(todo), sorted({path for config in configs.values() for path in config.paths}))
            _run_all(args, cache, [(runs[key], configs[key]) for key in todo], len(runs), took, place)
    from benchmarks.galleries import keep_films

    keep_films(args.out, cache)
    if args.seeds == 1:
        from mmfusion.evaluation import scoring
        from mmfusion.reports import report

        print(f"\n{report.summary([scoring.score(run, 'test') for run in runs.values()])}")
    print(f"\nThe runs are in {args.out}; python -m benchmarks.table {args.out} compares them there")


def _run_all(
    args: argparse.Namespace,
    cache: Path,
    todo: list[tuple[Run, Config]],
    total: int,
    took: dict[str, list[float]],
    place: jobs.Place,
) -> None:
    """Trains what is to be done, and says which run begins and about how long the rest takes."""
    names = {(config.seed, config.variant): f"seed {config.seed}, {config.label}" for _, config in todo}
    variants = {name: variant for (_, variant), name in names.items()}
    listed = [
        jobs.Job(
            names[config.seed, config.variant],
            (run.folder,),
            functools.partial(sweep.train_and_ask, args, config.variant, config.seed, cache),
            needs=tuple(names[one] for part in sweep.parts_of(config) if (one := (config.seed, part)) in names),
        )
        for run, config in todo
    ]
    began: dict[str, float] = {}

    def on_start(job: jobs.Job) -> None:
        left = _time_left(
            took, [variants[job.name] for job in listed if job.name not in began], max(1, place.capacity)
        )
        number = total - len(listed) + len(began) + 1
        began[job.name] = time.perf_counter()
        print(f"\n{job.name}: run {number} of {total}{left}, into {job.folders[0]}", flush=True)

    def on_end(ended: jobs.Ended) -> None:
        name = ended.job.name
        took.setdefault(variants[name], []).append(time.perf_counter() - began[name])
        if args.on != "here":
            print(f"{name}: done in {took[variants[name]][-1]:.0f} s", flush=True)

    jobs.run_all(listed, place, on_start=on_start, on_end=on_end)


def _time_left(took: dict[str, list[float]], todo: list[str], at_a_time: int) -> str:
    """Estimates the time left, at the pace of this sweep's runs; "" before the first network is through."""
    networks = [statistics.mean(seconds) for name, seconds in took.items() if name in VARIANTS]
    if not networks:
        return ""
    typical = statistics.mean(networks)
    left = [statistics.mean(took[name]) if name in took else typical for name in todo]
    return f", about {jobs.minutes(sum(left) / at_a_time)} left"


_PLACES = {
    "--data-dir": "DIR",
    "--films": "FILMS",
    "--split-file": "SPLIT_FILE",
    "--table": "TABLE",
    "--out": "RESULTS_DIR",
    "--cache-dir": "CACHE_DIR",
    "--config": "FILE",
    "--config-dir": "CONFIG_DIR",
}
_ENCODERS = ("--poster-encoder", "--overview-encoder")


def anonymous(words: list[str]) -> str:
    """Gives a command's flags without the names of this machine's folders and files."""
    said, before = [], ""
    for word in words:
        flag, equals, value = word.partition("=")
        if before in _PLACES or before in _ENCODERS:
            word = _place(before, word)
        elif equals and flag in _PLACES:
            word = f"{flag}={_PLACES[flag]}"
        elif before == "--set" or word.startswith("--set="):
            *start, key, value = word.split("=", 2 if word.startswith("--set=") else 1)
            word = "=".join([*start, key, _place(_KEYS.get(key, ""), value)])
        said.append(word)
        before = word
    return shlex.join(said)


def _place(flag: str, word: str) -> str:
    if flag in _ENCODERS and is_preset(word):
        return f"{PRESET}{Path(word.removeprefix(PRESET)).name}"
    return _PLACES.get(flag, word)


_KEYS = {key: f"--{name.replace('_', '-')}" for name, key in KEYS.items()}


def _keep_command(out: Path) -> None:
    """Keeps this command for the report of what it gave."""
    command = f"python -m benchmarks.run {anonymous(sys.argv[1:])}"
    file = out / COMMANDS
    before = file.read_text("utf-8").splitlines() if file.is_file() else []
    if command not in before:
        make_folder(out)
        write_atomically(file, "\n".join([*before, command]) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
