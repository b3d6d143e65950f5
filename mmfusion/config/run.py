"""The configuration of one run."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import model_validator

from mmfusion.config.fields import Section, Seed, Text
from mmfusion.config.sections import (
    DataConfig,
    EarlyConfig,
    EarlyFeaturesConfig,
    FineTuningConfig,
    JointConfig,
    LateConfig,
    OverviewEncoderConfig,
    PosterEncoderConfig,
    TrainingConfig,
)
from mmfusion.config.variants import PRESET, VARIANTS, is_preset
from mmfusion.schema import MODALITIES

FINE_TUNED = "fine-tuned"


class Config(Section):
    """One run, fully resolved: this is what `config.json` in a run folder holds."""

    variant: Text
    recipe: Text
    seed: Seed = 0  # of weights, order of films, augmentation and dropout
    split_seed: Seed  # which films train, validate and test; where it is not given, the seed
    data: DataConfig = DataConfig()
    poster_encoder: PosterEncoderConfig = PosterEncoderConfig()
    overview_encoder: OverviewEncoderConfig = OverviewEncoderConfig()
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
        return self.with_values(**taken)

    def with_values(self, **values) -> "Config":
        """The same with other sections or values, which are not checked again."""
        return self.model_copy(update=values)

    def to_dict(self) -> dict:
        """Plain dicts, lists and scalars, ready for JSON."""
        return self.model_dump(mode="json")
