"""Presets as keras-hub writes them, small enough to be made in a test."""

from pathlib import Path

import keras
import keras_hub

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a film about thing war and love the of".split()


def write_text_preset(folder: Path, seed: int = 0, layers: int = 2, *, lowercase: bool = True, words=WORDS) -> str:
    """A BERT of 8 units; returns its name on the command line."""
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(WORDS), num_layers=layers, num_heads=2, hidden_dim=8, intermediate_dim=8,
        max_sequence_length=32,
    )  # fmt: skip
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=words, lowercase=lowercase)
    backbone.save_to_preset(str(folder))
    keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=16).save_to_preset(str(folder))
    return f"preset:{folder}"


def write_image_preset(folder: Path, seed: int = 0) -> str:
    """A residual network of 64 channels with a converter of its own; returns its name on the command line."""
    keras.utils.set_random_seed(seed)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64], input_conv_kernel_sizes=[3], stackwise_num_filters=[64],
        stackwise_num_blocks=[1], stackwise_num_strides=[1], block_type="basic_block",
    )  # fmt: skip
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(32, 32), scale=1 / 64, offset=-2.0, interpolation="bicubic", antialias=True
    )
    backbone.save_to_preset(str(folder))
    keras_hub.models.ResNetImageClassifierPreprocessor(converter).save_to_preset(str(folder))
    return f"preset:{folder}"
