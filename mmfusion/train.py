"""`python -m mmfusion.train`: trains one variant into a run folder and reports on it."""

import argparse
import sys
import tomllib
from pathlib import Path

from mmfusion.config import (
    COMBINERS,
    ENCODER_SECTIONS,
    OVERVIEW_ENCODERS,
    POSTER_ENCODERS,
    PRESET,
    VARIANTS,
    Config,
    is_preset,
    recipe_names,
    resolve,
)
from mmfusion.data import DATASETS
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.idle import refuse_idle
from mmfusion.runs import Run, as_parts, check_free
from mmfusion.schema import MODALITIES
from mmfusion.startup import begin_command, import_tensorflow


def parser() -> ArgumentParser:
    """The command's flags; TensorFlow is not imported to answer --help."""
    p = ArgumentParser(prog="python -m mmfusion.train", description=__doc__.split(": ", 1)[1])
    p.add_argument("--variant", choices=list(VARIANTS), help="what to train (needed unless --resume)")
    add_config_flags(p)
    p.add_argument("--seed", type=int, metavar="N", help="of weights, order, augmentation, dropout")
    p.add_argument(
        "--parts", nargs="+", type=Path, metavar="RUN", help="late fusion of finished runs, one of each modality"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="the run folder (default: under runs/)")
    p.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    p.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs into the run folder")
    return p


def add_config_flags(p: argparse.ArgumentParser) -> None:
    """The flags that `configure` reads, shared by all commands that train."""
    p.add_argument(
        "--dataset",
        choices=list(DATASETS),
        help="default: multimodal_imdb with --data-dir, synthetic without",
    )
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder that holds the films")
    p.add_argument("--modalities", nargs="+", metavar="NAME", help=f"what fusion reads: of {', '.join(MODALITIES)}")
    p.add_argument("--table", type=Path, metavar="FILE", help="a CSV of films' columns, joined by its column Id")
    p.add_argument("--recipe", choices=recipe_names(), help="all settings by one name (default: default)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with what differs from the recipe")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting by its name in config.json, such as data.poster_size=96 or data.augment=false",
    )
    p.add_argument(
        "--poster-encoder",
        metavar="NAME",
        help=f"{', '.join(POSTER_ENCODERS)}, or preset:NAME_OR_FOLDER of keras-hub",
    )
    p.add_argument(
        "--overview-encoder",
        metavar="NAME",
        help=f"{', '.join(OVERVIEW_ENCODERS)}, or preset:NAME_OR_FOLDER of keras-hub",
    )
    p.add_argument(
        "--split-seed", type=int, metavar="N", help="of train, validation and test films (default: the seed)"
    )
    p.add_argument("--fine-tune", action="store_true", help="train the presets' own weights too")
    p.add_argument("--fusion", metavar="NAME", help="joint fusion's operator (see models/operators.py)")
    p.add_argument("--epochs", type=int, metavar="N", help="the most epochs to train")
    p.add_argument("--skip-bad", action="store_true", help="drop films that cannot be read, and list them")
    p.add_argument("--combiner", choices=COMBINERS, help="late fusion's")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    p.add_argument("--rehash", action="store_true", help="read films anew whose files look unchanged")


def configure(args: argparse.Namespace, variant: str, seed: int | None) -> Config:
    """The configuration that the flags ask for, for one variant and seed (None: the recipe's).

    Raises:
        UserError: see `mmfusion.config.resolve`.
    """
    overrides = settled(args)
    if seed is not None:
        overrides["seed"] = seed
    config = resolve(variant, recipe=args.recipe or "default", file=args.config, overrides=overrides)
    # Absolute, so that --resume finds films and presets from any folder.
    absolute = {}
    if config.data.data_dir:
        absolute["data"] = config.data.model_copy(update={"data_dir": str(Path(config.data.data_dir).resolve())})
    if config.table.file:
        file = Path(config.table.file).resolve()
        if not file.is_file():
            raise UserError(f"--table {config.table.file}: there is no such file")
        absolute["table"] = config.table.model_copy(update={"file": str(file)})
    for section in ENCODER_SECTIONS:
        encoder = getattr(config, section)
        named = encoder.name.removeprefix(PRESET)
        folder = Path(named)
        if not is_preset(encoder.name):
            continue
        if not folder.is_dir() and (named.startswith((".", "/")) or ("/" in named and "://" not in named)):
            raise UserError(f"{encoder.name}: there is no such folder")
        if folder.is_dir():
            absolute[section] = encoder.model_copy(update={"name": f"{PRESET}{folder.resolve()}"})
    return config.with_values(**absolute)


