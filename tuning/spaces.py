"""Spaces of each variant's search: hyperparameters under the names that they have in a config file.

A hyperparameter is a setting of `mmfusion.config.Config`; nothing here knows a layer. The value that the
search starts from is always among a hyperparameter's values, so the starting configuration is a point of
the space. For late fusion a modality before a name (`poster.`) says which part's setting it is.
"""

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Boolean, Float, HyperParameter

from mmfusion.config import OPERATORS, Config, override, variants
from mmfusion.config.idle import acts_nowhere
from mmfusion.models.registry import class_of

# By dotted key, as `spaces.toml` has them: a list of values to choose from, or a range.
SPACE: dict[str, Any] = {
    f"{section}.{name}": [*getattr(variants, values)] if isinstance(values, str) else values
    for section, settings in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items()
    for name, values in settings.items()
}


def space_of(start: Mapping[str, Config]) -> dict[str, tuple[str, str, Any]]:
    """Gives what can be searched, by name: whose setting it is, its key, and its values as in `SPACE`.

    Args:
        start: a configuration for the variant, and for late fusion one for each of its parts, which come first.
    """
    *parts, variant = start
    found, own = {}, _read(start[variant])
    for part in parts:
        for key, values in _read(start[part]).items():
            found[f"{part}.{key}"] = part, key, values
            own.pop(key, None)  # late fusion reads what its parts read, and trains nothing
    return found | {key: (variant, key, values) for key, values in own.items()}


def _read(config: Config) -> dict[str, Any]:
    """Those of `SPACE` without which a model of this configuration would be the same are left out."""
    found = {key: values for key, values in SPACE.items() if not acts_nowhere(key, [config], {})}
    if "joint.operator" in found and len(config.reads) != 2:
        found["joint.operator"] = [name for name in OPERATORS if not class_of(OPERATORS[name]).for_two]
    return found


def declare(start: Mapping[str, Config], names: Collection[str]) -> keras_tuner.HyperParameters:
    """The hyperparameters of these names, each with the starting configuration's value as its default.

    Args:
        start: a configuration for the variant, and for late fusion one for each of its parts.
        names: what to search.
    """
    space = keras_tuner.HyperParameters()
    for name, (owner, key, values) in space_of(start).items():
        if name not in names:
            continue
        default = attrgetter(key)(start[owner])
        if isinstance(values, dict):
            low, high = min(values["low"], default), max(values["high"], default)
            sampling = "log" if values.get("log") and low > 0 else "linear"
            space.Float(name, low, high, sampling=sampling, default=default)
        elif isinstance(default, bool):
            space.Boolean(name, default=default)  # a choice of KerasTuner's would make numbers of them
        else:
            values = list(dict.fromkeys(encode(value) for value in [*values, default]))
            if not isinstance(default, str):
                values.sort(key=decode)  # a search by a model of the scores takes neighbours for alike
            if len(values) > 1:
                space.Choice(name, values, default=encode(default))
    return space


def configure(start: Mapping[str, Config], values: Mapping[str, object]) -> dict[str, Config]:
    """The starting configurations with a trial's values in their place.

    Args:
        start: as above.
        values: of hyperparameters, by name, as KerasTuner keeps them; others are passed over.

    Raises:
        UserError: the values do not fit each other or the configuration.
    """
    changes: dict[str, dict] = {owner: {} for owner in start}
    for name, (owner, key, _) in space_of(start).items():
        if name in values:
            changes[owner][key] = decode(values[name])
    where = "the search's hyperparameters"
    return {owner: override(config, changes[owner], where=where) for owner, config in start.items()}


def places(one: HyperParameter, values: Iterable) -> np.ndarray:
    """Places values from 0 to 1 in a hyperparameter's range or among its choices.

    Args:
        one: of a space.
        values: of it, decoded.
    """
    if isinstance(one, Float):
        return np.array([one.value_to_prob(value) for value in values])
    found = [encode(value) for value in values]
    among: list = sorted(one.values) if isinstance(one, Boolean) else list(dict.fromkeys([*one.values, *found]))
    return np.array([among.index(value) for value in found]) / max(1, len(among) - 1)


def encode(value):
    """KerasTuner's choices are numbers and words; a list goes in as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def decode(value):
    """A setting's value from that of its hyperparameter; three digits of a number are enough to say it."""
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return float(f"{value:.3g}") if isinstance(value, float) else value
