"""The flags, and their namesakes in Python, that settle a configuration: shared by all that trains."""

import argparse
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmfusion.config import (
    COMBINERS,
    DATASETS,
    ENCODER_SECTIONS,
    ENCODERS,
    PRESET,
    Config,
    is_preset,
    recipe_names,
    resolve,
)
from mmfusion.config.sections import NO_COLUMN, DataConfig, RolesConfig
from mmfusion.errors import UserError
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER

# A setting with a flag of its own: the flag's name, or the argument's, -> its key.
KEYS = {
    "dataset": "data.dataset",
    "data_dir": "data.data_dir",
    "films": "data.file",
    "encoding": "data.encoding",
    "separator": "data.separator",
    "split_file": "data.split_file",
    "group_by": "data.columns.group",
    "keep_placeholders": "data.keep_placeholders",
    "all_genres": "data.all_genres",
    "skip_bad": "data.skip_bad",
    "modalities": "modalities",
    "table": "table.file",
    "split_seed": "split_seed",
    "poster_encoder": "poster_encoder.name",
    "overview_encoder": "overview_encoder.name",
    "fine_tune": "fine_tuning.fine_tune",
    "fusion": "joint.operator",
    "epochs": "training.epochs",
    "combiner": "late.combiner",
}
# What `--columns` names, and the keys.
_ROLES = {
    **{role: f"data.columns.{role}" for role in RolesConfig.model_fields if role != "group"},
    "table": "table.columns",
}
_OF_MORE = ("overview", "genres", "table")  # of them, those that may be more columns
_OTHER_FLAGS = {"variant": "--variant", "recipe": "--recipe"}


def add_config_flags(p: argparse.ArgumentParser) -> None:
    """The flags that `configure` reads, shared by all commands that train."""
    p.add_argument(
        "--dataset",
        choices=list(DATASETS),
        help="default: films with --data-dir or --films, synthetic without",
    )
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="the folder that holds the films")
    p.add_argument("--films", type=Path, metavar="FILE", help="a table of films: CSV, TSV, JSON lines or Parquet")
    add_table_flags(p)
    p.add_argument(
        "--split-file", type=Path, metavar="FILE", help="JSON with the ids of train, validation and test"
    )
    p.add_argument("--group-by", metavar="COLUMN", help="films with the same value of it stay in one split")
    p.add_argument(
        "--keep-placeholders",
        action="store_true",
        help="read texts and pictures that stand for none, such as 'No overview found.', like others",
    )
    p.add_argument("--all-genres", action="store_true", help="with mmimdb: also those beside its 23")
    p.add_argument("--modalities", nargs="+", metavar="NAME", help=f"what fusion reads: of {', '.join(MODALITIES)}")
    p.add_argument("--table", type=Path, metavar="FILE", help="a CSV of films' columns, joined by its column Id")
    p.add_argument("--recipe", choices=recipe_names(), help="all settings by one name (default: default)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with what differs from the recipe")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting by its name in config.json, such as data.batch_size=32 or early.poster_size=96",
    )
    p.add_argument(
        "--poster-encoder",
        metavar="NAME",
        help=f"{', '.join(ENCODERS[POSTER])}, or preset:NAME_OR_FOLDER of keras-hub",
    )
    p.add_argument(
        "--overview-encoder",
        metavar="NAME",
        help=f"{', '.join(ENCODERS[OVERVIEW])}, or preset:NAME_OR_FOLDER of keras-hub",
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


def add_table_flags(p: argparse.ArgumentParser) -> None:
    """The flags that say how a table of films is to be read; `columns_of` reads the first."""
    p.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        default=[],
        metavar="WHAT=COLUMN",
        help=f"what the table's columns are, such as id=tconst overview=title,plot; of {', '.join(_ROLES)}",
    )
    p.add_argument("--encoding", metavar="NAME", help="of the table, as Python calls it (default: found out)")
    p.add_argument("--separator", metavar="C", help="between the cells of a CSV (default: found out)")


