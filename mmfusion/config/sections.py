"""The parts of a configuration: a default, a bound and a sentence beside each value."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, GetPydanticSchema
from pydantic_core import core_schema

from mmfusion.config.fields import (
    Columns,
    Count,
    Depth,
    Entries,
    Hashes,
    Layers,
    PictureSize,
    Pixels,
    Positive,
    Rate,
    Section,
    Seed,
    Separator,
    Share,
    Size,
    Sizes,
    Split,
    Text,
    checked,
)
from mmfusion.config.variants import (
    BALANCES,
    COMBINERS,
    ENCODERS,
    LOSSES,
    PRECISIONS,
    PRESET,
    SCHEDULES,
    WIDE,
    is_preset,
)
from mmfusion.schema import OVERVIEW, POSTER, TABLE


def _one_of(names: Iterable[str]) -> GetPydanticSchema:
    """Accepts one of these, as `Literal` does of names that are written out in it."""
    return GetPydanticSchema(lambda *_: core_schema.literal_schema(list(names)))


def _encoder(modality: str) -> AfterValidator:
    """Accepts the name of an encoder: one of a modality's, or a preset's."""
    names = tuple(ENCODERS[modality])
    meaning = f"{', '.join(names)}, or {PRESET} and the name or folder of a keras-hub preset"
    return checked(lambda v: v in names or (is_preset(v) and len(v) > len(PRESET)), meaning)


NO_COLUMN = "-"  # names none


class RolesConfig(Section):
    """The columns of a table of films, by what they say; what is not named is found out, see `data.columns`."""

    id: Text = ""
    overview: Columns = ()  # their texts are joined, a line each
    genres: Columns = ()  # one with all of a film's genres, or one of 0 and 1 for each
    poster: Text = ""  # a path or a file's name; "-": none, posters are named by the id
    split: Text = ""  # "-": none
    group: Text = ""  # films with the same value, such as a director, stay in one split; "-": none


class DataConfig(Section):
    """Films, and how they become batches."""

    dataset: Text = "synthetic"
    data_dir: Text = ""  # "" for a data set that is downloaded or made on the spot
    file: Text = ""  # the films' table; "" for the one in data_dir
    columns: RolesConfig = RolesConfig()  # of that table
    encoding: Text = ""  # of that table, by its name in Python; "": found out
    separator: Separator = ""  # of its cells; "": found out
    split_file: Text = ""  # JSON with the ids of train, validation and test films; "": none
    keep_placeholders: bool = False  # texts and pictures that stand for none in many films are read like others
    all_genres: bool = False  # of mmimdb, those beside the 23 too
    films: Annotated[int, Field(ge=20, le=10_000_000)] = 2000  # how many films `synthetic` makes
    films_seed: Seed = 0  # which films `synthetic` makes
    skip_bad: bool = False  # drop and list films that cannot be read, instead of stopping
    split: Split = (0.7, 0.1, 0.2)  # shares of train, validation and test films; a split that is there wins
    batch_size: Size = 64


class OverviewConfig(Section):
    """The text that is read; see `data.table.texts_of`."""

    columns: Columns = ()  # whose texts are joined, in this order; "Overview" is the overview itself; []: it alone
    # What "auto" comes to is decided from the training films; see `data.scripts.decide`.
    split: Literal["auto", "words", "characters"] = "auto"  # the latter where a script has no spaces between words
    fold: Literal["auto", "on", "off"] = "auto"  # case, accents and width by Unicode's rules


class TableConfig(Section):
    """Columns of numbers and categories that films have; see `data.table`."""

    file: Text = ""  # a CSV with a row a film, joined by its column Id; "" for films that have their own
    columns: Columns = ()  # that are read; []: all that films have of their own
    values: Annotated[int, Field(ge=1, le=10_000)] = 50  # of a category, the most frequent that are told apart


class AugmentConfig(Section):
    """How training posters are changed from epoch to epoch, each by amounts drawn up to these."""

    augment: bool = True  # flip and change training posters; without it none of the following acts
    shift: Share = 0.06  # of the poster's side, each way
    turn: Annotated[float, Field(ge=0, le=1)] = 0.12  # radians, each way
    crop: Share = 0.0  # of the poster's sides, taken off before it is enlarged to its size again
    contrast: Share = 0.0  # more or less, as a share
    colour: Share = 0.0  # of each colour more or less, as a share
    erase: Share = 0.0  # of the poster's sides, those of a rectangle in the mean colour (Zhong et al. 2020)


class PixelsConfig(AugmentConfig):
    """Posters as they reach what reads them, where that is no preset."""

    poster_size: Pixels = 64  # H = W


class WordsConfig(Section):
    """Overviews as they reach what reads them, where that is no preset."""

    vocabulary_size: Entries = 20_000  # words, padding and out-of-vocabulary included
    max_tokens: Size = 100


OF_FILMS = PixelsConfig.model_fields.keys() | WordsConfig.model_fields.keys()


def of_layers(section: Section) -> dict:
    """Gives the settings of what reads films, without those of how films reach it."""
    return {name: value for name, value in section if name not in OF_FILMS}


class CNNConfig(PixelsConfig):
    """A plain convolutional network on posters; see `models.poster_encoders.CNNEncoder`."""

    filters: Layers = (16, 32, 64, 128)
    batch_norm: bool = False
    dropout: Share = 0.2
    pooling: Literal["flatten", "average"] = "flatten"
    dense_units: Sizes = (1024, 1024)
    dense_dropout: Share = 0.5


class ResNetConfig(PixelsConfig):
    """A residual network on posters; see `models.poster_encoders.ResNetEncoder`."""

    filters: Layers = (32, 64, 128)
    dropout: Share = 0.1
    dense_units: Sizes = (256,)
    dense_dropout: Share = 0.5


class BiLSTMConfig(WordsConfig):
    """A bidirectional LSTM on overviews; see `models.overview_encoders.BiLSTMEncoder`."""

    embedding_dim: Size = 128
    embedding_dropout: Share = 0.3
    lstm_units: Layers = (64,)
    dropout: Share = 0.3
    recurrent_dropout: Share = 0.0
    pooling: Literal["last", "max"] = "max"
    dense_units: Sizes = (128,)
    dense_dropout: Share = 0.5


class BagConfig(WordsConfig):
    """A bag of words, pairs of words and words' n-grams; see `models.overview_encoders.BagEncoder`."""

    embedding_dim: Size = 256
    pairs: Hashes = 0  # embeddings that pairs of words share by their hash; 0: none
    ngrams: Hashes = 20_000  # the same for n-grams of a word's letters
    embedding_dropout: Share = 0.3
    dense_units: Sizes = ()
    dense_dropout: Share = 0.5


