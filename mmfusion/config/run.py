"""The configuration of one run."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import PrivateAttr, model_validator

from mmfusion.config.fields import Modalities, Section, Seed, Text
from mmfusion.config.sections import (
    OF_FILMS,
    AugmentConfig,
    DataConfig,
    EarlyConfig,
    EarlyFeaturesConfig,
    FineTuningConfig,
    JointConfig,
    LateConfig,
    OverviewConfig,
    OverviewEncoderConfig,
    PixelsConfig,
    PosterEncoderConfig,
    TableConfig,
    TableEncoderConfig,
    TrainingConfig,
    WideConfig,
    WordsConfig,
)
from mmfusion.config.variants import ENCODER_SECTIONS, PRESET, VARIANTS, is_preset, kind_of
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER, Modality

FINE_TUNED = "fine-tuned"
WIDE_PATH = "wide"
_AS_READ = {POSTER: PixelsConfig(), OVERVIEW: WordsConfig()}  # where what reads them does not say it


class Config(Section):
    """One run, fully resolved: this is what `config.json` in a run folder holds."""

    variant: Text
    recipe: Text
    seed: Seed = 0  # of weights, order of films, augmentation and dropout
    split_seed: Seed  # which films train, validate and test; where it is not given, the seed
    modalities: Modalities = (POSTER, OVERVIEW)  # that fusion reads
    data: DataConfig = DataConfig()
    overview: OverviewConfig = OverviewConfig()
    table: TableConfig = TableConfig()
    poster_encoder: PosterEncoderConfig = PosterEncoderConfig()
    overview_encoder: OverviewEncoderConfig = OverviewEncoderConfig()
    table_encoder: TableEncoderConfig = TableEncoderConfig()
    fine_tuning: FineTuningConfig = FineTuningConfig()
    early: EarlyConfig = EarlyConfig()
    early_features: EarlyFeaturesConfig = EarlyFeaturesConfig()
    joint: JointConfig = JointConfig()
    late: LateConfig = LateConfig()
    wide: WideConfig = WideConfig()
    training: TrainingConfig = TrainingConfig()
    _fitted_words: int | None = PrivateAttr(None)

    @model_validator(mode="before")
    @classmethod
    def _split_by_the_seed(cls, values):
        if isinstance(values, dict) and "split_seed" not in values:
            return {**values, "split_seed": values.get("seed", 0)}
        return values

    @property
    def reads(self) -> tuple[Modality, ...]:
        """The modalities that its variant reads; none of what is no variant."""
        named = (VARIANTS[self.variant].modalities or self.modalities) if self.variant in VARIANTS else ()
        return tuple(modality for modality in MODALITIES if modality in named)

    @property
    def in_batches(self) -> tuple[Modality, ...]:
        """The modalities that batches have: those of the fusion that it is compared with, and its own."""
        return tuple(modality for modality in MODALITIES if modality in (*self.modalities, *self.reads))

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections that its variant reads beside [data] and [training]."""
        idle = set(ENCODER_SECTIONS) - {modality.section for modality in self.reads}
        of_variant = VARIANTS[self.variant].sections if self.variant in VARIANTS else ()
        return tuple(section for section in of_variant if section not in idle)

    @property
    def encoders(self) -> dict[str, str]:
        """The encoder that reads each modality of the variant; of a preset in a folder, the folder's own name.

        Empty for a variant that has none of its own, and for what is no variant.
        """
        read = [modality for modality in self.reads if modality.section in self.sections]
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
        if variant is None or variant.encoders:
            return self.variant
        is_tuned = self.fine_tuning.fine_tune and self.presets.keys() & self.encoders.keys()
        more = f", {FINE_TUNED}" if is_tuned else f", {WIDE_PATH}" if self.has_wide_path else ""
        encoders = self.encoders
        if not encoders and self.reads in ((), (POSTER, OVERVIEW)):
            return self.variant
        named = " + ".join(encoders.get(modality, modality) for modality in self.reads)
        return f"{self.variant} ({named}{more})"

    @property
    def folder_name(self) -> str:
        """The label as a folder may be called: "joint-resnet+bag"."""
        return re.sub(r"[^\w.+-]", "", self.label.replace(" (", "-").replace(", ", "-"))

    @property
    def poster_size(self) -> int:
        """Pixels of a side of the posters that are prepared; a preset has sizes of its own."""
        return self._how_read(POSTER, "poster_size")

    @property
    def augmentation(self) -> AugmentConfig | None:
        """How training posters are changed; None where they stay as they are."""
        if POSTER not in self.reads or not self._how_read(POSTER, "augment"):
            return None
        return AugmentConfig(**{name: self._how_read(POSTER, name) for name in AugmentConfig.model_fields})

    @property
    def vocabulary_size(self) -> int:
        """Words of the vocabulary, padding and out-of-vocabulary included."""
        return self._fitted_words or self._how_read(OVERVIEW, "vocabulary_size")

    @property
    def max_tokens(self) -> int:
        """Tokens of an overview that are kept.

        Batches are cut by overviews' length: no encoder of overviews shall change a model that reads none.
        """
        is_read = OVERVIEW in self.reads or not self.reads
        return self._how_read(OVERVIEW, "max_tokens") if is_read else WordsConfig().max_tokens

    def with_vocabulary(self, size: int) -> "Config":
        """The same with so many words, as training films had them."""
        fitted = self.model_copy()
        fitted._fitted_words = size
        return fitted

    def _how_read(self, modality: Modality, setting: str):
        """Gives a setting of what reads a modality: the variant itself, or the encoder that is named."""
        encoder = getattr(self, modality.section)
        own = [getattr(self, name) for name in self.sections if name not in ENCODER_SECTIONS]
        chosen = getattr(encoder, kind_of(encoder.name), None)  # one of your own may have none
        for section in (*own, chosen, _AS_READ[modality]):
            if hasattr(section, setting):
                return getattr(section, setting)
        raise KeyError(setting)

    @property
    def paths(self) -> list[Path]:
        """Files and folders that it names: films, tables, a split, presets."""
        data, presets = self.data, (Path(name) for name in self.presets.values())
        named = (data.data_dir, data.file, data.split_file, self.table.file)
        return [*(Path(name) for name in named if name), *(folder for folder in presets if folder.is_dir())]

    @property
    def has_wide_path(self) -> bool:
        """Tells if a linear path from words is beside the network; where a preset reads overviews are none."""
        read = "wide" in self.sections and OVERVIEW in self.reads and OVERVIEW not in self.presets
        return read and self.wide.units != "none"

    @property
    def parts(self) -> tuple[str, ...]:
        """The variants that this one puts together; none for most."""
        apart = self.variant in VARIANTS and VARIANTS[self.variant].trained_apart
        return tuple(map(str, self.reads)) if apart else ()

    def made_of(self, parts: Mapping[str, "Config"]) -> "Config":
        """The same with the encoders of its parts, whose configurations are given by their variant."""
        taken = {}
        for part in parts.values():
            taken |= {section: getattr(part, section) for section in part.sections}
            if part.presets.keys() & part.encoders.keys():
                taken["fine_tuning"] = part.fine_tuning
        return self.with_values(**taken)

    def with_values(self, **values) -> "Config":
        """The same with other sections or values, which are not checked again."""
        return self.model_copy(update=values)

    def to_dict(self) -> dict:
        """Plain dicts, lists and scalars, ready for JSON."""
        return self.model_dump(mode="json")

    def used(self) -> dict:
        """The same without what another variant or encoder would read: what a run holds."""
        values = self.to_dict()
        if self.variant not in VARIANTS:  # a baseline says itself what it reads
            return values
        of_variants = {section for variant in VARIANTS.values() for section in variant.sections}
        for section in of_variants.difference(self.sections, ENCODER_SECTIONS):
            del values[section]
        for modality in MODALITIES:
            encoder = values.pop(modality.section)
            kind = kind_of(encoder["name"])
            settings = encoder.get(kind, {})
            if modality not in self.reads:  # batches have it, and nothing reads it
                settings = {name: value for name, value in settings.items() if name in OF_FILMS}
                if not settings or is_preset(encoder["name"]) or modality not in self.in_batches:
                    continue
            elif modality.section not in self.sections:
                continue
            values[modality.section] = {"name": encoder["name"], **({kind: settings} if settings else {})}
        if not self.presets.keys() & self.encoders.keys():
            del values["fine_tuning"]
        return values
