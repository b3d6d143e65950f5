"""The variants, and the names that a configuration may hold: plain values, so that `--help` can list them."""

from dataclasses import dataclass

from mmfusion.schema import MODALITIES, OVERVIEW, POSTER, TABLE

# Every encoder by its modality and name: its file in `mmfusion/models/` and class. Posters and overviews have
# presets too. A line here and a file with such a class make a new one; a section of its name has its settings.
ENCODERS: dict[str, dict[str, str]] = {
    POSTER: {"cnn": "poster_encoders.CNNEncoder", "resnet": "poster_encoders.ResNetEncoder"},
    OVERVIEW: {"bilstm": "overview_encoders.BiLSTMEncoder", "bag": "overview_encoders.BagEncoder"},
    TABLE: {"mlp": "table_encoders.MLPEncoder"},
}
# Joint fusion's operators in the same form; see `models.operators`.
OPERATORS = {
    "concat": "operators.Concat",
    "sum": "operators.Sum",
    "gated": "operators.Gated",
    "low_rank": "operators.LowRank",
    "bilinear": "operators.Bilinear",
    "film": "operators.FiLM",
    "cross_attention": "attention.CrossAttention",
}
# Every data set: its name on the command line -> the package of its tensorflow-datasets builder.
# Plain names, so that `--help` can list them without importing TensorFlow.
DATASETS = {
    "synthetic": "mmfusion.data.synthetic",
    "films": "mmfusion.data.film_table",
    "multimodal_imdb": "mmfusion.data.multimodal_imdb",
    "mmimdb": "mmfusion.data.mmimdb",
}
PRESET = "preset:"  # before the name or folder of a keras-hub preset, where an encoder is named
PRECISIONS = ("float32", "mixed_bfloat16")  # Keras' names; weights are float32 in both
BALANCES = ("none", "ogm_ge")  # see `models.joint.JointFusion`
LOSSES = ("bce", "weighted_bce", "asymmetric")  # see `models.losses`
SCHEDULES = ("exponential", "cosine")  # of the learning rate; see `training.fitting.learning_rate_at`
WIDE = ("none", "words", "ngrams")  # what the path beside the network is linear in; see `models.wide.WidePath`
COMBINERS = ("mean", "weighted", "product", "stacked", "confidence")  # see `models.late.Combiner`
AVERAGES = ("mean", "weighted")  # of them, those that add probabilities

ENCODER_SECTIONS = tuple(modality.section for modality in MODALITIES)


def is_preset(name: str) -> bool:
    """Tells if an encoder's name is that of a keras-hub preset."""
    return name.startswith(PRESET)


def kind_of(name: str) -> str:
    """Names the section that has an encoder's settings, in its modality's."""
    return PRESET.rstrip(":") if is_preset(name) else name


@dataclass(frozen=True)
class Variant:
    """A variant: where its model is, and what of a configuration it reads."""

    model: str  # file in `mmfusion/models/` and class
    modalities: tuple[str, ...] = ()  # that it reads; (): those that a run names
    sections: tuple[str, ...] = ENCODER_SECTIONS  # beside [data] and [training]; encoders of what it reads
    encoders: tuple[tuple[str, str], ...] = ()  # section -> the one encoder that it may have
    trained_apart: bool = False  # a model of each modality is trained before it, and it puts them together
    joins_features: bool = False  # of frozen presets, one for each modality
    meet: str = ""  # where the modalities do, in words


# Every variant by its name on the command line. A line here and a file with such a class make a new one.
VARIANTS = {
    "poster": Variant("unimodal.Unimodal", (POSTER,), ("poster_encoder",)),
    "overview": Variant("unimodal.Unimodal", (OVERVIEW,), ("overview_encoder", "wide")),
    "table": Variant("unimodal.Unimodal", (TABLE,), ("table_encoder",)),
    "cnn": Variant("unimodal.Unimodal", (POSTER,), ("poster_encoder",), (("poster_encoder", "cnn"),)),
    "bilstm": Variant(
        "unimodal.Unimodal", (OVERVIEW,), ("overview_encoder", "wide"), (("overview_encoder", "bilstm"),)
    ),
    "early": Variant(
        "early.EarlyFusion", sections=("early",), meet="before any encoder: patches and words are one sequence"
    ),
    "early_features": Variant(
        "early_features.EarlyFeatures",
        sections=("poster_encoder", "overview_encoder", "early_features"),
        joins_features=True,
        meet="before anything that is trained: frozen features are joined",
    ),
    "joint": Variant(
        "joint.JointFusion", sections=(*ENCODER_SECTIONS, "joint", "wide"), meet="between the encoders and the head"
    ),
    "late": Variant(
        "late.LateFusion",
        sections=(*ENCODER_SECTIONS, "late", "wide"),
        trained_apart=True,
        meet="after each has decided",
    ),
}
