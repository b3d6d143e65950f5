"""Joint (intermediate) fusion."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from mmfusion.models import balance as balancing
from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import encoder_of, wide_path
from mmfusion.models.missing import MissingEmbedding, drop_one, number_of, padding_of, presence
from mmfusion.models.operators import operator_of
from mmfusion.models.presets import pooled
from mmfusion.models.wide import WidePath


@keras.saving.register_keras_serializable(package="mmfusion")
class JointFusion(GenreModel):
    """The modalities meet between their encoders and one head, and the loss trains all of them.

    Joint fusion of Huang et al. 2020 (npj Digital Medicine 3:136), also called intermediate fusion. Where a film
    lacks a modality, a learned embedding is read instead of the encoder's features.

    Args:
        num_genres: G.
        encoders: by modality, as the batch contract has it -> features (B, D_m).
        operator: [(B, D_1), (B, D_2), ...] -> (B, D), see `models.operators`.
        units: of the dense layer on what was put together; in a run the operator has as many.
        dropout: before and after that layer.
        modality_dropout: probability that, in training, one modality of a film that has more is treated as
            absent, so that the embeddings in its place are learned (as ModDrop, Neverova et al. 2016).
        unimodal_loss: weight of the loss of each encoder's own linear head, on the films that have its modality
            (Wang et al. 2020, arXiv:1905.12681). These heads decide nothing. With 0 they do not train the encoders.
        balance: "none", or "ogm_ge", see `models.balance`.
        wide: a linear path from an overview's words.
    """

    handed = ("encoders", "operator", "wide")
    auxiliary = ("heads",)

    def __init__(
        self,
        num_genres: int,
        *,
        encoders: Mapping[str, keras.Layer],
        operator: keras.Layer,
        units: int,
        dropout: float,
        modality_dropout: float = 0.0,
        unimodal_loss: float = 0.0,
        balance: str = "none",
        wide: WidePath | None = None,
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.encoders = dict(encoders)
        self.operator = operator
        self.units = units
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.unimodal_loss = unimodal_loss
        self.balance = balance
        self.wide = wide
        self.padding = padding_of(encoders)
        self.missing = {modality: MissingEmbedding(name=f"missing_{modality}") for modality in encoders}
        self.fused = keras.Sequential(
            [
                keras.layers.Dropout(dropout),
                keras.layers.Dense(units, "relu"),
                keras.layers.Dropout(dropout),
            ]
        )
        self.head = keras.layers.Dense(num_genres, dtype="float32", name="head")
        # Made last and only where they are needed, so that all else starts from the same weights without them.
        if modality_dropout:
            self.dropout_seed = keras.random.SeedGenerator()
        if balance != "none":
            self.noise_seed = keras.random.SeedGenerator()
        self.heads = {}
        if unimodal_loss or balance != "none":
            self.heads = {
                modality: keras.layers.Dense(num_genres, dtype="float32", name=f"{modality}_head")
                for modality in encoders
            }

    @classmethod
    def check(cls, config):
        operator_of(config)

    @classmethod
    def from_run_config(cls, config, num_genres):
        joint, operator = config.joint, operator_of(config)
        return cls(
            num_genres,
            encoders={
                modality: encoder_of(modality, config, as_sequence=operator.reads_sequences)
                for modality in config.reads
            },
            operator=operator,
            units=joint.units,
            dropout=joint.dropout,
            modality_dropout=joint.modality_dropout,
            unimodal_loss=joint.unimodal_loss,
            balance=joint.balance,
            wide=wide_path(config, num_genres),
            name="joint",
        )

    def call(self, inputs, training=False, with_own=False):
        """
        Args:
            inputs: see `GenreModel`.
            training: whether dropout is applied.
            with_own: also give the logits of each encoder's own head.

        Returns:
            (B, G) logits; `with_own` also those of the encoders' own heads, by modality.
        """
        features, own = self._features(inputs, training)
        together = self.operator(features, training=training)  # (B, D), here the modalities meet
        logits = self.decided(self.head(self.fused(together, training=training)), inputs)  # (B, G)
        return (logits, own) if with_own else logits

    def gates(self, inputs):
        """Computes how much a gated unit trusts each modality of each film: (B, M), means of gates, from 0 to 1.

        Args:
            inputs: as the model is called on; its operator has `gates`, as `models.operators.Gated`.
        """
        features, _ = self._features(inputs, training=False)
        return keras.ops.stack([keras.ops.mean(one, axis=1) for one in self.operator.gates(features)], axis=1)

    def _features(self, inputs, training):
        """Features (B, D_m) as the operator reads them, and what the encoders' own heads say, by modality."""
        present = self._present(inputs)
        features = {name: encoder(inputs[name], training=training) for name, encoder in self.encoders.items()}
        own = self._own_logits(features)
        if training and self.modality_dropout:
            present = drop_one(present, self.modality_dropout, self.dropout_seed)
        return [self.missing[name](features[name], present[name]) for name in features], own

    def _present(self, inputs) -> dict:
        return presence({name: inputs[name] for name in self.encoders}, padding=self.padding)

    def _own_logits(self, features) -> dict:
        """Computes the logits of each encoder's own head, (B, G) each; {} without these heads."""
        own = {}
        for name, head in self.heads.items():
            vector = pooled(*features[name]) if isinstance(features[name], tuple) else features[name]
            if not self.unimodal_loss:  # the heads are only asked which modality tells more
                vector = keras.ops.stop_gradient(vector)
            own[name] = self.calibrated(head(vector))
        return own

    def train_step(self, data):
        """Keras' own step, with the losses of the encoders' own heads and the balance of gradients.

        The loss that is reported is that of the predictions alone.
        """
        if not self.heads:
            return super().train_step(data)
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        present = self._present(inputs)
        with tf.GradientTape() as tape:
            logits, own = self(inputs, training=True, with_own=True)
            loss = self.compute_loss(inputs, labels, logits)
            weights = {name: keras.ops.cast(present[name], "float32") for name in own}
            losses = [self.compute_loss(inputs, labels, own[name], weights[name]) for name in own]
            total = loss + (self.unimodal_loss or 1.0) * sum(losses)
        gradients = tape.gradient(total, self.trainable_weights)
        if self.balance == "ogm_ge":
            whole = number_of(present) == len(present)
            gradients = self._balanced(gradients, balancing.coefficients(list(own.values()), labels, whole))
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss, sample_weight=keras.ops.shape(labels)[0])
        return self.compute_metrics(inputs, labels, logits)

    def _balanced(self, gradients, coefficients) -> list:
        """The gradients of all weights, those of the encoders modulated."""
        coefficient_of = {
            id(weight): coefficient
            for encoder, coefficient in zip(self.encoders.values(), coefficients, strict=True)
            for weight in encoder.trainable_weights
        }
        return [
            balancing.modulate(gradient, coefficient_of[id(weight)], self.noise_seed)
            if id(weight) in coefficient_of
            else gradient
            for weight, gradient in zip(self.trainable_weights, gradients, strict=True)
        ]

    def get_config(self) -> dict:
        names = "units dropout modality_dropout unimodal_loss balance".split()
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
