"""The base of all variants: inputs, logits, and how they are saved."""

import math
from collections.abc import Mapping
from typing import Any

import keras

from mmfusion.models.wide import WidePath
from mmfusion.schema import OVERVIEW

_TEMPERATURE = "temperature"


class GenreModel(keras.Model):
    """Takes modalities by name, each as the batch contract (`mmfusion.schema`) has it, and gives logits (B, G).

    A subclass names the layers, or dicts of layers by modality, that it was handed in `handed`, and they are saved
    with it. What its `call` makes last goes through `decided`, or through `calibrated` where it has no wide path.
    """

    handed: tuple[str, ...] = ()
    wide: WidePath | None = None  # where it has one, handed to it and named in `handed`
    auxiliary: tuple[str, ...] = ()  # dicts of layers that help training and decide nothing
    label_smoothing = 0.0  # of training labels; set where the model is compiled, as is
    training_loss = None  # (labels, logits) -> (B,), where it is another than the compiled one

    def __init__(self, num_genres: int, **kwargs):
        super().__init__(**kwargs)
        self.num_genres = num_genres
        # Fitted after training. Not in bfloat16, whose two digits would change the third of a probability.
        self.temperature = self.add_weight(
            shape=(), initializer="ones", dtype="float32", trainable=False, autocast=False, name=_TEMPERATURE
        )

    @property
    def handed_layers(self) -> list[keras.Layer]:
        """The layers that it was handed, one by one."""
        handed = [getattr(self, name) for name in self.handed if getattr(self, name) is not None]
        return [layer for one in handed for layer in (one.values() if isinstance(one, Mapping) else [one])]

    @property
    def heads_of_genres(self) -> list[keras.layers.Dense]:
        """The layers whose biases are the genres' own: `head`, where it has one, and those that help training."""
        helping = [layer for name in self.auxiliary for layer in getattr(self, name).values()]
        return [layer for layer in (getattr(self, "head", None), *helping) if layer is not None]

    @classmethod
    def from_run_config(cls, config, num_genres: int) -> "GenreModel":
        """Builds the variant as a `mmfusion.config.Config` describes it."""
        raise NotImplementedError(f"{cls.__name__} does not say how it is built from a Config")

    @classmethod
    def check(cls, config) -> None:
        """Refuses what a `mmfusion.config.Config` alone shows to be wrong; called before a film is read.

        Raises:
            UserError: it names the setting.
        """

    def build(self, input_shape):
        """Makes all weights by one call on symbolic inputs; without it, loading would restore none.

        Args:
            input_shape: by modality, such as {"poster": (None, H, W, 3), "overview": (None, None)}.
        """
        if self.built:
            return
        self.built = True
        self({modality: keras.KerasTensor(shape, _type_of(shape)) for modality, shape in input_shape.items()})

    def calibrated(self, logits):
        """Divides logits (B, G) by the temperature (Guo et al. 2017, arXiv:1706.04599)."""
        return keras.ops.divide(logits, self.temperature)

    def decided(self, logits, inputs):
        """Calibrates a network's logits (B, G), and mixes them with those of the wide path, where there is one."""
        logits = self.calibrated(logits)
        return logits if self.wide is None else self.wide(logits, inputs[OVERVIEW])

    def count_params(self) -> int:
        """All weights that decide; neither a temperature, which no layer has, nor a table of whole numbers."""
        layers = [layer for name in self.auxiliary for layer in getattr(self, name).values()]
        others = {id(w) for layer in layers for w in layer.weights}
        found = [w for w in self.weights if w.name != _TEMPERATURE and not w.dtype.startswith("int")]
        found = [w for w in found if id(w) not in others]
        return sum(math.prod(weight.shape) for weight in found)

    def compute_loss(self, x=None, y: Any = None, y_pred=None, sample_weight=None, training=True):
        # Validation is by the compiled binary cross-entropy of the labels as they are, whatever training is by: it
        # chooses the best epoch, and could be compared neither between runs nor with a report's otherwise.
        if training and self.label_smoothing:
            y = y * (1 - self.label_smoothing) + self.label_smoothing / 2
        if training and self.training_loss is not None:
            losses = self.training_loss(y, y_pred)  # (B,)
            weights = 1.0 if sample_weight is None else sample_weight
            return keras.ops.mean(losses * weights) + sum(self.losses)
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def get_config(self) -> dict:
        layers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.handed}
        return {**super().get_config(), "num_genres": self.num_genres, **layers}

    @classmethod
    def from_config(cls, config: dict) -> "GenreModel":
        named = [name for name in cls.handed if name in config]  # a file of before has no wide path
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in named}
        return cls(**{**config, **layers})


def _type_of(shape) -> str:
    """Tokens have a length that is not known beforehand; pictures and features have sizes that are."""
    return "int32" if tuple(shape[1:]) == (None,) else "float32"


class _OnLogits(keras.metrics.Metric):
    """Makes a metric that expects probabilities take logits."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(y_true, keras.ops.sigmoid(y_pred), sample_weight)


@keras.saving.register_keras_serializable(package="mmfusion")
class Precision(_OnLogits, keras.metrics.Precision):
    """Of the genres given a probability above 0.5, the share that is right (micro, from logits)."""


@keras.saving.register_keras_serializable(package="mmfusion")
class Recall(_OnLogits, keras.metrics.Recall):
    """Of the true genres, the share given a probability above 0.5 (micro, from logits)."""