def settled(args: argparse.Namespace) -> dict[str, object]:
    """By dotted key the settings that the flags give one by one.

    Raises:
        UserError: `--set` cannot be read, or names what another flag says.
    """
    named = _named(args)
    given = {}
    for text in args.set:
        key, value = _setting(text)
        if (first := key.partition(".")[0]) in _OTHER_FLAGS:
            raise UserError(f"--set {text}: {first} is chosen with {_OTHER_FLAGS[first]}")
        if key in named and named[key] != value:
            raise UserError(f"--set {text}: {_FLAGS[key]} says {named[key]}; leave out one of the two")
        given[key] = value
    return given | named


def flags_of(args: argparse.Namespace) -> dict[str, str]:
    """By dotted key how the command line gives each of these settings."""
    by_set = {_setting(text)[0]: f"--set {text}" for text in args.set}
    return by_set | {key: _FLAGS[key] for key in _named(args)}


_OTHER_FLAGS = {"variant": "--variant", "recipe": "--recipe"}
_FLAGS = {
    "data.dataset": "--dataset",
    "data.data_dir": "--data-dir",
    "data.skip_bad": "--skip-bad",
    "modalities": "--modalities",
    "table.file": "--table",
    "split_seed": "--split-seed",
    "poster_encoder.name": "--poster-encoder",
    "overview_encoder.name": "--overview-encoder",
    "fine_tuning.fine_tune": "--fine-tune",
    "joint.operator": "--fusion",
    "training.epochs": "--epochs",
    "late.combiner": "--combiner",
}


def _named(args: argparse.Namespace) -> dict[str, object]:
    """The settings that have a flag of their own."""
    named = {
        "data.dataset": args.dataset or ("multimodal_imdb" if args.data_dir else None),
        "data.data_dir": str(args.data_dir) if args.data_dir else None,
        "data.skip_bad": args.skip_bad or None,
        "modalities": args.modalities,
        "table.file": str(args.table) if args.table else None,
        "split_seed": args.split_seed,
        "poster_encoder.name": args.poster_encoder,
        "overview_encoder.name": args.overview_encoder,
        "fine_tuning.fine_tune": args.fine_tune or None,
        "joint.operator": args.fusion,
        "training.epochs": args.epochs,
        "late.combiner": args.combiner,
    }
    return {key: value for key, value in named.items() if value is not None}


def say_which_films(config: Config, args: argparse.Namespace) -> None:
    """Nobody should take the embedded films for real ones."""
    if config.data.dataset == "synthetic" and not args.dataset:
        print("No --data-dir: using the embedded default, --dataset synthetic.", flush=True)


def main() -> None:
    """Reads the flags, trains and reports."""
    args = parser().parse_args()
    cache = begin_command(args.cache_dir)
    if args.rehash:
        forget(cache)
    run = _resume(args, cache) if args.resume else _train(args, cache)
    from mmfusion import assessment

    scored = assessment.finish(run)
    print(f"\n{assessment.summary([scored])}\n\nThe run is in {run.folder}, its report in report.md")


def _train(args: argparse.Namespace, cache: Path) -> Run:
    if not args.variant:
        raise UserError(f"--variant is missing; one of {', '.join(VARIANTS)}")
    if args.parts and not VARIANTS[args.variant].trained_apart:
        raise UserError(
            f"--parts goes with --variant {' or '.join(n for n, v in VARIANTS.items() if v.trained_apart)}"
        )
    config = configure(args, args.variant, args.seed)
    _refuse_idle(args, config)
    part_runs = [Run.open(part) for part in args.parts or ()]
    part_configs = None
    if config.parts and not part_runs:
        part_configs = {part: configure(args, part, args.seed) for part in config.parts}
    config = config.made_of(part_configs or {part: run.config for part, run in as_parts(config, part_runs).items()})
    name = f"{config.folder_name}-{config.data.dataset}-{config.recipe}-{config.seed}"
    folder = args.out or Path("runs") / name
    check_free(folder)
    say_which_films(config, args)

    import_tensorflow()
    from mmfusion import experiment

    return experiment.train(
        config,
        folder,
        cache,
        part_configs=part_configs,
        part_runs=part_runs,
        tensorboard=args.tensorboard,
    )


def _refuse_idle(args: argparse.Namespace, config: Config) -> None:
    given = flags_of(args)
    refuse_idle(given, [config])
    if args.parts:  # they were trained before
        sections = (*ENCODER_SECTIONS, "fine_tuning", "training")
        of_parts = [flag for key, flag in given.items() if key.partition(".")[0] in sections]
        if flags := [*of_parts, *(["--tensorboard"] if args.tensorboard else [])]:
            raise UserError(f"{flags[0]} does nothing here: --parts are trained already; leave it out")


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
    from mmfusion import experiment

    return experiment.resume(run, cache, tensorboard=args.tensorboard)


def _setting(text: str) -> tuple[str, object]:
    """`KEY=VALUE` with the value as in TOML; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


if __name__ == "__main__":
    sys.exit(run_command(main))
