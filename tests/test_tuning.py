"""Spaces are made of settings, and what a search leaves says what it found. No model is trained here."""

import csv
import json
import tomllib
from operator import attrgetter
from pathlib import Path

import pytest
from conftest import PARTS, tiny_config

from mmfusion.config import VARIANTS, of_recipe, resolve
from tuning import importance, spaces, summary
from tuning.records import Outcome, Search, Trial

PRESETS = {"poster_encoder.name": "preset:posters", "overview_encoder.name": "preset:texts"}


def presets_of(variant):
    return PRESETS if VARIANTS[variant].joins_features else {}


def start_of(variant, make=lambda name: resolve(name, overrides=presets_of(name))):
    return {name: make(name) for name in (*(PARTS if variant == "late" else ()), variant)}


def space_of(variant):
    start = start_of(variant)
    return start, spaces.declare(start, list(spaces.space_of(start)))


@pytest.mark.parametrize("variant", VARIANTS)
class TestEverySpace:
    def test_has_the_starting_configuration_among_its_points(self, variant):
        start, space = space_of(variant)
        assert spaces.configure(start, {one.name: one.default for one in space.space}) == start

    def test_gives_configurations_wherever_it_is_asked(self, variant):
        start, space = space_of(variant)
        for seed in range(50):
            values = {one.name: one.random_sample(seed) for one in space.space}
            for owner, config in spaces.configure(start, values).items():
                assert config.variant == owner
                assert config.early.poster_size % config.early.patch_size == 0
                assert config.early.width % config.early.heads == 0


def test_every_line_of_the_file_is_a_setting_with_values_of_its_kind():
    config = resolve("joint")
    for key, values in spaces.SPACE.items():
        default = attrgetter(key)(config)
        one = values["low"] if isinstance(values, dict) else values[0]
        assert isinstance(tuple(one) if isinstance(one, list) else one, type(default)), key
        if isinstance(values, dict):
            assert values["low"] < values["high"]
            assert values.keys() <= {"low", "high", "log"}


def test_what_a_frozen_preset_does_not_read_is_not_searched():
    for variant, expected in {
        "early_features": {"early_features.units", "early_features.dropout", "overview_encoder.preset.layers"},
        "poster": {f"poster_encoder.preset.{key}" for key in ("dropout", "dense_units", "dense_dropout")},
    }.items():
        config = resolve(variant, recipe="pretrained", overrides=PRESETS)
        found = set(spaces.space_of({variant: config}))
        assert {name for name in found if not name.startswith("training.")} == expected
    fine_tuned = resolve("poster", recipe="pretrained", overrides={**PRESETS, "fine_tuning.fine_tune": True})
    assert "poster_encoder.preset.augment" in spaces.space_of({"poster": fine_tuned})


def test_a_recipes_own_value_joins_those_to_choose_from():
    start = {
        "poster": resolve(
            "poster", overrides={"poster_encoder.resnet.filters": [8, 8], "training.learning_rate": 0.1}
        )
    }
    space = spaces.declare(start, ["poster_encoder.resnet.filters", "training.learning_rate"])
    filters, rate = space.space
    assert "[8, 8]" in filters.values
    assert filters.default == "[8, 8]"
    assert (rate.max_value, rate.default) == (0.1, 0.1)


def test_a_part_of_late_fusion_is_not_changed_by_what_it_does_not_read():
    start = start_of("late")
    found = spaces.configure(start, {"poster.poster_encoder.resnet.poster_size": 48, "late.combiner": "stacked"})
    assert found["overview"] == start["overview"]
    assert found["poster"].poster_size == 48
    found = spaces.configure(start, {"overview.training.learning_rate": 0.002})
    assert found["overview"].training.learning_rate == 0.002
    assert found["poster"] == start["poster"]


def search_of(variant="joint", names=("training.learning_rate", "joint.units")):
    return Search(variant, "random", "ap_micro", 0, names, start_of(variant, tiny_config), "films")


def trial(number, score, reason="", values=()):
    named = {"training.learning_rate": 1e-3, "joint.units": 8, **dict(values)}
    return Trial(Path(), number, named, outcome=Outcome(score, reason, 1.0, 3, 100))


def table_of(*trials):
    return summary.table_of(search_of(), list(trials))


