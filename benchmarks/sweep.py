"""A sweep: which runs it has, by which configurations, and what one of them is trained with."""

import argparse
from pathlib import Path

from benchmarks.baselines import BASELINES, SECTIONS_READ
from benchmarks.questions import questions
from mmfusion.config import ENCODER_SECTIONS, VARIANTS, Config
from mmfusion.config.flags import configure, flags_of
from mmfusion.config.idle import acting, refuse_idle
from mmfusion.errors import UserError
from mmfusion.runs import Run
from mmfusion.schema import MODALITIES
from mmfusion.startup import import_tensorflow

NAMES = (*BASELINES, *VARIANTS)  # in this order: those that are made of others come after them


def names_of(args: argparse.Namespace) -> list[str]:
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


def refuse_idle_flags(args: argparse.Namespace, configs: list[Config]) -> None:
    """Refuses what acts in no run of the sweep."""
    given = flags_of(args)
    if "seed" in given:
        raise UserError(f"{given['seed']} does nothing here: --seeds N trains with the seeds 0 to N-1")
    refuse_idle(given, configs, SECTIONS_READ)
    if args.missing and all(config.variant in BASELINES for config in configs):
        raise UserError("--missing does nothing here: it asks networks, and --variants names none")


def check_config_dir(args: argparse.Namespace) -> None:
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


def configured(args: argparse.Namespace, name: str, seed: int) -> Config:
    """The configuration of one model, with its own file where there is one."""
    config = configure(_with_file(args, name), name, seed)
    return config.made_of(_part_configs(args, config))


def _with_file(args: argparse.Namespace, name: str) -> argparse.Namespace:
    file = args.config_dir / f"{name}.toml" if args.config_dir else None
    if file is None or not file.is_file():
        return args
    return argparse.Namespace(**{**vars(args), "config": file})


def _part_configs(args: argparse.Namespace, config: Config) -> dict[str, Config]:
    """Configures the parts of late fusion that are its own: by its file, not by theirs."""
    return {part: configure(_with_file(args, config.variant), part, config.seed) for part in config.parts}


def parts_of(config: Config) -> tuple[str, ...]:
    """The models of the same sweep that one is made of; none of most."""
    baseline = BASELINES.get(config.variant)
    return baseline.averages if baseline else config.parts


def run_of(args: argparse.Namespace, config: Config) -> Run:
    """Gives the run of a configuration, finished or not."""
    return Run(args.out / f"seed-{config.seed}" / config.folder_name)


def is_done(run: Run, name: str, args: argparse.Namespace) -> bool:
    """Tells if a run is finished, and has answered all that it is asked."""
    if name in BASELINES or not run.finished:
        return run.finished
    return all(question.is_asked(run) for question in questions(args))


def check_same(run: Run, wanted: Config, args: argparse.Namespace) -> None:
    """A run that is there already counts only if it is the one that would be trained now, with its parts."""
    parts = _part_configs(args, wanted)
    of_parts = all(
        part.config.variant in parts and _is_same(part.config, parts[part.config.variant]) for part in run.parts
    )
    if not (_is_same(run.config, wanted) and of_parts):
        raise UserError(f"{run.folder} was trained with other settings; remove it or name another --out")


def _is_same(config: Config, other: Config) -> bool:
    """Compares two runs in all that they read; what belongs to other models may differ."""
    return acting(config, SECTIONS_READ) == acting(other, SECTIONS_READ)


def train_and_ask(args: argparse.Namespace, name: str, seed: int, cache: Path) -> None:
    """Does what is not done yet of one run; in whatever process."""
    config = configured(args, name, seed)
    run = run_of(args, config)
    if not run.finished:
        _train(run, config, _parts(args, config), args, cache)
    if name not in BASELINES:
        _ask(run, cache, args)


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
        part_configs = {} if parts else _part_configs(args, config)
        experiment.train(config, run.folder, cache, part_configs=part_configs, part_runs=list(parts.values()))
    report.finish(run)


def _parts(args: argparse.Namespace, config: Config) -> dict[str, Run]:
    """The finished runs that a model is made of, of this call or an earlier one; {}: it trains its own."""
    wanted = {part: configured(args, part, config.seed) for part in parts_of(config)}
    parts = {part: run_of(args, one) for part, one in wanted.items()}
    missing = [part for part, run in parts.items() if not run.finished]
    if missing and config.variant in BASELINES:
        raise UserError(
            f"{config.variant} averages {' and '.join(parts)}; add {' and '.join(missing)} to --variants"
        )
    if missing:
        return {}
    for part, run in parts.items():
        check_same(run, wanted[part], args)
    own = _part_configs(args, config)
    if any(not _is_same(parts[part].config, one) for part, one in own.items()):
        return {}
    return parts


def _ask(run: Run, cache: Path, args: argparse.Namespace) -> None:
    """Asks a finished network what it was not asked yet."""
    import_tensorflow()
    for question in questions(args):
        if not question.is_asked(run):
            question.ask(run, cache)
