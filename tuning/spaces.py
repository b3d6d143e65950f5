"""Spaces of each variant's search: hyperparameters under the names that they have in a config file.

A hyperparameter is a setting of `mmfusion.config.Config`; nothing here knows a layer. The value that the
search starts from is always among a hyperparameter's values, so the starting configuration is a point of
the space. For late fusion a modality before a name (`poster.`) says which part's setting it is.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import keras_tuner

from mmfusion.config import COMBINERS, LOSSES, OPERATORS, VARIANTS, Config, override
from mmfusion.config.idle import acts_nowhere
from mmfusion.config.variants import kind_of
from mmfusion.models.registry import class_of


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple

    def declare(self, space: keras_tuner.HyperParameters, name: str, start) -> None:
        if isinstance(start, bool):
            space.Boolean(name, default=start)
            return
        values = self.values if start in self.values else (*self.values, start)
        if not isinstance(start, str):
            values = sorted(values)  # a search by a model of the scores takes neighbours for alike
        if len(values) > 1:
            space.Choice(name, [_encode(v) for v in values], default=_encode(start))


@dataclass(frozen=True)
class Range:
    """A number between two others; `log` draws its logarithm evenly."""

    low: float
    high: float
    log: bool = False

    def declare(self, space: keras_tuner.HyperParameters, name: str, start: float) -> None:
        low, high = min(self.low, start), max(self.high, start)
        sampling = "log" if self.log and low > 0 else "linear"
        space.Float(name, low, high, sampling=sampling, default=start)


_AUGMENT = {"augment": Choice((False, True))}
_PIXELS = {"poster_size": Choice((48, 64, 80))} | _AUGMENT
_WORDS = {"vocabulary_size": Choice((5_000, 10_000, 20_000))}
_DENSE = {
    "dense_units": Choice(((), (128,), (256,), (512,))),
    "dense_dropout": Range(0.2, 0.7),
}
# By the encoder's name in the starting configuration; only that one is searched.
_POSTER_ENCODERS = {
    "cnn": _PIXELS
    | {
        "filters": Choice(((16, 32, 64), (16, 32, 64, 128), (24, 48, 96), (24, 48, 96, 192))),
        "dropout": Range(0.0, 0.4),
        "pooling": Choice(("average", "flatten")),
    }
    | _DENSE,
    "resnet": _PIXELS
    | {
        "filters": Choice(((16, 32, 64), (32, 64, 128), (32, 64, 128, 256), (48, 96, 192))),
        "dropout": Range(0.0, 0.4),
    }
    | _DENSE,
    "preset": _AUGMENT | {"dropout": Range(0.0, 0.6)} | _DENSE,
}
_OVERVIEW_ENCODERS = {
    "bilstm": _WORDS
    | {
        "embedding_dim": Choice((64, 128, 256)),
        "embedding_dropout": Range(0.0, 0.6),
        "lstm_units": Choice(((32,), (64,), (64, 64), (128,))),
        "dropout": Range(0.0, 0.6),
        "pooling": Choice(("last", "max")),
    }
    | _DENSE,
    "bag": _WORDS
    | {
        "embedding_dim": Choice((64, 128, 256)),
        "pairs": Choice((0, 50_000, 200_000)),
        "ngrams": Choice((0, 5_000, 20_000)),
        "embedding_dropout": Range(0.0, 0.7),
    }
    | _DENSE,
    "preset": {"dropout": Range(0.0, 0.6)} | _DENSE,
}
_TABLE_ENCODERS = {"mlp": {"embedding_dim": Choice((4, 8, 16, 32))} | _DENSE}
# By the section that a variant reads.
ENCODERS = {
    "poster_encoder": _POSTER_ENCODERS,
    "overview_encoder": _OVERVIEW_ENCODERS,
    "table_encoder": _TABLE_ENCODERS,
}
TRAINING = {
    "training.loss": Choice(LOSSES),
    "training.learning_rate": Range(2e-4, 4e-3, log=True),
    "training.hold_epochs": Choice((3, 6, 10)),
    "training.decay": Range(0.03, 0.3, log=True),
    "training.weight_decay": Choice((0.0, 0.001, 0.01, 0.1)),
    "training.label_smoothing": Choice((0.0, 0.02, 0.05, 0.1)),
}
EARLY_FEATURES = {"early_features.units": Choice((256, 512, 1024)), "early_features.dropout": Range(0.2, 0.8)}
EARLY = {
    **{f"early.{name}": values for name, values in (_PIXELS | _WORDS).items()},
    "early.patch_size": Choice((8, 16)),
    "early.width": Choice((64, 128, 192)),
    "early.heads": Choice((2, 4, 8)),
    "early.blocks": Choice((1, 2, 3)),
    "early.dropout": Range(0.1, 0.5),
}
JOINT = {
    "joint.operator": Choice(tuple(OPERATORS)),
    "joint.units": Choice((128, 256, 512)),
    "joint.dropout": Range(0.2, 0.7),
}


# By the section that a variant reads, beside those of encoders.
SECTIONS = {
    "early": EARLY,
    "early_features": EARLY_FEATURES,
    "joint": JOINT,
    "late": {"late.combiner": Choice(COMBINERS)},
}


def space_of(start: Mapping[str, Config]) -> dict[str, Choice | Range]:
    """Gives what can be searched, by name.

    Args:
        start: a configuration for the variant, and for late fusion one for each of its parts, which come first.
    """
    *parts, variant = start.values()
    own = {name: values for section in variant.sections for name, values in SECTIONS.get(section, {}).items()}
    own = {name: values for name, values in own.items() if not acts_nowhere(name, [variant], {})}
    if len(variant.reads) != 2 and "joint.operator" in own:
        own["joint.operator"] = Choice(tuple(name for name in OPERATORS if not class_of(OPERATORS[name]).for_two))
    if not parts:
        return _of_encoders(variant) | own | TRAINING
    of_parts = {}
    for part in parts:
        of_parts |= {f"{part.variant}.{name}": values for name, values in (_of_encoders(part) | TRAINING).items()}
    return of_parts | own


def _of_encoders(config: Config) -> dict:
    """Settings of the encoders that this configuration's variant trains."""
    if VARIANTS[config.variant].joins_features:
        return {}
    read = [section for section in ENCODERS if section in config.sections]
    return {name: values for section in read for name, values in _of_encoder(section, config).items()}


