"""A configuration is complete, typed and refused by name."""

import json

import pytest

from mmfusion.config import VARIANTS, from_dict, recipe_names, resolve
from mmfusion.errors import UserError

PRESETS = {"poster_encoder.name": "preset:/models/pictures", "overview_encoder.name": "preset:hf://us/texts"}


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recipe_is_complete_and_survives_json(recipe, variant):
    config = resolve(variant, recipe=recipe, overrides=PRESETS if VARIANTS[variant].joins_features else {})
    assert from_dict(json.loads(json.dumps(config.to_dict())), where="here") == config


def test_a_file_lies_over_the_recipe_a_variants_table_over_the_file_and_a_flag_over_all(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5\n[training]\nepochs = 7\n[variants.poster.training]\nepochs = 9\npatience = 2")
    assert resolve("overview", file=file).training.epochs == 7
    config = resolve("poster", file=file, overrides={"training.patience": 4})
    assert (config.seed, config.training.epochs, config.training.patience) == (5, 9, 4)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[training]\nepoch = 3", "unknown key training.epoch; did you mean training.epochs?"),
        ("[training]\nepochs = 'many'", "training.epochs must be a whole number, not 'many'"),
        ("[training]\nepochs = true", "training.epochs must be a whole number, not True"),
        ("[training]\nepochs = 0", "training.epochs must be from 1 to 1,000,000, not 0"),
        ("[early]\naugment = 1", "early.augment must be true or false, not 1"),
        ("[data]\nsplit = [0.5, 0.5]", "data.split must be three positive shares"),
        (
            "[poster_encoder.cnn]\nfilters = [8, 'x']",
            "poster_encoder.cnn.filters must be a whole number, not 'x'",
        ),
        ("[poster_encoder.cnn]\nfilters = [8, 0]", "poster_encoder.cnn.filters must be from 1 to 1,000,000, not 0"),
        ("[poster_encoder.cnn]\ndropout = 1.0", "poster_encoder.cnn.dropout must be from 0 to below 1"),
        ("[late]\ncombiner = 'best'", "late.combiner must be one of mean, weighted, product, stacked"),
        ("[training]\nlearning_rate = inf", "training.learning_rate must be greater than 0, and finite"),
        ("[overview_encoder.bilstm]\nlstm_units = []", "overview_encoder.bilstm.lstm_units must not be empty"),
        ("training = 3", "training must be a table"),
        ("variants = 3", "write [variants.NAME.SECTION] tables"),
        ("variant = 'late'", "variant is chosen on the command line"),
        ("[training", "is not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, toml, said):
    file = tmp_path / "mine.toml"
    file.write_text(toml)
    with pytest.raises(UserError) as error:
        resolve("poster", file=file)
    assert said in str(error.value)
    assert str(file) in str(error.value)


def test_a_wrong_flag_is_not_laid_to_the_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 5")
    with pytest.raises(UserError, match=r"the command line: training\.epochs must be from 1 to 1,000,000"):
        resolve("poster", file=file, overrides={"training.epochs": 0})


def test_a_setting_that_an_earlier_version_did_not_know_has_its_default_and_a_run_has_a_variant():
    values = resolve("poster", overrides={"joint.units": 8}).to_dict()
    del values["training"]["epochs"]
    assert from_dict(values, where="config.json") == resolve("poster", overrides={"joint.units": 8})
    del values["variant"]
    with pytest.raises(UserError, match=r"the key variant is missing"):
        from_dict(values, where="config.json")


def test_the_split_has_the_seed_of_the_training_unless_it_has_its_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("split_seed = 7")
    both = {"seed": 3, "split_seed": 4}
    found = [resolve("joint", overrides={"seed": 3}), resolve("joint", file=file), resolve("joint", overrides=both)]
    assert [(one.seed, one.split_seed) for one in found] == [(3, 3), (0, 7), (3, 4)]


def test_a_bad_recipe_name_is_refused():
    with pytest.raises(UserError, match="unknown recipe 'best'; there are: default, first, pretrained, report"):
        resolve("poster", recipe="best")


@pytest.mark.parametrize(
    ("variant", "values", "label", "folder"),
    [
        ("poster", {}, "poster (resnet)", "poster-resnet"),
        ("joint", {}, "joint (resnet + bag)", "joint-resnet+bag"),
        ("early", {}, "early", "early"),
        ("cnn", {}, "cnn", "cnn"),
        ("overview", PRESETS, "overview (texts)", "overview-texts"),
        (
            "late",
            {**PRESETS, "fine_tuning.fine_tune": True},
            "late (pictures + texts, fine-tuned)",
            "late-pictures+texts-fine-tuned",
        ),
        ("tfidf", {}, "tfidf", "tfidf"),  # a baseline of the benchmark's
    ],
)
def test_a_model_is_called_by_its_variant_and_the_encoders_that_it_reads_with(variant, values, label, folder):
    config = resolve(variant, overrides=values)
    assert (config.label, config.folder_name) == (label, folder)


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize(("variant", "section"), [("cnn", "poster_encoder"), ("bilstm", "overview_encoder")])
def test_the_reports_baselines_have_its_encoders_whatever_the_recipe_names(recipe, variant, section):
    assert getattr(resolve(variant, recipe=recipe), section).name == variant


@pytest.mark.parametrize(
    ("variant", "recipe", "values", "said"),
    [
        (
            "cnn",
            "default",
            {"poster_encoder.name": "resnet"},
            "cnn has the encoder cnn, not resnet; --variant poster",
        ),
        ("bilstm", "first", {"overview_encoder.name": "bag"}, "the encoder bilstm, not bag; --variant overview"),
        (
            "early_features",
            "default",
            {},
            "joins the features of frozen presets; name a preset for overview and poster",
        ),
        (
            "early_features",
            "pretrained",
            {"fine_tuning.fine_tune": True},
            "overview and poster, without fine-tuning",
        ),
    ],
)
def test_encoders_that_a_variant_cannot_have_are_refused_in_one_line_that_says_what_to_name(
    variant, recipe, values, said
):
    with pytest.raises(UserError) as error:
        resolve(variant, recipe=recipe, overrides=values)
    assert str(error.value).startswith("the command line: " if values else "recipe default: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