class PosterPresetConfig(AugmentConfig):  # of posters, where the preset is fine-tuned
    """Layers on a pretrained backbone for posters; see `models.presets.PresetEncoder`."""

    image_size: PictureSize = (224, 224)  # height and width that posters are resized to, in pixels
    dropout: Share = 0.2
    dense_units: Sizes = (512,)
    dense_dropout: Share = 0.5


class OverviewPresetConfig(Section):
    """Layers on a pretrained backbone for overviews; see `models.presets.PresetEncoder`."""

    max_tokens: Size = 100  # the preset's own
    layers: Depth = 4  # so many of its last layers are read
    dropout: Share = 0.2
    dense_units: Sizes = (512,)
    dense_dropout: Share = 0.5


class MLPConfig(Section):
    """Dense layers on a table's columns; see `models.table_encoders.MLPEncoder`."""

    embedding_dim: Size = 16  # of a column's vector
    dense_units: Sizes = (128,)
    dense_dropout: Share = 0.3


class PosterEncoderConfig(Section):
    """The network on posters: which, and what each would be."""

    name: Annotated[Text, _encoder(POSTER)] = "resnet"
    cnn: CNNConfig = CNNConfig()
    resnet: ResNetConfig = ResNetConfig()
    preset: PosterPresetConfig = PosterPresetConfig()


class OverviewEncoderConfig(Section):
    """The network on overviews: which, and what each would be."""

    name: Annotated[Text, _encoder(OVERVIEW)] = "bag"
    bilstm: BiLSTMConfig = BiLSTMConfig()
    bag: BagConfig = BagConfig()
    preset: OverviewPresetConfig = OverviewPresetConfig()


