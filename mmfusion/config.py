"""Everything that a run decides, as frozen dataclasses that read and write TOML and JSON.

A *recipe* is a complete set of these values, shipped in `mmfusion/recipes/NAME.toml`. A config file
has the same form and may hold only what differs from the recipe. In both, a table
`[variants.NAME.SECTION]` holds for one variant only.
"""

import dataclasses
import difflib
import json
import math
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER

POSTER_ENCODERS = ("cnn", "resnet")  # and presets; see `models.encoders`
OVERVIEW_ENCODERS = ("bilstm", "bag")
PRESET = "preset:"  # before the name or folder of a keras-hub preset, where an encoder is named
FINE_TUNED = "fine-tuned"


@dataclass(frozen=True)
class Variant:
    """A variant: where its model is, and what of a configuration it reads."""

    model: str  # file in `mmfusion/models/` and class
    modalities: tuple[str, ...] = MODALITIES
    sections: tuple[str, ...] = tuple(modality.section for modality in MODALITIES)  # beside [data] and [training]
    encoders: tuple[tuple[str, str], ...] = ()  # section -> the one encoder that it may have
    parts: tuple[str, ...] = ()  # variants that are trained before it, and that it puts together
    joins_features: bool = False  # of frozen presets, one for each modality
    meet: str = ""  # where the modalities do, in words


# Every variant by its name on the command line. A line here and a file with such a class make a new one. Plain
# values, so that `--help` can list them without Keras.
_BOTH = tuple(modality.section for modality in MODALITIES)
VARIANTS = {
    "poster": Variant("unimodal.Unimodal", (POSTER,), ("poster_encoder",)),
    "overview": Variant("unimodal.Unimodal", (OVERVIEW,), ("overview_encoder",)),
    "cnn": Variant("unimodal.Unimodal", (POSTER,), ("poster_encoder",), (("poster_encoder", "cnn"),)),
    "bilstm": Variant("unimodal.Unimodal", (OVERVIEW,), ("overview_encoder",), (("overview_encoder", "bilstm"),)),
    "early": Variant(
        "early.EarlyFusion", sections=("early",), meet="before any encoder: patches and words are one sequence"
    ),
    "early_features": Variant(
        "early_features.EarlyFeatures",
        sections=(*_BOTH, "early_features"),
        joins_features=True,
        meet="before anything that is trained: frozen features are joined",
    ),
    "joint": Variant("joint.JointFusion", sections=(*_BOTH, "joint"), meet="between the encoders and the head"),
    "late": Variant(
        "late.LateFusion", sections=(*_BOTH, "late"), parts=("poster", "overview"), meet="after each has decided"
    ),
}
PRECISIONS = ("float32", "mixed_bfloat16")  # Keras' names; weights are float32 in both
BALANCES = ("none", "ogm_ge")  # see `models.joint.JointFusion`
LOSSES = ("bce", "weighted_bce", "asymmetric")  # see `models.losses`
COMBINERS = ("mean", "weighted", "product", "stacked")  # see `models.late.Combiner`


def is_preset(name: str) -> bool:
    """Whether an encoder's name is that of a keras-hub preset."""
    return name.startswith(PRESET)


@dataclass(frozen=True)
class DataConfig:
    """Which films, and how they become (poster, tokens, labels)."""

    dataset: str
    data_dir: str  # "" for a data set that is downloaded or made on the spot
    films: int  # how many films `synthetic` makes
    films_seed: int  # which films `synthetic` makes
    skip_bad: bool  # drop and list films that cannot be read, instead of stopping
    poster_size: int  # H = W, in pixels
    vocabulary_size: int  # words, padding and out-of-vocabulary included
    max_tokens: int
    split: tuple[float, ...]  # shares of train, validation and test films; an official split wins
    batch_size: int
    augment: bool  # flip, shift and turn training posters