def overrides_of(named: Mapping[str, object]) -> dict[str, object]:
    """Gives settings by dotted key.

    Args:
        named: by the names in `KEYS`; None and False say nothing.
    """
    found = {KEYS[name]: value for name, value in named.items() if value is not None and value is not False}
    if found.get("data.data_dir") or found.get("data.file"):
        found.setdefault("data.dataset", "films")
    return {key: str(value) if isinstance(value, Path) else value for key, value in found.items()}


def other_films(
    own: DataConfig,
    *,
    films: str | Path | None,
    data_dir: str | Path | None,
    named: Mapping[str, object],
    labelled: bool,
    encoding: str | None,
    separator: str | None,
    keep_placeholders: bool,
    **settings: object,
) -> DataConfig:
    """Names other films for a finished run to be asked about.

    Columns that are not named are called as those of the run's own films were, so that it reads what it has learned
    to read, and placeholders are kept if it was trained on them. The encoding and the separator are the
    table's own, named or found out. Their split does not matter.

    Args:
        own: the run's films.
        films: a table; None: the one in `data_dir`.
        data_dir: the folder below which the posters are; None: the table's own.
        named: what the table's columns are, as `columns_of` gives it.
        labelled: whether their genres are wanted.
        encoding: of the table; None: found out.
        separator: of its cells; None: found out.
        keep_placeholders: read them like others, whatever the run did.
        settings: others of the films, by name.

    Raises:
        UserError: a file or folder is not there, or a column cannot be named.
    """
    if films:
        _check_file("--films", films)
    if data_dir and not Path(data_dir).is_dir():
        raise UserError(f"--data-dir {data_dir}: there is no such folder")
    roles = ("id", "overview", "poster", *(["genres"] if labelled else []))
    for role, key in _ROLES.items():
        if key in named and role not in roles:
            raise UserError(f"--columns {role} does nothing here; leave it out")
    inherited = {_ROLES[role]: value for role in roles if (value := getattr(own.columns, role))}
    values = {
        "dataset": "films",
        "file": str(Path(films).resolve()) if films else "",
        "data_dir": str(Path(data_dir).resolve()) if data_dir else "",
        "encoding": encoding or "",
        "separator": separator or "",
        "keep_placeholders": own.keep_placeholders or keep_placeholders,
        "columns.split": NO_COLUMN,
        "columns.group": NO_COLUMN,
        **settings,
    }
    overrides = {f"data.{name}": value for name, value in values.items()} | inherited | dict(named)
    return resolve("overview", overrides=overrides).data


def columns_of(words: Sequence[str]) -> dict[str, object]:
    """Gives the settings of `--columns`, by dotted key.

    Args:
        words: such as "id=tconst" and "overview=title,plot".

    Raises:
        UserError: one is not of that form, or says something twice.
    """
    found = {}
    for word in words:
        role, equals, named = word.partition("=")
        if not equals or not named:
            raise UserError(f"--columns {word}: write WHAT=COLUMN, of {', '.join(_ROLES)}")
        if role in found:
            raise UserError(f"--columns {word}: {role} is named twice; columns are parted by commas")
        found[role] = named.split(",") if role in _OF_MORE else named
    return keys_of(found)


def keys_of(columns: Mapping[str, str | Sequence[str]]) -> dict[str, object]:
    """Gives the settings that say what a table's columns are, by dotted key.

    Args:
        columns: their names by what they say.

    Raises:
        UserError: nothing is called so, or one column is wanted and more are named.
    """
    found = {}
    for role, named in columns.items():
        if role not in _ROLES:
            raise UserError(f"--columns {role}: a column is one of {', '.join(_ROLES)}")
        names = [named] if isinstance(named, str) else list(named)
        if role not in _OF_MORE and len(names) != 1:
            raise UserError(f"--columns {role}: it is one column, not {len(names)}")
        found[_ROLES[role]] = names if role in _OF_MORE else names[0]
    return found


def configure(args: argparse.Namespace, variant: str, seed: int | None) -> Config:
    """Builds the configuration that the flags ask for, for one variant and seed (None: the recipe's).

    Raises:
        UserError: see `configured`.
    """
    overrides = settled(args)
    if seed is not None:
        overrides["seed"] = seed
    return configured(variant, recipe=args.recipe or "default", file=args.config, overrides=overrides)