class TableEncoderConfig(Section):
    """The network on tables: which, and what each would be."""

    name: Annotated[str, _one_of(ENCODERS[TABLE])] = "mlp"
    mlp: MLPConfig = MLPConfig()


class EarlyConfig(PixelsConfig, WordsConfig):
    """The shared Transformer of early fusion; see `models.early.EarlyFusion`."""

    vocabulary_size: Entries = 10_000  # with the bag of words' 20,000 its validation micro-AP is 0.505, not 0.517
    ngrams: Hashes = 0  # embeddings that n-grams of a word's letters share by their hash; 0: none
    word_dropout: Share = 0.0  # in training, the share of words that are not read
    patch_size: Size = 8
    overlap: bool = False  # neighbouring patches share half of their pixels
    width: Size = 128
    heads: Size = 4
    blocks: Depth = 2
    dropout: Share = 0.2


class EarlyFeaturesConfig(Section):
    """The classifier of joined features; see `models.early_features.EarlyFeatures`."""

    units: Size = 512
    dropout: Share = 0.2


class JointConfig(Section):
    """Joint fusion of the encoders' features; see `models.joint.JointFusion`."""

    operator: Text = "concat"
    units: Size = 256
    dropout: Share = 0.5
    modality_dropout: Share = 0.2  # in training, the share of films that are read without one of their modalities
    unimodal_loss: Rate = 1.0  # weight of the losses of each encoder's own head
    balance: Annotated[str, _one_of(BALANCES)] = "none"


class LateConfig(Section):
    """Late fusion of the models' decisions; see `models.late.LateFusion`."""

    combiner: Annotated[str, _one_of(COMBINERS)] = "product"


class WideConfig(Section):
    """A linear path from an overview's words to genres, beside the network; see `models.wide.WidePath`."""

    units: Annotated[str, _one_of(WIDE)] = "none"
    c: Positive = 3.0  # how little large weights are punished, as scikit-learn's C


class FineTuningConfig(Section):
    """Fine-tuning of a preset's own weights; without it they stay as they came."""

    fine_tune: bool = False
    learning_rate: Positive = 2e-5  # of the preset's layers; those on top of it have `training.learning_rate`
    layers: Count = 0  # from the top, those that are trained; 0: all
    layers_per_epoch: Count = 0  # gradual unfreezing (Howard & Ruder 2018): so many more each epoch; 0: at once


class TrainingConfig(Section):
    """Adam; the best epoch by validation loss is kept."""

    # Of layers' arithmetic; mixed_bfloat16 is faster on some processors.
    precision: Annotated[str, _one_of(PRECISIONS)] = "float32"
    epochs: Size = 40
    # Of training; the validation loss is always binary cross-entropy.
    loss: Annotated[str, _one_of(LOSSES)] = "bce"
    learning_rate: Positive = 1e-3
    # "exponential" holds the rate and then lets it decay; with "cosine" (Loshchilov & Hutter 2017) it falls to 0 in
    # the course of all `epochs`.
    schedule: Annotated[str, _one_of(SCHEDULES)] = "exponential"
    warmup_epochs: Count = 0  # epochs before, over which the rate rises to the first
    hold_epochs: Count = 10  # epochs at the first learning rate
    decay: Rate = 0.1  # after them, the rate is multiplied by exp(-decay) every epoch
    # Of an exponential moving average of the weights, which is what is validated and kept; 0: none. What batch
    # normalisation counts is not averaged.
    ema_momentum: Share = 0.0
    weight_decay: Rate = 0.0  # decoupled from the gradients (Loshchilov & Hutter 2019), of kernels and embeddings
    # Genres start from how frequent they are among training films (Lin et al. 2017, arXiv:1708.02002), not from one
    # half.
    prior_bias: bool = False
    label_smoothing: Share = 0.0  # training labels are moved by this share towards 1/2 (Szegedy et al. 2016)
    patience: Count = 6  # stop after so many epochs without a better validation loss; 0: never
    calibrate: bool = True  # fit a temperature on the validation films (Guo et al. 2017), for the best epoch

    @property
    def begins_alike(self) -> bool:
        """Tells if a training of more epochs begins as one of fewer does."""
        return self.schedule == "exponential"
