"""`python -m benchmarks.run`: trains all variants and baselines over several seeds, on the same films."""

import argparse
import shlex
import statistics
import sys
import time
from pathlib import Path

from benchmarks.baselines import BASELINES, SECTIONS_READ
from benchmarks.questions import questions
from mmfusion.config import ENCODER_SECTIONS, PRESET, VARIANTS, Config, is_preset
from mmfusion.config.flags import KEYS, add_config_flags, configure, flags_of, say_which_films
from mmfusion.config.idle import acting, refuse_idle
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.runs import Run
from mmfusion.schema import MODALITIES
from mmfusion.startup import begin_command, import_tensorflow

NAMES = (*BASELINES, *VARIANTS)  # in this order: those that are made of others come after them
COMMANDS = "commands.txt"  # in the results' folder, what was called


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    p.add_argument(
        "--variants", nargs="+", choices=list(NAMES), help="default: all that there can be; baselines are some"
    )
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="train with the seeds 0 to N-1 (default: 1)")
    add_config_flags(p)
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
    if args.rehash:
        forget(cache)
    _check_config_dir(args)
    names = _names(args)
    sweep = {(seed, name): _configure(args, name, seed) for seed in range(args.seeds) for name in names}
    _refuse_idle(args, list(sweep.values()))
    runs = {key: _run(args, config) for key, config in sweep.items()}
    for key, run in runs.items():
        if run.config_file.is_file():
            _check_same(run, sweep[key], args)
    say_which_films(sweep[0, names[0]], args.dataset)
    todo = [(seed, name) for (seed, name), run in runs.items() if not _is_done(run, name, args)]
    took = {}  # by name, the seconds of each run of this sweep
    for (seed, name), run in runs.items():
        if (seed, name) not in todo:
            print(f"seed {seed}, {sweep[seed, name].label}: finished already, in {run.folder}", flush=True)
            # Late fusion's parts were counted as runs of their own.
            took.setdefault(name, []).append(0 if parts_of(sweep[seed, name]) else run.report["train_seconds"])
    if todo:
        import_tensorflow()
        from mmfusion.models import model_class

        for name in {name for _, name in todo if name in VARIANTS}:  # not when those before it are trained
            model_class(name).check(sweep[0, name])
        _keep_command(args.out)
    done = len(runs) - len(todo)
    for number, (seed, name) in enumerate(todo):
        run = runs[seed, name]
        left = _time_left(took, [name for _, name in todo[number:]])
        place = f"run {done + number + 1} of {len(runs)}{left}, into {run.folder}"
        print(f"\nseed {seed}, {sweep[seed, name].label}: {place}", flush=True)
        start = time.perf_counter()
        if not run.finished:
            _train(run, sweep[seed, name], _parts(args, name, seed), args, cache)
        if name not in BASELINES:
            _ask(run, cache, args)
        took.setdefault(name, []).append(time.perf_counter() - start)
    from benchmarks.galleries import keep_films

    keep_films(args.out, cache)
    if args.seeds == 1:
        from mmfusion.evaluation import scoring
        from mmfusion.reports import report

        print(f"\n{report.summary([scoring.score(run, 'test') for run in runs.values()])}")
    print(f"\nThe runs are in {args.out}; python -m benchmarks.table {args.out} compares them there")


def parts_of(config: Config) -> tuple[str, ...]:
    """The models of the same sweep that one is made of; none of most."""
    baseline = BASELINES.get(config.variant)
    return baseline.averages if baseline else config.parts


def _refuse_idle(args: argparse.Namespace, configs: list[Config]) -> None:
    """Refuses what acts in no run of the sweep."""
    given = flags_of(args)
    if "seed" in given:
        raise UserError(f"{given['seed']} does nothing here: --seeds N trains with the seeds 0 to N-1")
    refuse_idle(given, configs, SECTIONS_READ)
    if args.missing and all(config.variant in BASELINES for config in configs):
        raise UserError("--missing does nothing here: it asks networks, and --variants names none")


def _names(args: argparse.Namespace) -> list[str]:
    """Names what this sweep trains, in the order of `NAMES`."""
    config = configure(args, next(iter(BASELINES)), None)
    frozen = {} if config.fine_tuning.fine_tune else config.presets
    without = {name: set(one.reads) - frozen.keys() for name, one in BASELINES.items() if one.of_presets}
    for name in (name for name, variant in VARIANTS.items() if variant.joins_features):
        own = config.with_values(variant=name)
        without[name] = {modality for modality in own.reads if modality.section in own.sections} - frozen.keys()
    if args.variants is None:
        return [name for name in NAMES if not without.get(name) and not _is_aside(name, config)]
    for name in args.variants:
        if without.get(name):
            encoders = [one.section.replace("_", "-") for one in MODALITIES if one in without[name]]
            flags = " and ".join(f"--{encoder} preset:…" for encoder in encoders)
            raise UserError(f"{name} is fitted on features of frozen presets: name them with {flags}")
    return [name for name in NAMES if name in args.variants]


