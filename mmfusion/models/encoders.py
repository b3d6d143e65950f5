"""The networks on one modality by name: what a configuration asks for, ready to be handed to a model."""

import keras

from mmfusion.config import Config, is_preset
from mmfusion.models.overview_encoders import BagEncoder, BiLSTMEncoder
from mmfusion.models.poster_encoders import CNNEncoder, ResNetEncoder
from mmfusion.models.presets import overview_preset_encoder, poster_preset_encoder
from mmfusion.models.table_encoders import MLPEncoder
from mmfusion.schema import OVERVIEW, POSTER, TABLE

# By the name in a config file, whose table of the same name has what the encoder is made with.
POSTER_ENCODERS = {"cnn": CNNEncoder, "resnet": ResNetEncoder}
OVERVIEW_ENCODERS = {"bilstm": BiLSTMEncoder, "bag": BagEncoder}
TABLE_ENCODERS = {"mlp": MLPEncoder}


def poster_encoder(config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """The network on posters that a configuration names; see `models.poster_encoders`, `models.presets`."""
    chosen = config.poster_encoder
    if is_preset(chosen.name):
        return poster_preset_encoder(config, as_sequence=as_sequence)
    settings = dict(getattr(chosen, chosen.name))
    return POSTER_ENCODERS[chosen.name](**settings, as_sequence=as_sequence, name="poster_encoder")


def overview_encoder(config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """The network on overviews that a configuration names; see `models.overview_encoders`, `models.presets`."""
    chosen = config.overview_encoder
    if is_preset(chosen.name):
        return overview_preset_encoder(config, as_sequence=as_sequence)
    settings = dict(getattr(chosen, chosen.name))
    size = config.data.vocabulary_size
    return OVERVIEW_ENCODERS[chosen.name](size, **settings, as_sequence=as_sequence, name="overview_encoder")


def table_encoder(config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """The network on tables that a configuration names; see `models.table_encoders`."""
    chosen = config.table_encoder
    settings = dict(getattr(chosen, chosen.name))
    return TABLE_ENCODERS[chosen.name](
        config.table.values, **settings, as_sequence=as_sequence, name="table_encoder"
    )


_MADE_BY = {POSTER: poster_encoder, OVERVIEW: overview_encoder, TABLE: table_encoder}


def encoder_of(modality: str, config: Config, *, as_sequence: bool = False) -> keras.Layer:
    """The network on one modality that a configuration names."""
    return _MADE_BY[modality](config, as_sequence=as_sequence)