def configured(variant: str, *, recipe: str, file: Path | None, overrides: dict[str, object]) -> Config:
    """Builds a configuration in which every folder and file is named from the root.

    So `--resume` finds films and presets from any folder.

    Raises:
        UserError: a folder or a file is not there; or see `mmfusion.config.resolve`.
    """
    config = resolve(variant, recipe=recipe, file=file, overrides=overrides)
    absolute = {}
    data = config.data
    if data.data_dir:
        data = data.model_copy(update={"data_dir": str(Path(data.data_dir).resolve())})
    for flag, key in (("--films", "file"), ("--split-file", "split_file")):
        if named := getattr(data, key):
            _check_file(flag, named)
            data = data.model_copy(update={key: str(Path(named).resolve())})
    absolute["data"] = data
    if config.table.file:
        _check_file("--table", config.table.file)
        absolute["table"] = config.table.model_copy(update={"file": str(Path(config.table.file).resolve())})
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


def _check_file(flag: str, named: str | Path) -> None:
    if Path(named).is_dir():
        raise UserError(f"{flag} {named} is a folder; name the file")
    if not Path(named).is_file():
        raise UserError(f"{flag} {named}: there is no such file")


def settled(args: argparse.Namespace) -> dict[str, object]:
    """Gives by dotted key the settings that the flags name one by one.

    Raises:
        UserError: `--set` cannot be read, or names what another flag says.
    """
    return combined(dict(map(_setting, args.set)), _named(args), flags_of(args))


def combined(given: Mapping[str, object], named: Mapping[str, object], how: Mapping[str, str]) -> dict[str, object]:
    """Puts settings that are given by key together with those that have a flag or an argument.

    Args:
        given: by dotted key.
        named: likewise.
        how: by dotted key, what names those.

    Raises:
        UserError: both name a setting, or a key is chosen otherwise.
    """
    for key, value in given.items():
        if (first := key.partition(".")[0]) in _OTHER_FLAGS:
            raise UserError(f"{key}={value}: {first} is chosen with {_OTHER_FLAGS[first]}")
        if key in named and named[key] != value:
            raise UserError(f"{key}={value}: {how[key]} says {named[key]}; leave out one of the two")
    return {**given, **named}


def flags_of(args: argparse.Namespace) -> dict[str, str]:
    """Gives by dotted key how the command line names each of these settings."""
    by_set = {_setting(text)[0]: f"--set {text}" for text in args.set}
    flags = {key: f"--{name.replace('_', '-')}" for name, key in KEYS.items()}
    flags |= {key: f"--columns {role}" for role, key in _ROLES.items()}
    return by_set | {key: flags[key] for key in _named(args)}


def words_of_films(config: Config) -> list[str]:
    """Gives the flags that name the films of a configuration and its seeds, as a command line has them."""
    flags = {key: f"--{name.replace('_', '-')}" for name, key in KEYS.items()}
    words, columns = [], []
    for key, value in {f"data.{name}": value for name, value in config.data}.items():
        if key == "data.columns":
            named = {role: of for role, of in value if of and role != "group"}
            columns = [f"{role}={of if isinstance(of, str) else ','.join(of)}" for role, of in named.items()]
            words += ["--group-by", value.group] if value.group else []
        elif value is True:
            words.append(flags[key])
        elif key in flags and value:
            words += [flags[key], value]
    words += ["--table", config.table.file] if config.table.file else []
    words += ["--columns", *columns] if columns else []
    words += ["--seed", str(config.seed)]
    return words if config.split_seed == config.seed else [*words, "--split-seed", str(config.split_seed)]


def _named(args: argparse.Namespace) -> dict[str, object]:
    """The settings that have a flag of their own."""
    return overrides_of({name: getattr(args, name) for name in KEYS}) | columns_of(args.columns)


def say_which_films(config: Config, dataset: str | None) -> None:
    """Tells where films are made up: nobody should take them for real ones."""
    if config.data.dataset == "synthetic" and not dataset:
        print("No --data-dir: using the embedded default, --dataset synthetic.", flush=True)


def _setting(text: str) -> tuple[str, object]:
    """`KEY=VALUE` with the value as in TOML; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
