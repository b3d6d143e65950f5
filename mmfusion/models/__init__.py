"""The variants: where, if anywhere, the modalities meet. Every model gives logits (B, G).

To import this package is to register every class that a model's file may name with Keras.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

import keras

from mmfusion.config import ENCODERS, OPERATORS, VARIANTS
from mmfusion.errors import UserError
from mmfusion.models.registry import class_of
from mmfusion.schema import FIELDS, OVERVIEW, POSTER, TABLE


def model_class(variant: str):
    """The class of a variant.

    Raises:
        UserError: there is none of this name; a benchmark's baselines have no model, for one.
    """
    if variant not in VARIANTS:
        raise UserError(f"{variant!r} is no variant with a model; there are: {', '.join(VARIANTS)}")
    return class_of(VARIANTS[variant].model)


def build_model(config, num_genres: int, features: Mapping[str, Sequence[int]] = MappingProxyType({})):
    """Builds the model of `config.variant`, with all its weights made.

    Args:
        config: a `mmfusion.config.Config`.
        num_genres: G.
        features: the shape of a film's features, by the modality that a frozen preset has read.

    Returns:
        A `GenreModel` that takes what its variant reads, by modality, and gives float32 logits (B, G).
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.training.precision)  # for the layers that are made here
    try:
        model = model_class(config.variant).from_run_config(config, num_genres)
        size = config.poster_size
        if config.fine_tuning.fine_tune and POSTER in config.presets.keys() & config.encoders.keys():
            size = config.poster_encoder.preset.image_size
        height, width = size if isinstance(size, tuple) else (size, size)
        shapes = {POSTER: (None, height, width, 3), OVERVIEW: (None, None)}
        shapes[TABLE] = (None, len(config.table.columns), FIELDS)
        shapes |= {modality: (None, *shape) for modality, shape in features.items()}
        model.build({modality: shapes[modality] for modality in config.reads})
    finally:
        keras.config.set_dtype_policy(before)
    return model


_NAMED = [variant.model for variant in VARIANTS.values()] + [*OPERATORS.values()]
_NAMED += [name for of in ENCODERS.values() for name in of.values()]
for _file in {name.split(".")[0] for name in _NAMED} | {"optimizers"}:
    import_module(f"{__name__}.{_file}")
