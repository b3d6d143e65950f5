"""Spaces of each variant's search: hyperparameters under the names that they have in a config file.

A hyperparameter is a setting of `mmfusion.config.Config`; nothing here knows a layer. The value that the
search starts from is always among a hyperparameter's values, so the starting configuration is a point of
the space. For late fusion a modality before a name (`poster.`) says which part's setting it is.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Boolean, Float, HyperParameter

from mmfusion.config import COMBINERS, LOSSES, OPERATORS, Config, override
from mmfusion.config.idle import acts_nowhere
from mmfusion.models.registry import class_of


@dataclass(frozen=True)
class Range:
    """A number between two others; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False


Values = Range | Sequence  # a sequence: one of them


def _of(section: str, **settings: Values) -> dict[str, Values]:
    return {f"{section}.{name}": values for name, values in settings.items()}


_AUGMENT = {"augment": (False, True)}
_PIXELS = {"poster_size": (48, 64, 80), **_AUGMENT}
_WORDS = {"vocabulary_size": (5_000, 10_000, 20_000)}
_DENSE = {"dense_units": ((), (128,), (256,), (512,)), "dense_dropout": Range(0.2, 0.7)}
# What can be searched, by its name in a config file; of these a variant's search has what the variant reads.
SPACE = {
    **_of(
        "poster_encoder.cnn",
        **_PIXELS,
        filters=((16, 32, 64), (16, 32, 64, 128), (24, 48, 96), (24, 48, 96, 192)),
        dropout=Range(0.0, 0.4),
        pooling=("average", "flatten"),
        **_DENSE,
    ),
    **_of(
        "poster_encoder.resnet",
        **_PIXELS,
        filters=((16, 32, 64), (32, 64, 128), (32, 64, 128, 256), (48, 96, 192)),
        dropout=Range(0.0, 0.4),
        **_DENSE,
    ),
    **_of("poster_encoder.preset", **_AUGMENT, dropout=Range(0.0, 0.6), **_DENSE),
    **_of(
        "overview_encoder.bilstm",
        **_WORDS,
        embedding_dim=(64, 128, 256),
        embedding_dropout=Range(0.0, 0.6),
        lstm_units=((32,), (64,), (64, 64), (128,)),
        dropout=Range(0.0, 0.6),
        pooling=("last", "max"),
        **_DENSE,
    ),
    **_of(
        "overview_encoder.bag",
        **_WORDS,
        embedding_dim=(64, 128, 256),
        pairs=(0, 50_000, 200_000),
        ngrams=(0, 5_000, 20_000),
        embedding_dropout=Range(0.0, 0.7),
        **_DENSE,
    ),
    **_of("overview_encoder.preset", dropout=Range(0.0, 0.6), **_DENSE),
    **_of("table_encoder.mlp", embedding_dim=(4, 8, 16, 32), **_DENSE),
    **_of(
        "early",
        **_PIXELS,
        **_WORDS,
        patch_size=(8, 16),
        width=(64, 128, 192),
        heads=(2, 4, 8),
        blocks=(1, 2, 3),
        dropout=Range(0.1, 0.5),
    ),
    **_of("early_features", units=(256, 512, 1024), dropout=Range(0.2, 0.8)),
    **_of("joint", operator=tuple(OPERATORS), units=(128, 256, 512), dropout=Range(0.2, 0.7)),
    **_of("late", combiner=COMBINERS),
    **_of(
        "training",
        loss=LOSSES,
        learning_rate=Range(2e-4, 4e-3, log=True),
        hold_epochs=(3, 6, 10),
        decay=Range(0.03, 0.3, log=True),
        weight_decay=(0.0, 0.001, 0.01, 0.1),
        label_smoothing=(0.0, 0.02, 0.05, 0.1),
    ),
}


@dataclass(frozen=True)
class Hyperparameter:
    """A setting that is searched.

    Args:
        owner: the variant whose it is, or for late fusion the part.
        key: the setting, dotted.
        values: to choose from.
    """

    owner: str
    key: str
    values: Values


def space_of(start: Mapping[str, Config]) -> dict[str, Hyperparameter]:
    """Gives what can be searched, by name.

    Args:
        start: a configuration for the variant, and for late fusion one for each of its parts, which come first.
    """
    *parts, variant = start
    found, own = {}, _read(start[variant])
    for part in parts:
        for key, values in _read(start[part]).items():
            found[f"{part}.{key}"] = Hyperparameter(part, key, values)
            own.pop(key, None)  # late fusion reads what its parts read, and trains nothing
    return found | {key: Hyperparameter(variant, key, values) for key, values in own.items()}


def _read(config: Config) -> dict[str, Values]:
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
    for name, one in space_of(start).items():
        if name not in names:
            continue
        default = attrgetter(one.key)(start[one.owner])
        if isinstance(one.values, Range):
            low, high = min(one.values.low, default), max(one.values.high, default)
            sampling = "log" if one.values.log and low > 0 else "linear"
            space.Float(name, low, high, sampling=sampling, default=default)
            continue
        if isinstance(default, bool):
            space.Boolean(name, default=default)  # a choice of KerasTuner's would make numbers of them
            continue
        values = list(dict.fromkeys([*one.values, default]))
        if not isinstance(default, str):
            values.sort()  # a search by a model of the scores takes neighbours for alike
        if len(values) > 1:
            space.Choice(name, [encode(value) for value in values], default=encode(default))
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
    for name, one in space_of(start).items():
        if name in values:
            changes[one.owner][one.key] = decode(values[name])
    return {
        owner: override(config, changes[owner], where="the search's hyperparameters")
        for owner, config in start.items()
    }


def places(one: HyperParameter, values: Iterable) -> np.ndarray:
    """Places values from 0 to 1 in a hyperparameter's range or among its choices.

    Args:
        one: of a space.
        values: of it, decoded.
    """
    found = [encode(value) for value in values]
    if isinstance(one, Float):
        return np.array([one.value_to_prob(value) for value in found])
    among: list = sorted(one.values) if isinstance(one, Boolean) else list(dict.fromkeys([*one.values, *found]))
    return np.array([among.index(value) / max(1, len(among) - 1) for value in found])


def encode(value):
    """KerasTuner's choices are numbers and words; a list goes in as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def decode(value):
    """A setting's value from that of its hyperparameter; three digits of a number are enough to say it."""
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return float(f"{value:.3g}") if isinstance(value, float) else value