STARTS = {
    "a recipe's": "",
    "a file's": "[training]\npatience = 8\nhold_epochs = 3\n[poster_encoder.cnn]\npooling = 'flatten'\n"
    "[variants.poster.training]\npatience = 10\n[variants.late.late]\ncombiner = 'stacked'\n",
}


@pytest.mark.parametrize("recipe", ["default", "report"])
@pytest.mark.parametrize("file", STARTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_best_trials_file_gives_just_that_trials_configuration(variant, file, recipe, tmp_path):
    (tmp_path / "start.toml").write_text(STARTS[file])

    def make(name):
        few = {**presets_of(name), "training.epochs": 3}
        return resolve(name, recipe=recipe, file=tmp_path / "start.toml", overrides=few)

    start = start_of(variant, make)
    space = spaces.declare(start, list(spaces.space_of(start)))
    search = Search(variant, "random", "ap_micro", 0, tuple(one.name for one in space.space), start, "films")
    for seed in range(12):
        values = {one.name: spaces.decode(one.random_sample(seed)) for one in space.space}
        found = summary.table_of(search, [trial(0, 0.6), trial(1, 0.7, values=values)])
        (tmp_path / "best.toml").write_text(summary.best_toml(search, found))
        for name, expected in spaces.configure(start, values).items():
            again = resolve(name, recipe=recipe, file=tmp_path / "best.toml")
            # How long a trial lasted is not in it, and the films of late fusion's parts are late fusion's.
            same = {"training": again.training.model_copy(update={"epochs": 3})}
            if name != variant:
                same["data"] = expected.data
            assert again.with_values(**same) == expected
            assert again.training.epochs == of_recipe(name, recipe).training.epochs


TUNING = Path(summary.__file__).parent
KEPT = [TUNING / "start.toml", *sorted((TUNING / "best").glob("*.toml"))]


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_settings_that_were_measured_are_whole_so_that_a_later_recipe_does_not_change_them(file):
    values = tomllib.loads(file.read_text("utf-8"))
    config = resolve("joint", file=file)
    for section in ("joint", "late", "wide", "training"):
        assert values[section].keys() == vars(getattr(config, section)).keys()
    for section in ("poster_encoder", "overview_encoder"):
        name = values[section]["name"]
        assert values[section][name].keys() == vars(getattr(getattr(config, section), name)).keys()


def test_where_nothing_was_better_the_file_says_so():
    text = summary.best_toml(search_of(), table_of(trial(0, 0.7), *(trial(n, 0.7) for n in (1, 2, 3))))
    assert "# joint: the start, the best of 3 trials and the starting configuration" in text
    assert "learning_rate" not in text


def test_trials_that_failed_are_in_the_table_with_their_reason(tmp_path):
    found = table_of(trial(0, 0.5), trial(1, None, "out of memory: 3 GB"), trial(2, 0.6))
    assert summary.best(found, search_of())["trial"] == "2"
    summary.write_trials(found, tmp_path)
    with (tmp_path / "trials.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["trial"] for line in lines] == ["start", "1", "2"]
    assert (lines[1]["status"], lines[1]["ap_micro"], lines[1]["reason"]) == ("failed", "", "out of memory: 3 GB")


@pytest.mark.parametrize(("matters", "said"), [(True, "predicts the score"), (False, "cannot tell")])
def test_importance_is_given_only_where_the_trials_can_tell(matters, said):
    found = []
    for number in range(24):
        rate, units = 1e-4 * (1 + number * 7 % 24), [8, 16][number % 2]
        noise = (number * 37 % 24) / 24
        value = 100 * rate + 0.001 * noise if matters else noise
        found.append(trial(number, value, values={"training.learning_rate": rate, "joint.units": units}))
    weights = importance.estimate(table_of(*found), search_of())
    assert said in weights.sentence
    assert list(weights.shares)[:1] == (["training.learning_rate"] if matters else [])


def test_few_trials_say_nothing_of_importance():
    weights = importance.estimate(table_of(*(trial(n, 0.5 + n / 100) for n in range(5))), search_of())
    assert (weights.shares, weights.sentence) == ({}, "5 scored trials are too few to tell; there must be 10.")


def test_a_search_survives_json():
    assert json.loads(json.dumps(search_of().to_dict())) == search_of().to_dict()
