"""Everything that a run decides: defaults, recipes, files and the command line, as frozen values."""

from mmfusion.config.resolve import differing, from_dict, of_recipe, override, recipe_names, resolve
from mmfusion.config.run import FINE_TUNED, Config
from mmfusion.config.sections import DataConfig
from mmfusion.config.variants import (
    AVERAGES,
    BALANCES,
    COMBINERS,
    DATASETS,
    ENCODER_SECTIONS,
    ENCODERS,
    LOSSES,
    OPERATORS,
    PRECISIONS,
    PRESET,
    VARIANTS,
    Variant,
    is_preset,
)

__all__ = [
    "AVERAGES",
    "BALANCES",
    "COMBINERS",
    "DATASETS",
    "ENCODERS",
    "ENCODER_SECTIONS",
    "FINE_TUNED",
    "LOSSES",
    "OPERATORS",
    "PRECISIONS",
    "PRESET",
    "VARIANTS",
    "Config",
    "DataConfig",
    "Variant",
    "differing",
    "from_dict",
    "is_preset",
    "of_recipe",
    "override",
    "recipe_names",
    "resolve",
]