@dataclass(frozen=True)
class CNNConfig:
    """A plain convolutional network on posters; see `models.poster_encoders.CNNEncoder`."""

    filters: tuple[int, ...]
    batch_norm: bool
    dropout: float
    pooling: str
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class ResNetConfig:
    """A residual network on posters; see `models.poster_encoders.ResNetEncoder`."""

    filters: tuple[int, ...]
    dropout: float
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class BiLSTMConfig:
    """A bidirectional LSTM on overviews; see `models.overview_encoders.BiLSTMEncoder`."""

    embedding_dim: int
    embedding_dropout: float
    lstm_units: tuple[int, ...]
    dropout: float
    recurrent_dropout: float
    pooling: str
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class BagConfig:
    """A bag of words, pairs of words and words' n-grams; see `models.overview_encoders.BagEncoder`."""

    embedding_dim: int
    pairs: int  # embeddings that pairs of words share by their hash; 0: none
    ngrams: int  # the same for n-grams of a word's letters
    embedding_dropout: float
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class PosterPresetConfig:
    """What stands on a pretrained backbone for posters; see `models.presets.PresetEncoder`."""

    image_size: tuple[int, ...]  # height and width that posters are resized to, in pixels
    dropout: float
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class OverviewPresetConfig:
    """What stands on a pretrained backbone for overviews; see `models.presets.PresetEncoder`."""

    layers: int  # so many of its last layers are read
    dropout: float
    dense_units: tuple[int, ...]
    dense_dropout: float


@dataclass(frozen=True)
class PosterEncoderConfig:
    """The network on posters: which, and what each would be."""

    name: str  # "cnn", "resnet", or "preset:" and the name or folder of a keras-hub preset
    cnn: CNNConfig
    resnet: ResNetConfig
    preset: PosterPresetConfig


@dataclass(frozen=True)
class OverviewEncoderConfig:
    """The network on overviews: which, and what each would be."""

    name: str  # "bilstm", "bag", or "preset:" and the name or folder of a keras-hub preset
    bilstm: BiLSTMConfig
    bag: BagConfig
    preset: OverviewPresetConfig


@dataclass(frozen=True)
class EarlyConfig:
    """The shared Transformer of early fusion; see `models.early.EarlyFusion`."""

    patch_size: int
    width: int
    heads: int
    blocks: int
    dropout: float


@dataclass(frozen=True)
class EarlyFeaturesConfig:
    """The classifier of joined features; see `models.early_features.EarlyFeatures`."""

    units: int
    dropout: float


@dataclass(frozen=True)
class JointConfig:
    """Where the two encoders meet in joint fusion; see `models.joint.JointFusion`."""

    operator: str
    units: int
    dropout: float
    modality_dropout: float  # in training, the share of films that are read without one of their modalities
    unimodal_loss: float  # weight of the losses of each encoder's own head
    balance: str


@dataclass(frozen=True)
class LateConfig:
    """How the two models' decisions are combined; see `models.late.LateFusion`."""

    combiner: str


@dataclass(frozen=True)
class FineTuningConfig:
    """Whether and how a preset's own weights are trained; without it they stay as they came."""

    fine_tune: bool
    learning_rate: float  # of the preset's layers; those on top of it have `training.learning_rate`
    layers: int  # from the top, those that are trained; 0: all
    layers_per_epoch: (
        int  # gradual unfreezing (Howard & Ruder 2018): so many more are trained each epoch; 0: at once
    )


@dataclass(frozen=True)
class TrainingConfig:
    """Adam; the best epoch by validation loss is kept."""

    precision: str  # of layers' arithmetic; mixed_bfloat16 is faster where the processor has it
    epochs: int
    loss: str  # of training; the validation loss is always binary cross-entropy
    learning_rate: float
    hold_epochs: int  # epochs at the first learning rate
    decay: float  # after them, the rate is multiplied by exp(-decay) every epoch
    weight_decay: float  # decoupled from the gradients (Loshchilov & Hutter 2019), of kernels and embeddings
    label_smoothing: float  # training labels are moved by this share towards one half (Szegedy et al. 2016)
    patience: int  # stop after so many epochs without a better validation loss; 0: never
    calibrate: bool  # fit a temperature on the validation films (Guo et al. 2017), for the best epoch


