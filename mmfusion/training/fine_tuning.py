"""Fine-tuning of presets: their own learning rate, and one more layer from the top each epoch."""

import keras

from mmfusion.config import Config
from mmfusion.models.base import GenreModel
from mmfusion.models.presets import PresetEncoder


class Unfreezing(keras.callbacks.Callback):
    """Gives a preset's layers their share of the learning rate, from the epoch on in which their turn has come.

    Gradual unfreezing of Howard & Ruder 2018 (arXiv:1801.06146): in the first epoch only what stands on the
    preset is trained, then so many layers more each epoch, from the top.

    Args:
        model: with its weights made.
        config: its configuration; `config.fine_tuning.fine_tune` is true.
    """

    def __init__(self, model: GenreModel, config: Config):
        super().__init__()
        self._per_epoch = config.fine_tuning.layers_per_epoch
        self._share = config.fine_tuning.learning_rate / config.training.learning_rate
        self._turns: list[tuple[int, keras.Variable]] = []  # a layer's place from the top, and its share
        self.shares: list[tuple[keras.Variable, keras.Variable]] = []  # a weight, and the share of its layer
        for encoder in model.handed_layers:
            if isinstance(encoder, PresetEncoder) and encoder.backbone is not None:
                layers = [layer for layer in encoder.backbone.backbone.layers if layer.trainable_weights]
                for place, layer in enumerate(reversed(layers)):
                    share = keras.Variable(0.0, trainable=False, name=f"share_of_{layer.name}")
                    self._turns.append((place, share))
                    self.shares += [(weight, share) for weight in layer.trainable_weights]

    def on_epoch_begin(self, epoch, logs=None):
        for place, share in self._turns:
            its_turn = not self._per_epoch or place < epoch * self._per_epoch
            share.assign(self._share if its_turn else 0.0)
