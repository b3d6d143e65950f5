"""The networks on one modality by name: what a configuration asks for, ready to be handed to a model."""

from collections.abc import Callable

import keras

from mmfusion.config import ENCODERS, Config, is_preset
from mmfusion.config.sections import of_layers
from mmfusion.models.presets import overview_preset_encoder, poster_preset_encoder
from mmfusion.models.registry import class_of
from mmfusion.models.wide import WidePath
from mmfusion.schema import OVERVIEW, POSTER, TABLE

_PRESETS: dict[str, Callable] = {POSTER: poster_preset_encoder, OVERVIEW: overview_preset_encoder}
# What an encoder is made with beside its settings, of what the training films settled.
_SIZES: dict[str, Callable] = {
    OVERVIEW: lambda config: (config.vocabulary_size,),
    TABLE: lambda config: (config.table.values,),
}


def encoder_of(modality: str, config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """Builds the network on one modality that a configuration names.

    Args:
        modality: posters, say.
        config: of the run; its section for the encoder has what it is made with.
        as_sequence: give a vector for each place, word or column instead of one a film.
    """
    section = f"{modality}_encoder"
    chosen = getattr(config, section)
    if is_preset(chosen.name):
        return _PRESETS[modality](config, as_sequence=as_sequence)
    own = getattr(chosen, chosen.name, None)
    settings = of_layers(own) if own else {}  # one of your own may have none
    sizes = _SIZES.get(modality, lambda config: ())(config)
    return class_of(ENCODERS[modality][chosen.name])(*sizes, **settings, as_sequence=as_sequence, name=section)


def wide_path(config: Config, num_genres: int) -> WidePath | None:
    """Builds the linear path from overviews' words to genres; None where a configuration has none."""
    return WidePath(config.vocabulary_size, num_genres, name="wide") if config.has_wide_path else None


def poster_encoder(config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """Builds the network on posters; see `models.poster_encoders` and `models.presets`."""
    return encoder_of(POSTER, config, as_sequence=as_sequence)


def overview_encoder(config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """Builds the network on overviews; see `models.overview_encoders` and `models.presets`."""
    return encoder_of(OVERVIEW, config, as_sequence=as_sequence)