def _of_encoder(section: str, config: Config) -> dict:
    kind = kind_of(getattr(config, section).name)
    found = {f"{section}.{kind}.{key}": values for key, values in ENCODERS[section].get(kind, {}).items()}
    return {name: values for name, values in found.items() if not acts_nowhere(name, [config], {})}


def declare(start: Mapping[str, Config], names: Collection[str]) -> keras_tuner.HyperParameters:
    """The hyperparameters of these names, each with the starting configuration's value as its default.

    Args:
        start: a configuration for the variant, and for late fusion one for each of its parts.
        names: what to search.
    """
    space = keras_tuner.HyperParameters()
    for name, values in space_of(start).items():
        if name in names:
            owner, key = _owner(name, start)
            values.declare(space, name, _get(start[owner], key))
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
    known = space_of(start)
    for name, value in values.items():
        if name not in known:
            continue
        owner, key = _owner(name, start)
        changes[owner][key] = decode(value)
    return {
        owner: override(config, changes[owner], where="the search's hyperparameters")
        for owner, config in start.items()
    }


def _owner(name: str, start: Mapping[str, Config]) -> tuple[str, str]:
    """Whose setting a hyperparameter is, and the setting's name."""
    *parts, variant = start
    owner, _, key = name.partition(".")
    return (owner, key) if owner in parts and key.count(".") else (variant, name)


def _get(config: Any, key: str):
    value = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _encode(value):
    """KerasTuner's choices are numbers and words; a list goes in as JSON."""
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def decode(value):
    """A setting's value from that of its hyperparameter; three digits of a number are enough to say it."""
    if isinstance(value, str) and value.startswith("["):
        return json.loads(value)
    return float(f"{value:.3g}") if isinstance(value, float) else value
