"""A configuration is complete, typed and refused by name."""

import json

import pytest

from mmfusion.config import from_dict, recipe_names, resolve
from mmfusion.errors import UserError
from mmfusion.models import VARIANTS


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_recipe_is_complete_and_survives_json(recipe, variant):
    config = resolve(variant, recipe=recipe)
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
        ("[training]\nepochs = 0", "training.epochs must be at least 1, not 0"),
        ("[data]\naugment = 1", "data.augment must be true or false, not 1"),
        ("[data]\nsplit = [0.5, 0.5]", "data.split must be three positive shares"),
        (
            "[poster_encoder.cnn]\nfilters = [8, 'x']",
            "poster_encoder.cnn.filters must be a whole number, not 'x'",
        ),
        ("[poster_encoder.cnn]\nfilters = [8, 0]", "poster_encoder.cnn.filters must be at least 1"),
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
    with pytest.raises(UserError, match=r"the command line: training\.epochs must be at least 1"):
        resolve("poster", file=file, overrides={"training.epochs": 0})


def test_a_missing_key_and_an_unknown_recipe_are_named():
    values = resolve("poster").to_dict()
    del values["training"]["epochs"]
    with pytest.raises(UserError, match=r"the key training\.epochs is missing"):
        from_dict(values, where="config.json")
    with pytest.raises(UserError, match="unknown recipe 'best'; there are: default, pretrained, report"):
        resolve("poster", recipe="best")
