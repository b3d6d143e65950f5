"""Settings that a run would not read: nobody should believe that a flag did something."""

from collections.abc import Collection, Iterable, Mapping

from mmfusion.config import ENCODER_SECTIONS, VARIANTS, Config, Variant, is_preset
from mmfusion.config.sections import AugmentConfig, PixelsConfig, WordsConfig
from mmfusion.config.variants import kind_of
from mmfusion.errors import UserError
from mmfusion.schema import OVERVIEW, POSTER, TABLE

# Sections that belong to some variants only. A baseline reads none of them, unless it says so.
_OF_POSTERS = (*PixelsConfig.model_fields, "patch_size", "overlap")
_OF_WORDS = (*WordsConfig.model_fields, "ngrams", "word_dropout")
_OF_ANOTHER_SCHEDULE = {"cosine": ("hold_epochs", "decay")}
_OF_SOME = {section for variant in VARIANTS.values() for section in variant.sections}


def is_idle(key: str, config: Config, baselines: Mapping[str, Collection[str]]) -> bool:
    """Tells if a run of this configuration is the same with any value of this setting.

    Args:
        key: dotted, of `config.json`.
        config: of the run.
        baselines: names of what is no network, with the sections that each reads beside the films, or the settings
            of an encoder.
    """
    section, _, rest = key.partition(".")
    if section == "data":
        return _is_idle_of_films(rest, config)
    if section == "split_seed":
        return _has_own_split(config)
    baseline = config.variant in baselines
    sections = baselines[config.variant] if baseline else config.sections
    if key in ("overview.split", "overview.fold"):
        if OVERVIEW.section in sections and is_preset(config.overview_encoder.name):  # it has its own tokenizer
            return True
        key = "overview.columns"  # as little read as these
    if section in ("modalities", "overview", "table"):
        return _is_idle_of_modalities(key, config, baseline)
    read = [one for one in ENCODER_SECTIONS if one in sections]
    if section in ENCODER_SECTIONS:
        kind, _, inner = rest.partition(".")
        other = bool(inner) and kind != kind_of(getattr(config, section).name)
        return other or (section not in read and not (baseline and inner in sections))
    if section == "fine_tuning":
        return baseline or not any(is_preset(getattr(config, one).name) for one in read)
    if section in _OF_SOME:
        return section not in sections
    return section == "training" and baseline


def _is_idle_inside(key: str, config: Config) -> bool:
    """Tells if another setting of the same configuration keeps this one from acting."""
    section, _, rest = key.partition(".")
    if section == "fine_tuning":
        return rest != "fine_tune" and not config.fine_tuning.fine_tune
    if section == "training":
        return rest in _OF_ANOTHER_SCHEDULE.get(config.training.schedule, ())
    if rest.rpartition(".")[2] in AugmentConfig.model_fields and _is_not_augmented(key, config):
        return True
    if section == "wide":
        read_as_words = OVERVIEW in config.reads and OVERVIEW not in config.presets
        return not read_as_words or (rest == "c" and not config.has_wide_path)
    variant = VARIANTS.get(config.variant, Variant(""))
    if variant.joins_features:  # it has a classifier of its own on what the presets give
        return key.endswith((".dense_units", ".dense_dropout", ".preset.dropout"))
    if key.startswith("early."):
        return (rest in _OF_POSTERS and POSTER not in config.reads) or (
            rest in _OF_WORDS and OVERVIEW not in config.reads
        )
    return False


def _is_not_augmented(key: str, config: Config) -> bool:
    """Tells if posters stay as they are, whatever this setting of how they are augmented is."""
    if key.startswith("poster_encoder.preset.") and not config.fine_tuning.fine_tune:
        return True
    return not key.endswith(".augment") and not config.augmentation


def acting(config: Config, baselines: Mapping[str, Collection[str]]) -> dict[str, object]:
    """The settings that a run of this configuration reads, by dotted key: where they agree, so do two runs."""
    values = flat(config.to_dict())
    found = {key: value for key, value in values.items() if not is_idle(key, config, baselines)}
    for name in PixelsConfig.model_fields.keys() & set(baselines.get(config.variant, ())):
        # A baseline has the films of an encoder that it is not: whichever has the same will do.
        found = {key: value for key, value in found.items() if not key.endswith(f".{name}")}
        found[name] = getattr(config, name)
    return found


def flat(values: dict, prefix: str = "") -> dict[str, object]:
    """Gives values of nested tables by dotted key."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _is_idle_of_modalities(key: str, config: Config, baseline: bool) -> bool:
    """The same of what says which modalities are read, and of which columns they are made."""
    made = config.data.dataset == "synthetic"
    if made and (key == "table.columns" or (key == "modalities" and TABLE in config.modalities)):
        return False  # with a table other films are made
    read = {OVERVIEW, POSTER} if baseline else config.reads
    if key == "modalities":
        return baseline or bool(VARIANTS[config.variant].modalities)
    if key == "overview.columns":
        return OVERVIEW not in read
    return TABLE not in read and not (key == "table.file" and OVERVIEW in read and config.overview.columns)


def _is_idle_of_films(key: str, config: Config) -> bool:
    dataset, of_table = config.data.dataset, key.partition(".")[0] in ("file", "columns", "encoding", "separator")
    if key in ("films", "films_seed"):
        return dataset != "synthetic"
    if key == "all_genres":
        return dataset != "mmimdb"
    if of_table or key in ("data_dir", "skip_bad", "keep_placeholders"):
        is_downloaded = dataset == "multimodal_imdb" and not (config.data.data_dir or config.data.file)
        return dataset == "synthetic" or (of_table and (dataset == "mmimdb" or is_downloaded))
    return key == "split" and _has_own_split(config)


def _has_own_split(config: Config) -> bool:
    """Tells if nothing of the split is drawn; of a file or a column, validation films may have to be."""
    return config.data.dataset == "mmimdb" and not config.data.split_file


def acts_nowhere(key: str, configs: Iterable[Config], baselines: Mapping[str, Collection[str]]) -> bool:
    """Tells if none of these runs would be another one with another value of this setting."""
    return all(is_idle(key, config, baselines) or _is_idle_inside(key, config) for config in configs)


def refuse_idle(
    given: Mapping[str, str],
    configs: Iterable[Config],
    baselines: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Refuses settings that act in none of some runs.

    Args:
        given: by dotted key, how the command line says it, such as "--epochs".
        configs: of the runs.
        baselines: see `is_idle`.

    Raises:
        UserError: it names the first of them.
    """
    configs = list(configs)
    for key, flag in given.items():
        if acts_nowhere(key, configs, baselines or {}):
            names = ", ".join(dict.fromkeys(config.variant for config in configs))
            what = key if key != "data.data_dir" else f"--data-dir with --dataset {configs[0].data.dataset}"
            raise UserError(f"{flag} does nothing here: {what} is not read by {names}; leave it out")