def _is_aside(name: str, config: Config) -> bool:
    """Tells if a variant has to be asked for: it would not be compared with the others' encoders or modalities."""
    if name in BASELINES:
        return not set(BASELINES[name].reads) <= set(config.modalities)
    variant = VARIANTS[name]
    trained_from_words = not set(variant.sections) & set(ENCODER_SECTIONS)
    other_modality = not set(variant.modalities) <= set(config.modalities)
    return bool(variant.encoders) or other_modality or (trained_from_words and bool(config.presets))


def _configure(args: argparse.Namespace, name: str, seed: int) -> Config:
    """The configuration of one model, with its own file where there is one."""
    config = configure(_with_file(args, name), name, seed)
    return config.made_of(_part_configs(args, name, seed))


def _with_file(args: argparse.Namespace, name: str) -> argparse.Namespace:
    file = args.config_dir / f"{name}.toml" if args.config_dir else None
    if file is None or not file.is_file():
        return args
    return argparse.Namespace(**{**vars(args), "config": file})


def _check_config_dir(args: argparse.Namespace) -> None:
    """Refuses a folder that names nothing of this sweep, and two ways to say the same thing."""
    if args.config_dir is None:
        return
    if args.config:
        raise UserError("--config holds for all variants, --config-dir for each its own; give one of them")
    found = sorted(file.stem for file in args.config_dir.glob("*.toml"))
    unknown = [name for name in found if name not in VARIANTS]
    if not found or unknown:
        what = f"holds {', '.join(unknown)}.toml" if unknown else "holds no VARIANT.toml"
        raise UserError(f"--config-dir {args.config_dir} {what}; the variants are {', '.join(VARIANTS)}")


def _part_configs(args: argparse.Namespace, name: str, seed: int) -> dict[str, Config]:
    """Configures the parts of late fusion that are its own: by its file, not by theirs."""
    parts = configure(_with_file(args, name), name, seed).parts
    return {part: configure(_with_file(args, name), part, seed) for part in parts}


def _run(args: argparse.Namespace, config: Config) -> Run:
    return Run(args.out / f"seed-{config.seed}" / config.folder_name)


def _parts(args: argparse.Namespace, name: str, seed: int) -> dict[str, Run]:
    """The finished runs that a model is made of, of this call or an earlier one; {}: it trains its own."""
    wanted = {part: _configure(args, part, seed) for part in parts_of(_configure(args, name, seed))}
    parts = {part: _run(args, config) for part, config in wanted.items()}
    missing = [part for part, run in parts.items() if not run.finished]
    if missing and name in BASELINES:
        raise UserError(f"{name} averages {' and '.join(parts)}; add {' and '.join(missing)} to --variants")
    if missing:
        return {}
    for part, run in parts.items():
        _check_same(run, wanted[part], args)
    own = _part_configs(args, name, seed)
    if any(not _is_same(parts[part].config, config) for part, config in own.items()):
        return {}
    return parts


def _check_same(run: Run, wanted: Config, args: argparse.Namespace) -> None:
    """A run that is there already counts only if it is the one that would be trained now, with its parts."""
    parts = _part_configs(args, wanted.variant, wanted.seed)
    of_parts = all(
        part.config.variant in parts and _is_same(part.config, parts[part.config.variant]) for part in run.parts
    )
    if not (_is_same(run.config, wanted) and of_parts):
        raise UserError(f"{run.folder} was trained with other settings; remove it or name another --out")


def _is_same(config: Config, other: Config) -> bool:
    """Compares two runs in all that they read; what belongs to other models may differ."""
    return acting(config, SECTIONS_READ) == acting(other, SECTIONS_READ)


def _time_left(took: dict[str, list[float]], todo: list[str]) -> str:
    """Estimates the time left, at the pace of this sweep's runs; "" before the first network is through."""
    networks = [statistics.mean(seconds) for name, seconds in took.items() if name in VARIANTS]
    if not networks:
        return ""
    typical = statistics.mean(networks)
    left = [statistics.mean(took[name]) if name in took else typical for name in todo]
    return f", about {max(1, round(sum(left) / 60))} min left"


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


def _train(run: Run, config: Config, parts: dict[str, Run], args: argparse.Namespace, cache: Path) -> None:
    import_tensorflow()
    from benchmarks.baselines import train_baseline
    from mmfusion.reports import report
    from mmfusion.training import experiment

    if run.config_file.is_file():
        experiment.resume(run, cache)
    elif config.variant in BASELINES:
        train_baseline(config, run.folder, cache, parts)
    else:
        part_configs = {} if parts else _part_configs(args, config.variant, config.seed)
        experiment.train(config, run.folder, cache, part_configs=part_configs, part_runs=list(parts.values()))
    report.finish(run)


def _is_done(run: Run, name: str, args: argparse.Namespace) -> bool:
    if name in BASELINES or not run.finished:
        return run.finished
    return all(question.is_asked(run) for question in questions(args))


def _ask(run: Run, cache: Path, args: argparse.Namespace) -> None:
    """Asks a finished network what it was not asked yet."""
    import_tensorflow()
    for question in questions(args):
        if not question.is_asked(run):
            question.ask(run, cache)


if __name__ == "__main__":
    sys.exit(run_command(main))
