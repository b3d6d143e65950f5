"""Joint (intermediate) fusion."""

import keras
import tensorflow as tf

from mmfusion.errors import UserError
from mmfusion.models import balance as balancing
from mmfusion.models.base import GenreModel
from mmfusion.models.encoders import overview_encoder, poster_encoder
from mmfusion.models.missing import MissingEmbedding, drop_one, padding_of, presence
from mmfusion.models.operators import OPERATORS
from mmfusion.models.presets import pooled
from mmfusion.schema import OVERVIEW, POSTER


@keras.saving.register_keras_serializable(package="mmfusion")
class JointFusion(GenreModel):
    """The modalities meet between their encoders and one head, and the loss trains all three.

    Joint fusion of Huang et al. 2020 (npj Digital Medicine 3:136), also called intermediate fusion. Where a film
    has no poster or no overview, a learned embedding is read instead of the encoder's features.

    Args:
        num_genres: G.
        poster_encoder: posters (B, H, W, 3) -> features (B, D1).
        overview_encoder: tokens (B, T) -> features (B, D2).
        operator: [(B, D1), (B, D2)] -> (B, D), see `models.operators`.
        units: of the dense layer on what was put together; in a run the operator has as many.
        dropout: before and after that layer.
        modality_dropout: probability that, in training, one modality of a film that has both is treated as
            absent, so that the embeddings in its place are learned (as ModDrop, Neverova et al. 2016).
        unimodal_loss: weight of the loss of each encoder's own linear head, on the films that have its modality.
            These heads decide nothing. With 0 they do not train the encoders.
        balance: "none", or "ogm_ge", see `models.balance`.
    """

    handed = ("poster_encoder", "overview_encoder", "operator")
    auxiliary = ("poster_head", "overview_head")

    def __init__(
        self,
        num_genres: int,
        *,
        poster_encoder: keras.Layer,
        overview_encoder: keras.Layer,
        operator: keras.Layer,
        units: int,
        dropout: float,
        modality_dropout: float = 0.0,
        unimodal_loss: float = 0.0,
        balance: str = "none",
        **kwargs,
    ):
        super().__init__(num_genres, **kwargs)
        self.poster_encoder = poster_encoder
        self.overview_encoder = overview_encoder
        self.operator = operator
        self.units = units
        self.dropout = dropout
        self.modality_dropout = modality_dropout
        self.unimodal_loss = unimodal_loss
        self.balance = balance
        self.padding = padding_of(overview_encoder)
        self.missing_poster = MissingEmbedding(name="missing_poster")
        self.missing_overview = MissingEmbedding(name="missing_overview")
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
        self.poster_head = self.overview_head = None
        if unimodal_loss or balance != "none":
            self.poster_head = keras.layers.Dense(num_genres, dtype="float32", name="poster_head")
            self.overview_head = keras.layers.Dense(num_genres, dtype="float32", name="overview_head")

    @classmethod
    def check(cls, config):
        joint = config.joint
        if joint.operator not in OPERATORS:
            raise UserError(f"unknown joint.operator {joint.operator!r}; there are: {', '.join(OPERATORS)}")
        OPERATORS[joint.operator](joint.units)  # it may refuse them

    @classmethod
    def from_run_config(cls, config, num_genres):
        cls.check(config)
        joint = config.joint
        operator = OPERATORS[joint.operator](joint.units)
        return cls(
            num_genres,
            poster_encoder=poster_encoder(config, as_sequence=operator.reads_sequences),
            overview_encoder=overview_encoder(config, as_sequence=operator.reads_sequences),
            operator=operator,
            units=joint.units,
            dropout=joint.dropout,
            modality_dropout=joint.modality_dropout,
            unimodal_loss=joint.unimodal_loss,
            balance=joint.balance,
            name="joint",
        )

    def call(self, inputs, training=False, with_own=False):
        """
        Args:
            inputs: see `GenreModel`.
            training: whether dropout is applied.
            with_own: also give the logits of each encoder's own head.

        Returns:
            (B, G) logits; `with_own` also a tuple of two more, the poster's and the overview's.
        """
        features, own = self._features(inputs, training)
        together = self.operator(features, training=training)  # (B, D), here the modalities meet
        logits = self.calibrated(self.head(self.fused(together, training=training)))  # (B, G)
        return (logits, own) if with_own else logits

    def poster_gates(self, inputs):
        """How much a gated unit trusts each film's poster: (B,), the mean of its gates, 1 the poster alone.

        Args:
            inputs: as the model is called on; its operator is `models.operators.Gated`.
        """
        features, _ = self._features(inputs, training=False)
        return keras.ops.mean(self.operator.gates(features), axis=1)

    def _features(self, inputs, training):
        """[poster (B, D1), overview (B, D2)] as the operator reads them, and what the encoders' own heads say."""
        there = presence(inputs, padding=self.padding)
        poster = self.poster_encoder(inputs[POSTER], training=training)  # (B, D1)
        overview = self.overview_encoder(inputs[OVERVIEW], training=training)  # (B, D2)
        own = self._own_logits(poster, overview)
        if training and self.modality_dropout:
            there = drop_one(there, self.modality_dropout, self.dropout_seed)
        return [self.missing_poster(poster, there[POSTER]), self.missing_overview(overview, there[OVERVIEW])], own

    def _own_logits(self, *features):
        """What each encoder's own head says, (B, G) each; () without these heads."""
        if self.poster_head is None:
            return ()
        vectors = [pooled(*one) if isinstance(one, tuple) else one for one in features]
        if not self.unimodal_loss:  # the heads are only asked which modality tells more
            vectors = [keras.ops.stop_gradient(one) for one in vectors]
        heads = (self.poster_head, self.overview_head)
        return tuple(self.calibrated(head(one)) for head, one in zip(heads, vectors))

    def train_step(self, data):
        """Keras' own step, with the losses of the encoders' own heads and the balance of gradients.

        The loss that is reported is that of the predictions alone.
        """
        if self.poster_head is None:
            return super().train_step(data)
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        there = presence(inputs, padding=self.padding)
        with tf.GradientTape() as tape:
            logits, own = self(inputs, training=True, with_own=True)
            loss = self.compute_loss(inputs, labels, logits)
            losses = [
                self.compute_loss(inputs, labels, said, keras.ops.cast(there[modality], "float32"))
                for said, modality in zip(own, (POSTER, OVERVIEW), strict=True)
            ]
            total = loss + (self.unimodal_loss or 1.0) * sum(losses)
        gradients = tape.gradient(total, self.trainable_weights)
        if self.balance == "ogm_ge":
            both = keras.ops.logical_and(there[POSTER], there[OVERVIEW])
            gradients = self._balanced(gradients, balancing.coefficients(own, labels, both))
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        tracker = next(metric for metric in self.metrics if metric.name == "loss")
        tracker.update_state(loss, sample_weight=keras.ops.shape(labels)[0])
        return self.compute_metrics(inputs, labels, logits)

    def _balanced(self, gradients, coefficients) -> list:
        """The gradients of all weights, those of the encoders modulated."""
        coefficient_of = {
            id(weight): coefficient
            for encoder, coefficient in zip((self.poster_encoder, self.overview_encoder), coefficients)
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
