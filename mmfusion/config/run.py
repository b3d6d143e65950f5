"""The configuration of one run."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import model_validator

from mmfusion.config.fields import Modalities, Section, Seed, Text
from mmfusion.config.sections import (
    DataConfig,
    EarlyConfig,
    EarlyFeaturesConfig,
    FineTuningConfig,
    JointConfig,
    LateConfig,
    OverviewConfig,
    OverviewEncoderConfig,
    PosterEncoderConfig,
    TableConfig,
    TableEncoderConfig,
    TrainingConfig,
)
from mmfusion.config.variants import ENCODER_SECTIONS, PRESET, VARIANTS, is_preset
from mmfusion.schema import MODALITIES, OVERVIEW, POSTER, Modality

FINE_TUNED = "fine-tuned"


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
    training: TrainingConfig = TrainingConfig()

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
        encoders = self.encoders
        if not encoders and self.reads in ((), (POSTER, OVERVIEW)):
            return self.variant
        named = " + ".join(encoders.get(modality, modality) for modality in self.reads)
        return f"{self.variant} ({named}{f', {FINE_TUNED}' if is_tuned else ''})"

    @property
    def folder_name(self) -> str:
        """The label as a folder may be called: "joint-resnet+bag"."""
        return re.sub(r"[^\w.+-]", "", self.label.replace(" (", "-").replace(", ", "-"))

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
