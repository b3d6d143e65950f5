"""Pretrained encoders: the one place that talks to keras-hub.

A *preset* is a pretrained backbone with its tokenizer or image converter, by its public name or in a folder.
A frozen one reads all films once, before any training (`mmfusion.training.features`), and what is trained are a few
layers on its features; with `fine_tuning.fine_tune` the backbone itself is a part of the model.
"""

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import requests
import tensorflow as tf
from keras import layers, ops

from mmfusion.config import PRESET, Config
from mmfusion.config.sections import of_layers
from mmfusion.errors import UserError, first_line
from mmfusion.network import reason, why_unreachable

_HUGGING_FACE = "hf://"  # before a preset's name; keras-hub has other names from Kaggle
_INSTALL = 'pip install -c constraints.txt -e ".[pretrained]"'


@keras.saving.register_keras_serializable(package="mmfusion")
class PosterBackbone(layers.Layer):
    """A pretrained network on pictures: posters (B, H, W, 3) float32 in [0, 1] -> a sequence of places.

    Returns:
        The feature map's places (B, S, C), and bool (B, S), which without a poster is false everywhere.

    Args:
        backbone: pictures in its own range -> feature map (B, H', W', C).
        scale: a picture's values from 0 to 255 are multiplied by this, ...
        offset: ... and this is added; a number, or one a channel.
    """

    def __init__(self, backbone: keras.Model, *, scale, offset, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.scale = scale
        self.offset = offset

    def call(self, poster):
        pictures = poster * 255.0 * ops.convert_to_tensor(self.scale, "float32")
        pictures = pictures + ops.convert_to_tensor(self.offset, "float32")
        # Never as in training: some thousand posters are too few to learn other statistics for batch normalisation.
        features = self.backbone(pictures, training=False)  # (B, H', W', C)
        height, width = ops.shape(features)[1], ops.shape(features)[2]
        sequence = ops.reshape(features, (-1, height * width, features.shape[-1]))  # (B, S, C)
        there = ops.any(ops.not_equal(poster, 0), axis=(1, 2, 3))
        there = ops.expand_dims(there, 1)  # (B, 1)
        return sequence, ops.logical_and(there, ops.ones_like(sequence[:, :, 0], "bool"))

    def get_config(self) -> dict:
        return {**super().get_config(), **_with_backbone(self), "scale": self.scale, "offset": self.offset}

    @classmethod
    def from_config(cls, config: dict) -> "PosterBackbone":
        return cls(**_revived(config))


@keras.saving.register_keras_serializable(package="mmfusion")
class OverviewBackbone(layers.Layer):
    """A pretrained network on texts: tokens (B, T) int32 of its own tokenizer -> a sequence of them.

    Returns:
        What it makes of each token (B, T, C), and bool (B, T), false at padding.

    Args:
        backbone: from what keras-hub's preprocessors give, by name, to (B, T, C).
        padding: the id that its tokenizer pads with.
    """

    def __init__(self, backbone: keras.Model, *, padding: int, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.padding = padding

    def call(self, tokens, training=False):
        mask = ops.not_equal(tokens, self.padding)  # (B, T)
        # Attention to nothing but padding is not defined: the first place is always shown; `mask` hides it again.
        shown = ops.concatenate([ops.ones_like(mask[:, :1]), mask[:, 1:]], axis=1)
        inputs = {
            "token_ids": tokens,
            "padding_mask": ops.cast(shown, "int32"),
            "segment_ids": ops.zeros_like(tokens),
        }
        return self.backbone({name: inputs[name] for name in self.backbone.input}, training=training), mask

    def get_config(self) -> dict:
        return {**super().get_config(), **_with_backbone(self), "padding": self.padding}

    @classmethod
    def from_config(cls, config: dict) -> "OverviewBackbone":
        return cls(**_revived(config))


@keras.saving.register_keras_serializable(package="mmfusion")
class PresetEncoder(layers.Layer):
    """Trained layers on a pretrained backbone: features (B, D), or a sequence (B, S, C) and its mask.

    Args:
        backbone: a `PosterBackbone` or `OverviewBackbone` that is trained too; None for a frozen one, whose
            features come instead of posters or tokens: (B, C) as `pooled` gives them, or with `as_sequence`
            (B, S, C), all zeros where there is nothing.
        groups: as many equal parts of the features, the backbone's layers, are normalised each by itself and have
            a first dense layer each.
        dropout: on its features.
        dense_units: sizes of the dense layers, of the first for each group; D is the last one, or with a single
            dense layer `groups` times it.
        dense_dropout: after each dense layer.
        as_sequence: give the sequence.
    """

    def __init__(
        self,
        backbone: layers.Layer | None = None,
        *,
        groups: int = 1,
        dropout: float,
        dense_units: Sequence[int],
        dense_dropout: float,
        as_sequence: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.groups = groups
        self.dropout = dropout
        self.dense_units = tuple(dense_units)
        self.dense_dropout = dense_dropout
        self.as_sequence = as_sequence
        self.norm = layers.LayerNormalization()
        self.drop = layers.Dropout(dropout)
        self.first, self.dense = [], []
        if not as_sequence and self.dense_units:
            self.first = [layers.Dense(self.dense_units[0], "relu") for _ in range(groups)]
            self.dense = [layers.Dense(units, "relu") for units in self.dense_units[1:]]
        self.dense_drop = layers.Dropout(dense_dropout)

    def build(self, input_shape):
        width = input_shape[-1]
        if self.backbone is not None:
            width = self.backbone.backbone.output.shape[-1]
        self.norm.build((None, self.groups, width // self.groups))
        for layer in self.first:
            layer.build((None, width // self.groups))
        if self.first:
            width = self.groups * self.dense_units[0]
        for layer in self.dense:
            layer.build((None, width))
            width = layer.units
        super().build(input_shape)

    def call(self, inputs, training=False):
        if self.backbone is None:
            sequence, mask = inputs, None
        elif isinstance(self.backbone, OverviewBackbone):
            sequence, mask = self.backbone(inputs, training=training)
        else:
            sequence, mask = self.backbone(inputs)
        if self.as_sequence:
            if mask is None:
                mask = ops.any(ops.not_equal(sequence, 0), axis=-1)  # (B, S)
            return self.drop(self.norm(sequence), training=training), mask
        features = sequence if mask is None else pooled(sequence, mask)  # (B, C)
        parts = ops.reshape(features, (-1, self.groups, features.shape[-1] // self.groups))
        parts = self.drop(self.norm(parts), training=training)  # (B, groups, C / groups)
        parts = [parts[:, group] for group in range(self.groups)]
        # A dense layer each: one on all of them together is worse (see tuning/TRIED.md).
        parts = [self.dense_drop(layer(part), training=training) for layer, part in zip(self.first, parts)] or parts
        features = ops.concatenate(parts, axis=-1)
        for layer in self.dense:
            features = self.dense_drop(layer(features), training=training)
        return features  # (B, D)

    def get_config(self) -> dict:
        names = "groups dropout dense_units dense_dropout as_sequence".split()
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "backbone": self.backbone and keras.saving.serialize_keras_object(self.backbone),
        }

    @classmethod
    def from_config(cls, config: dict) -> "PresetEncoder":
        return cls(**_revived(config))


def pooled(sequence, mask):
    """The mean of what there is: (B, S, C), bool (B, S) -> (B, C); zeros where there is nothing."""
    there = ops.expand_dims(ops.cast(mask, sequence.dtype), 2)  # (B, S, 1)
    return ops.sum(sequence * there, axis=1) / ops.maximum(ops.sum(there, axis=1), 1)


def poster_preset_encoder(config: Config, *, as_sequence: bool) -> PresetEncoder:
    """The encoder on `poster_encoder.name`, with the backbone in it where it is fine-tuned."""
    settings = of_layers(config.poster_encoder.preset)
    settings.pop("image_size")
    backbone = None
    if config.fine_tuning.fine_tune:
        backbone = load_poster_backbone(config)
        _choose_trained(backbone.backbone, config.fine_tuning.layers)
    return PresetEncoder(backbone, **settings, as_sequence=as_sequence, name="poster_encoder")


def overview_preset_encoder(config: Config, *, as_sequence: bool) -> PresetEncoder:
    """The encoder on `overview_encoder.name`, with the backbone in it where it is fine-tuned."""
    backbone = None
    if config.fine_tuning.fine_tune:
        backbone = load_overview_backbone(config, as_sequence=as_sequence)
        _choose_trained(backbone.backbone, config.fine_tuning.layers)
    settings = of_layers(config.overview_encoder.preset)
    groups = 1 if as_sequence else settings["layers"]
    settings.pop("layers")
    return PresetEncoder(backbone, groups=groups, **settings, as_sequence=as_sequence, name="overview_encoder")


def load_poster_backbone(config: Config) -> PosterBackbone:
    """The pretrained network that `poster_encoder.name` names.

    Raises:
        UserError: keras-hub is not installed, or there is no such preset or none for pictures.
    """
    name = config.poster_encoder.name
    converter = image_converter(config)
    backbone = _load(name, lambda hub, preset: hub.models.Backbone.from_preset(preset, load_weights=_eagerly()))
    if isinstance(backbone.input, dict) or len(backbone.input.shape) != 4 or len(backbone.output.shape) != 4:
        raise UserError(f"{name} is no backbone that makes a feature map of a picture")
    scale, offset = (1.0 if converter.scale is None else converter.scale, converter.offset or 0.0)
    return PosterBackbone(backbone, scale=scale, offset=offset)


def load_overview_backbone(config: Config, *, as_sequence: bool = False) -> OverviewBackbone:
    """The pretrained network that `overview_encoder.name` names.

    It gives `overview_encoder.preset.layers` of its last layers side by side, for a sequence the last alone.

    Raises:
        UserError: keras-hub is not installed, or there is no such preset or none for texts.
    """
    name = config.overview_encoder.name
    padding = text_preprocessor(config).tokenizer.pad_token_id
    backbone = _load(name, lambda hub, preset: hub.models.Backbone.from_preset(preset, load_weights=_eagerly()))
    if not isinstance(backbone.input, dict) or "token_ids" not in backbone.input:
        raise UserError(f"{name} is no backbone that reads tokens")
    count = 1 if as_sequence else config.overview_encoder.preset.layers
    outputs = _last_layers(name, backbone, count)
    if len(outputs) < count:
        raise UserError(f"{name} has {len(outputs)} layers, fewer than overview_encoder.preset.layers = {count}")
    joined = layers.Concatenate(name="last_layers")(outputs) if count > 1 else outputs[0]
    # Without what nothing here reads, such as BERT's layer for whole texts.
    return OverviewBackbone(keras.Model(backbone.input, joined), padding=padding)


def image_converter(config: Config):
    """The preset's own image converter: it resizes whole posters to `poster_encoder.preset.image_size`."""
    size = config.poster_encoder.preset.image_size
    return _load(
        config.poster_encoder.name,
        lambda hub, preset: hub.layers.ImageConverter.from_preset(
            preset, image_size=size, crop_to_aspect_ratio=False
        ),
    )


def text_preprocessor(config: Config):
    """The preset's own tokenizer, with what it puts around a text; `max_tokens` are the most."""

    def load(hub, preset):
        found = hub.models.TextClassifierPreprocessor.from_preset(preset, sequence_length=config.max_tokens)
        # BERT's tokenizer takes accents off wherever it lowercases. keras-hub's must be told to: else a word with
        # one is in no vocabulary.
        if isinstance(found.tokenizer, hub.tokenizers.WordPieceTokenizer) and found.tokenizer.lowercase:
            found.tokenizer.strip_accents = True
        return found

    return _load(config.overview_encoder.name, load)


def reading_of(converter_or_tokenizer) -> dict:
    """Describes a preset's own converter or tokenizer: what it was made with, and its words."""
    found = converter_or_tokenizer.get_config()
    if hasattr(converter_or_tokenizer, "get_vocabulary"):
        found["vocabulary"] = list(converter_or_tokenizer.get_vocabulary())
    return {key: value for key, value in found.items() if key not in ("name", "dtype")}


def fingerprint(backbone: PosterBackbone | OverviewBackbone, reading: dict) -> str:
    """A hash of a pretrained network's weights and way of reading: another preset of its name has another.

    Args:
        backbone: the network.
        reading: `reading_of` its converter or tokenizer.
    """
    network = backbone.backbone
    found = hashlib.sha256()
    for weight in network.weights:
        array = np.ascontiguousarray(ops.convert_to_numpy(weight))
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update(array.data)
    rest = [getattr(backbone, name, None) for name in ("scale", "offset", "padding")]
    found.update(json.dumps([rest, reading], default=str, sort_keys=True).encode())
    return found.hexdigest()


def _load(name: str, load):
    """Loads a preset by keras-hub.

    Args:
        name: with "preset:" before it.
        load: (keras_hub, preset) -> what is wanted.
    """
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise UserError(f"{name} needs keras-hub: {_INSTALL}") from error
    preset = name.removeprefix(PRESET)
    away = ""
    try:
        if preset.startswith(_HUGGING_FACE):
            away = _why_away()
        with _hub_off() if away else contextlib.nullcontext():
            return load(keras_hub, preset)
    except ModuleNotFoundError as error:  # safetensors, for presets in Hugging Face's form
        raise UserError(f"{name} needs {error.name}: {_INSTALL}") from error
    except Exception as error:  # keras-hub and its hubs raise as they please
        if isinstance(error, (requests.ConnectionError, requests.Timeout)):  # Kaggle's hub lets them through
            away = reason(error)
        if away:
            raise UserError(
                f"{name} is not on this machine, and its hub cannot be reached ({away}): "
                "name a folder that holds it, preset:FOLDER"
            ) from error
        if not Path(preset).is_dir() and ("/" in preset or preset.startswith(".")) and "://" not in preset:
            raise UserError(f"{name}: there is no such folder") from error
        raise UserError(f"{name} cannot be loaded: {first_line(error)}") from error


@functools.cache
def _why_away() -> str:
    """Why Hugging Face's hub cannot be reached, "" if it can be."""
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else why_unreachable(constants.ENDPOINT)


@contextlib.contextmanager
def _hub_off() -> Iterator[None]:
    """Tells the hub's library that it is away, in the block only.

    It would try for half a minute a file, also for files that it has, and then say that there are none.
    """
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _last_layers(name: str, backbone: keras.Model, count: int) -> list:
    """Gives the outputs of a text network's last blocks, (B, T, C) each, the last of all in its final form."""
    final = backbone.output
    if isinstance(final, dict):
        if "sequence_output" not in final:
            raise UserError(f"{name} gives {', '.join(final)}, and not what it makes of each token")
        final = final["sequence_output"]
    alike = [layer for layer in backbone.layers if layer.weights and _shape(layer.output) == _shape(final)]
    block, _ = Counter(type(layer) for layer in reversed(alike)).most_common(1)[0]  # of two as many, the later
    outputs = [layer.output for layer in alike if type(layer) is block]
    return [*outputs[:-1], final][-count:]


def _shape(output) -> tuple | None:
    return tuple(output.shape) if isinstance(output, keras.KerasTensor) else None


def _eagerly() -> bool:
    """In a graph weights have a shape and no values; what is built there is only to be looked at."""
    return tf.executing_eagerly()


def _choose_trained(backbone: keras.Model, count: int) -> None:
    """Freezes all layers that have weights but the last `count`; 0: none is frozen."""
    weighted = [layer for layer in backbone.layers if layer.weights]
    for layer in weighted[: -count if count else 0]:
        layer.trainable = False


def _with_backbone(layer) -> dict:
    return {"backbone": keras.saving.serialize_keras_object(layer.backbone)}


def _revived(config: dict) -> dict:
    if config["backbone"] is None:
        return config
    return {**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])}
