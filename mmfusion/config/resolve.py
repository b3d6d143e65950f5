"""Recipes, files and the command line, put together.

A *recipe*, shipped in `mmfusion/recipes/NAME.toml`, holds what it changes of the defaults in
`mmfusion.config.sections`. A config file has the same form and lies over the recipe. In both, a table
`[variants.NAME.SECTION]` holds for one variant only.
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from mmfusion.config.messages import first_problem
from mmfusion.config.run import Config
from mmfusion.config.sections import DataConfig
from mmfusion.config.variants import VARIANTS, Variant
from mmfusion.errors import UserError


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    folder = resources.files("mmfusion") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def resolve(
    variant: str,
    *,
    recipe: str = "default",
    file: Path | None = None,
    overrides: dict | None = None,
) -> Config:
    """Puts together the configuration of one run: recipe, then file, then overrides.

    Args:
        variant: a name from `VARIANTS`.
        recipe: a name from `recipe_names`.
        file: a TOML file in the form of a recipe; it may hold only what differs.
        overrides: values by dotted key, such as `{"training.epochs": 3}`.

    Raises:
        UserError: an unknown recipe or key, a value of the wrong type or out of range, a bad file.
    """
    values, where = _values(variant, recipe, file)
    config = _build(values, where)
    given = {}
    for key, value in (overrides or {}).items():
        given = _merge(given, _nested(key, value))
    try:
        return from_dict({**_merge(values, given), "variant": variant, "recipe": recipe}, where="the command line")
    except UserError:
        _check_together(config, where)  # what was wrong before is not laid to the command line
        raise


def of_recipe(variant: str, recipe: str, file: Path | None = None) -> Config:
    """Builds a variant's configuration of a recipe and a file; it may lack what has to be told, such as presets.

    Raises:
        UserError: see `resolve`.
    """
    return _build(*_values(variant, recipe, file))


def _values(variant: str, recipe: str, file: Path | None) -> tuple[dict, str]:
    """Merges a recipe and a file for a variant; gives plain values, and a name for the two in errors."""
    if recipe not in recipe_names():
        raise UserError(f"unknown recipe {recipe!r}; there are: {', '.join(recipe_names())}")
    text = (resources.files("mmfusion") / "recipes" / f"{recipe}.toml").read_text("utf-8")
    values = _for_variant(tomllib.loads(text), variant, where=f"recipe {recipe}")
    if file is not None:
        values = _merge(values, _for_variant(_read_toml(file), variant, where=str(file)))
    if variant in VARIANTS:  # whatever the recipe and the file name
        values = _merge(values, {section: {"name": name} for section, name in VARIANTS[variant].encoders})
    return {**values, "variant": variant, "recipe": recipe}, str(file or f"recipe {recipe}")


# Of a call, and in no file: which films, which seeds, and for how long.
_OF_A_CALL = {"variant", "recipe", "seed", "split_seed", "table.file", "training.epochs"}
_OF_A_CALL |= {f"data.{name}" for name in DataConfig.model_fields if name not in ("split", "batch_size")}


def differing(configs: Mapping[str, Config]) -> dict:
    """Gives what configurations have otherwise than their recipe, as the tables of a config file.

    Args:
        configs: of the parts of a variant, by variant, and last its own.
    """
    *parts, variant = configs
    recipe = configs[variant].recipe
    found = _differing(configs[variant], of_recipe(variant, recipe))
    of_parts = {}
    for part in parts:
        # What stands above all holds for the parts too, so they are compared with that.
        given = _build(_merge(of_recipe(part, recipe).to_dict(), found), "the settings of all")
        of_parts |= {part: tables} if (tables := _differing(configs[part], given)) else {}
    return found | ({"variants": of_parts} if of_parts else {})


def _differing(config: Config, other: Config) -> dict:
    found, others = {}, other.to_dict()
    for section, values in config.to_dict().items():
        below = others[section]
        if isinstance(values, dict):
            own = {key: value for key, value in values.items() if f"{section}.{key}" not in _OF_A_CALL}
            values, below = {key: value for key, value in own.items() if value != below[key]}, {}
        if values != below and section not in _OF_A_CALL:
            found[section] = values
    return found


def override(config: Config, values: dict, *, where: str) -> Config:
    """The same configuration with other values by dotted key, such as `{"training.epochs": 3}`.

    Raises:
        UserError: see `resolve`; `where` names the values' origin.
    """
    changed = config.to_dict()
    for key, value in values.items():
        changed = _merge(changed, _nested(key, value))
    return from_dict({**changed, "variant": config.variant, "recipe": config.recipe}, where=where)


def from_dict(values: dict, *, where: str) -> Config:
    """Builds a `Config` from plain dicts; `where` names their origin in errors.

    Raises:
        UserError: a key that is unknown or missing, a value of the wrong type or out of range.
    """
    config = _build(values, where)
    _check_together(config, where)
    return config


def _build(values: dict, where: str) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error, Config)}") from error


def _nested(key: str, value) -> dict:
    """{"a": {"b": value}} of the dotted key "a.b"."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _check_together(config: Config, where: str) -> None:
    """Refuses values that are good each by itself but not beside the others.

    Raises:
        UserError: it names them.
    """
    # The first convolution halves a poster, rounded up, and every further entry halves it, rounded down.
    cnn = config.poster_encoder.cnn
    size, layers = cnn.poster_size, len(cnn.filters)
    if (size + 1) // 2 < 2 ** (layers - 1):
        raise UserError(
            f"{where}: poster_encoder.cnn.filters has {layers} entries, too many for posters of {size} pixels"
        )
    if config.fine_tuning.fine_tune and not config.presets:
        raise UserError(
            f"{where}: fine-tuning trains presets, and neither encoder is one; name it as preset:NAME_OR_FOLDER"
        )
    variant = VARIANTS.get(config.variant, Variant(""))
    for section, name in variant.encoders:
        if getattr(config, section).name != name:
            raise UserError(
                f"{where}: {config.variant} has the encoder {name}, not {getattr(config, section).name}; "
                f"--variant {config.reads[0]} takes any"
            )
    read_by_presets = {modality for modality in config.reads if modality.section in config.sections}
    if variant.joins_features and (config.fine_tuning.fine_tune or read_by_presets - config.presets.keys()):
        raise UserError(
            f"{where}: {config.variant} joins the features of frozen presets; name a preset for "
            f"{' and '.join(sorted(read_by_presets))}, without fine-tuning"
        )


def _read_toml(file: Path) -> dict:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid TOML: {error}") from error


def _for_variant(values: dict, variant: str, where: str) -> dict:
    """Drops the `variants` table after laying the one variant's values over the rest."""
    values = dict(values)
    for key in ("variant", "recipe"):
        if key in values:
            raise UserError(f"{where}: {key} is chosen on the command line, not in a file")
    tables = values.pop("variants", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UserError(f"{where}: write [variants.NAME.SECTION] tables")
    return _merge(values, tables.get(variant, {}))


def _merge(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