@dataclass(frozen=True)
class Config:
    """One run, fully resolved: this is what `config.json` in a run folder holds."""

    variant: str
    recipe: str
    seed: int
    data: DataConfig
    poster_encoder: PosterEncoderConfig
    overview_encoder: OverviewEncoderConfig
    fine_tuning: FineTuningConfig
    early: EarlyConfig
    early_features: EarlyFeaturesConfig
    joint: JointConfig
    late: LateConfig
    training: TrainingConfig

    @property
    def encoders(self) -> dict[str, str]:
        """The encoder that reads each modality of the variant; of a preset in a folder, the folder's own name.

        Empty for a variant that has none of its own, and for what is no variant.
        """
        variant = VARIANTS.get(self.variant)
        if variant is None:
            return {}
        read = [modality for modality in variant.modalities if modality.section in variant.sections]
        named = {modality: getattr(self, modality.section).name for modality in read}
        return {m: Path(name.removeprefix(PRESET)).name if is_preset(name) else name for m, name in named.items()}

    @property
    def presets(self) -> dict[str, str]:
        """The presets that are named, without "preset:", by the modality that they would read."""
        named = {modality: getattr(self, modality.section).name for modality in MODALITIES}
        return {modality: name.removeprefix(PRESET) for modality, name in named.items() if is_preset(name)}

    @property
    def label(self) -> str:
        """The variant with the encoders that it reads with, such as "joint (resnet + bag)"."""
        variant = VARIANTS.get(self.variant)
        if variant is None or variant.encoders or not self.encoders:
            return self.variant
        is_tuned = self.fine_tuning.fine_tune and self.presets.keys() & self.encoders.keys()
        return f"{self.variant} ({' + '.join(self.encoders.values())}{f', {FINE_TUNED}' if is_tuned else ''})"

    @property
    def folder_name(self) -> str:
        """The label as a folder may be called: "joint-resnet+bag"."""
        return re.sub(r"[^\w.+-]", "", self.label.replace(" (", "-").replace(", ", "-"))

    @property
    def parts(self) -> tuple[str, ...]:
        """The variants that this one puts together; none for most."""
        return VARIANTS[self.variant].parts if self.variant in VARIANTS else ()

    def made_of(self, parts: Mapping[str, "Config"]) -> "Config":
        """The same with the encoders of its parts, whose configurations are given by their variant."""
        taken = {}
        for part in parts.values():
            taken |= {section: getattr(part, section) for section in VARIANTS[part.variant].sections}
            if part.presets.keys() & part.encoders.keys():
                taken["fine_tuning"] = part.fine_tuning
        return dataclasses.replace(self, **taken)

    def to_dict(self) -> dict:
        """Plain dicts, lists and scalars, ready for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _is_encoder(name: str, names: tuple[str, ...]) -> bool:
    return name in names or (is_preset(name) and len(name) > len(PRESET))


def _names(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)}, or {PRESET} and the name or folder of a keras-hub preset"


# What a value must satisfy beyond its type; checked here so that every way in is covered.
_RANGES = {
    "seed": (lambda v: 0 <= v < 2**31, "a whole number from 0 to 2147483647"),
    "data.films": (lambda v: 20 <= v <= 10_000_000, "from 20 to 10,000,000"),
    "data.films_seed": (lambda v: 0 <= v < 2**31, "a whole number from 0 to 2147483647"),
    "data.poster_size": (lambda v: 16 <= v <= 1024, "from 16 to 1024 pixels"),
    "data.vocabulary_size": (lambda v: 3 <= v <= 10_000_000, "from 3 to 10,000,000"),
    "data.split": (
        lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-6,
        "three positive shares that add up to 1",
    ),
    "poster_encoder.name": (lambda v: _is_encoder(v, POSTER_ENCODERS), _names(POSTER_ENCODERS)),
    "poster_encoder.cnn.pooling": (lambda v: v in ("flatten", "average"), "'flatten' or 'average'"),
    "poster_encoder.preset.image_size": (
        lambda v: len(v) == 2 and min(v) >= 16 and max(v) <= 1024,
        "a height and a width from 16 to 1024 pixels",
    ),
    "overview_encoder.name": (lambda v: _is_encoder(v, OVERVIEW_ENCODERS), _names(OVERVIEW_ENCODERS)),
    "overview_encoder.bilstm.pooling": (lambda v: v in ("last", "max"), "'last' or 'max'"),
    "overview_encoder.bag.pairs": (lambda v: 0 <= v <= 10_000_000, "from 0 (none) to 10,000,000"),
    "overview_encoder.bag.ngrams": (lambda v: 0 <= v <= 10_000_000, "from 0 (none) to 10,000,000"),
    "fine_tuning.learning_rate": (lambda v: 0 < v < math.inf, "greater than 0, and finite"),
    "overview_encoder.preset.layers": (lambda v: 1 <= v <= _DEEPEST, "from 1 to 100"),
    "fine_tuning.layers": (lambda v: v >= 0, "0 (all) or more"),
    "fine_tuning.layers_per_epoch": (lambda v: v >= 0, "0 (all at once) or more"),
    "joint.unimodal_loss": (lambda v: 0 <= v < math.inf, "0 or more, and finite"),
    "joint.balance": (lambda v: v in BALANCES, f"one of {', '.join(BALANCES)}"),
    "late.combiner": (lambda v: v in COMBINERS, f"one of {', '.join(COMBINERS)}"),
    "training.precision": (lambda v: v in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
    "training.loss": (lambda v: v in LOSSES, f"one of {', '.join(LOSSES)}"),
    "training.learning_rate": (lambda v: 0 < v < math.inf, "greater than 0, and finite"),
    "training.hold_epochs": (lambda v: v >= 0, "0 or more"),
    "training.decay": (lambda v: 0 <= v < math.inf, "0 or more"),
    "training.weight_decay": (lambda v: 0 <= v < math.inf, "0 or more"),
    "training.label_smoothing": (lambda v: 0 <= v < 1, "from 0 to below 1"),
    "training.patience": (lambda v: v >= 0, "0 (never stop early) or more"),
}


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    folder = resources.files("mmfusion") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def resolve(
    variant: str,
    *,
    recipe: str = "default",
    file: Path | None = None,
    overrides: dict | None = None,
) -> Config:
    """Puts together the configuration of one run: recipe, then file, then overrides.

    Args:
        variant: a name from `VARIANTS`.
        recipe: a name from `recipe_names`.
        file: a TOML file in the form of a recipe; it may hold only what differs.
        overrides: values by dotted key, such as `{"training.epochs": 3}`.

    Raises:
        UserError: an unknown recipe or key, a value of the wrong type or out of range, a bad file.
    """
    config = of_recipe(variant, recipe, file)
    try:
        return override(config, overrides or {}, where="the command line")
    except UserError:
        _check_together(config, str(file or f"recipe {recipe}"))  # which is not the command line's fault
        raise


def of_recipe(variant: str, recipe: str, file: Path | None = None) -> Config:
    """What a recipe and a file say of a variant; they may lack what it has to be told, such as its presets.

    Raises:
        UserError: see `resolve`.
    """
    if recipe not in recipe_names():
        raise UserError(f"unknown recipe {recipe!r}; there are: {', '.join(recipe_names())}")
    names = {"variant": variant, "recipe": recipe}
    text = (resources.files("mmfusion") / "recipes" / f"{recipe}.toml").read_text("utf-8")
    values = _for_variant(tomllib.loads(text), variant, where=f"recipe {recipe}")
    if file is not None:
        values = _merge(values, _for_variant(_read_toml(file), variant, where=str(file)))
    if variant in VARIANTS:  # whatever the recipe and the file name
        values = _merge(values, {section: {"name": name} for section, name in VARIANTS[variant].encoders})
    return _build(Config, {**values, **names}, "", str(file or f"recipe {recipe}"))


def override(config: Config, values: dict, *, where: str) -> Config:
    """The same configuration with other values by dotted key, such as `{"training.epochs": 3}`.

    Raises:
        UserError: see `resolve`; `where` names the values' origin.
    """
    changed = config.to_dict()
    for key, value in values.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        changed = _merge(changed, value)
    return from_dict({**changed, "variant": config.variant, "recipe": config.recipe}, where=where)


def from_dict(values: dict, *, where: str) -> Config:
    """Builds a `Config` from plain dicts; `where` names their origin in errors.

    Raises:
        UserError: a key that is unknown or missing, a value of the wrong type or out of range.
    """
    config = _build(Config, values, "", where)
    _check_together(config, where)
    return config


def _check_together(config: Config, where: str) -> None:
    """Refuses values that are good each by itself but not beside the others.

    Raises:
        UserError: it names them.
    """
    # The first convolution halves a poster, rounded up, and every further entry halves it, rounded down.
    size, layers = config.data.poster_size, len(config.poster_encoder.cnn.filters)
    if (size + 1) // 2 < 2 ** (layers - 1):
        raise UserError(
            f"{where}: poster_encoder.cnn.filters has {layers} entries, too many for posters of {size} pixels"
        )
    if config.fine_tuning.fine_tune and not config.presets:
        raise UserError(
            f"{where}: fine-tuning trains presets, and neither encoder is one; name it as preset:NAME_OR_FOLDER"
        )
    variant = VARIANTS.get(config.variant, Variant(""))
    for section, name in variant.encoders:
        if getattr(config, section).name != name:
            raise UserError(
                f"{where}: {config.variant} has the encoder {name}, not {getattr(config, section).name}; "
                f"--variant {variant.modalities[0]} takes any"
            )
    if variant.joins_features and (config.fine_tuning.fine_tune or set(variant.modalities) - config.presets.keys()):
        raise UserError(
            f"{where}: {config.variant} joins the features of frozen presets; name a preset for each modality, "
            "without fine-tuning"
        )


def _read_toml(file: Path) -> dict:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the config file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not valid TOML: {error}") from error


def _for_variant(values: dict, variant: str, where: str) -> dict:
    """Drops the `variants` table after laying the one variant's values over the rest."""
    values = dict(values)
    for key in ("variant", "recipe"):
        if key in values:
            raise UserError(f"{where}: {key} is chosen on the command line, not in a file")
    tables = values.pop("variants", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise UserError(f"{where}: write [variants.NAME.SECTION] tables")
    return _merge(values, tables.get(variant, {}))


def _merge(below: dict, above: dict) -> dict:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _build(cls, values, prefix: str, where: str):
    """One dataclass from a dict; recurses into the dataclasses among its fields."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: {prefix.rstrip('.')} must be a table, not {values!r}")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise UserError(f"{where}: unknown key {prefix}{key}{_did_you_mean(f'{prefix}{key}', cls, prefix)}")
    fields = {}
    for key, hint in hints.items():
        name = f"{prefix}{key}"
        if key not in values:
            raise UserError(f"{where}: the key {name} is missing")
        if dataclasses.is_dataclass(hint):
            fields[key] = _build(hint, values[key], f"{name}.", where)
        else:
            fields[key] = _typed(values[key], hint, name, where)
            _check_range(fields[key], name, where)
    return cls(**fields)


def _did_you_mean(key: str, cls, prefix: str) -> str:
    """A hint at the key that was meant: in the same table, or one of that name in any."""
    last, keys = key.rsplit(".", 1)[-1], _keys(Config)
    here = difflib.get_close_matches(key, [f"{prefix}{name}" for name in typing.get_type_hints(cls)], n=1)
    elsewhere = [full for full in keys if full.rsplit(".", 1)[-1] == last]
    meant = elsewhere or here or difflib.get_close_matches(key, keys, n=1)
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _keys(cls, prefix: str = "") -> list[str]:
    """All settings by dotted key."""
    keys = []
    for name, hint in typing.get_type_hints(cls).items():
        keys += _keys(hint, f"{prefix}{name}.") if dataclasses.is_dataclass(hint) else [f"{prefix}{name}"]
    return keys


def _typed(value, hint, name: str, where: str):
    origin = typing.get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: {name} must be a list, not {value!r}")
        value = tuple(_typed(v, typing.get_args(hint)[0], name, where) for v in value)
    elif hint is float and type(value) is int:
        value = float(value)
    elif type(value) is not hint:
        raise UserError(f"{where}: {name} must be {_TYPE_NAMES[hint]}, not {value!r}")
    elif hint is str and not value.isprintable():  # it comes to be printed, and a terminal obeys some of the rest
        raise UserError(f"{where}: {name} must have characters that can be printed only, not {value!r}")
    return value


def _check_range(value, name: str, where: str) -> None:
    key = name.rsplit(".", 1)[-1]
    check, meaning = _RANGES.get(name, (None, ""))
    if key.endswith("dropout"):
        check, meaning = (lambda v: 0 <= v < 1), "from 0 to below 1"
    elif key in _SIZES:
        sizes = value if isinstance(value, tuple) else (value,)
        if not sizes and key != "dense_units":  # without dense layers there is still a network
            raise UserError(f"{where}: {name} must not be empty")
        largest = _DEEPEST if key == "blocks" else _LARGEST
        if len(sizes) > _DEEPEST or max(sizes, default=1) > largest:
            raise UserError(f"{where}: {name} must have at most {_DEEPEST} entries of at most {largest:,}")
        check, meaning = (lambda _: min(sizes, default=1) >= 1), "at least 1"
    if check and not check(value):
        shown = list(value) if isinstance(value, tuple) else value
        raise UserError(f"{where}: {name} must be {meaning}, not {shown!r}")


_LARGEST = 1_000_000  # of any size: more is a slip, or somebody's run folder that asks for all memory
_DEEPEST = 100  # layers of one kind
_SIZES = (
    "max_tokens batch_size filters dense_units embedding_dim lstm_units patch_size width heads blocks units epochs"
).split()
_TYPE_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
