"""Pretrained encoders, on presets made here."""

import socket
import sys
import time

import kagglehub
import keras
import keras_hub
import numpy as np
import pytest
import requests
from conftest import PARTS, TINY, command, run_variant, tiny_config, write_folder
from huggingface_hub import constants
from test_benchmark import settings
from tiny_presets import WORDS, write_image_preset, write_text_preset

from benchmarks import run as benchmark
from benchmarks import table
from mmfusion import inference, predict, train
from mmfusion.errors import UserError
from mmfusion.models import presets
from mmfusion.runs import Run
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.training import experiment, features, fitting, preparation
from mmfusion.training.fine_tuning import Unfreezing

SIZES = {
    "data__dataset": "multimodal_imdb",
    "poster_encoder__preset__image_size": [32, 24],
    "poster_encoder__preset__dense_units": [8],
    "overview_encoder__preset__dense_units": [8],
    "overview_encoder__preset__layers": 2,
    "overview_encoder__preset__max_tokens": 12,
    "early_features__units": 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Films of which one has no overview."""
    folder = write_folder(tmp_path_factory.mktemp("data") / "films", films=60)
    csv = folder / "IMDB_overview_genres.csv"
    csv.write_text(csv.read_text().replace("A film about thing7 and war1", ""))
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory, folder):
    """What a configuration needs to name the two presets."""
    place = tmp_path_factory.mktemp("presets")
    return SIZES | {
        "data__data_dir": str(folder),
        "poster_encoder__name": write_image_preset(place / "pictures"),
        "overview_encoder__name": write_text_preset(place / "texts"),
    }


def prepared_for(config, cache):
    return preparation.prepare(config, cache)


class TestFrozen:
    def test_features_are_the_presets_own_and_their_mean(self, names, cache):
        config = tiny_config("joint", **names)
        prepared = prepared_for(config, cache)
        read = prepared.inputs(config)
        said = presets.text_preprocessor(config)([prepared.films.overviews[3]])
        folder = names["overview_encoder__name"].removeprefix("preset:")
        network = keras_hub.models.Backbone.from_preset(folder)
        blocks = [layer.output for layer in network.layers if layer.name.startswith("transformer_layer")]
        sequences = keras.Model(network.input, blocks)(said)  # of the two layers, each (1, T, C)
        there = np.asarray(said["padding_mask"])[0]
        expected = np.concatenate([np.asarray(one)[0][there].mean(axis=0) for one in sequences])
        np.testing.assert_allclose(read.films[OVERVIEW].values[3], expected, atol=1e-5)
        assert not read.films[OVERVIEW].values[7].any()  # the film without an overview
        pictures = list(prepared.films.poster_files())
        encoded = features.open_poster(pictures[3])
        converted = np.asarray(presets.image_converter(config)(np.asarray(encoded, np.float32)))
        pixels = np.clip(
            np.rint((converted + 2) * 64), 0, 255
        )  # of 256 values, by the converter's scale and offset
        places = np.asarray(presets.load_poster_backbone(config).backbone(pixels[None] / 64 - 2))[0]
        np.testing.assert_allclose(read.films[POSTER].values[3], places.mean(axis=(0, 1)), atol=1e-5)

    def test_all_films_are_read_once_for_all_seeds_and_variants(self, names, cache, monkeypatch):
        config = tiny_config("joint", **names)
        prepared_for(config, cache).inputs(config)

        def read(self, films):
            raise AssertionError("the films are read again")

        for preset in (features.PosterPreset, features.OverviewPreset):
            monkeypatch.setattr(preset, "read", read)
        for variant in ("poster", "early_features", "joint"):
            config = tiny_config(variant, **names, seed=3)
            assert prepared_for(config, cache).inputs(config).features[POSTER] == [64]

    def test_another_preset_or_another_size_is_read_anew(self, names, tmp_path, cache):
        config = tiny_config("joint", **names)
        first = prepared_for(config, cache).inputs(config).films[POSTER].values
        for other in (
            {"poster_encoder__name": write_image_preset(tmp_path / "other", seed=1)},
            {"poster_encoder__preset__image_size": [40, 24]},
        ):
            config = tiny_config("joint", **{**names, **other})
            found = prepared_for(config, cache).inputs(config).films[POSTER].values
            assert not np.allclose(found, first)

    @pytest.mark.parametrize("other", [{"lowercase": False}, {"words": [*WORDS[:6], "about", "film", *WORDS[8:]]}])
    def test_another_tokenizer_of_the_same_weights_is_read_anew(self, other, names, tmp_path, cache, monkeypatch):
        def features_of_overviews():
            monkeypatch.setattr(features, "_fingerprints", {})
            config = tiny_config("overview", **{**names, "overview_encoder__name": f"preset:{tmp_path / 'own'}"})
            return prepared_for(config, cache).inputs(config)

        write_text_preset(tmp_path / "own")
        first = features_of_overviews()
        write_text_preset(tmp_path / "own", **other)
        again = features_of_overviews()
        assert again.presets != first.presets
        assert not np.allclose(again.films[OVERVIEW].values, first.films[OVERVIEW].values)

    def test_early_fusion_of_them_is_of_their_features_and_no_gradient_reaches_a_preset(
        self, names, cache, tmp_path
    ):
        run = run_variant("early_features", tmp_path / "early", cache, **names)
        said = "Encoders: posters by pictures (frozen), overviews by texts (frozen). The modalities meet before "
        assert f"{said}anything that is trained" in (run.folder / "report.md").read_text()
        model = inference.load_model(run)
        assert sum(w.shape.num_elements() for w in model.weights) < 1000  # a preset has more
        assert {w.path.split("/")[1] for w in model.trainable_weights} == {
            "poster_norm",
            "overview_norm",
            "hidden",
            "head",
        }

    def test_a_damaged_file_of_features_and_a_source_that_went_away_are_named(self, names, tmp_path, monkeypatch):
        config = tiny_config("joint", **names)
        prepared = prepared_for(config, tmp_path)

        def gone(*_):
            raise FileNotFoundError(2, "No such file", "films")

        with monkeypatch.context() as patched:
            patched.setattr(type(prepared.films.builder), "films", gone)
            with pytest.raises(UserError, match="the posters of films cannot be read any more"):
                prepared.inputs(config)
        prepared.inputs(config)
        file = next(tmp_path.rglob("*-pooled-*.npy"))
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(UserError, match=r"pooled-.*cannot be read: .*; delete it"):
            prepared.inputs(config)

    @pytest.mark.parametrize("operator", ["concat", "cross_attention"])
    def test_raw_films_are_predicted_as_in_the_run(self, operator, names, cache, tmp_path):
        run = run_variant("joint", tmp_path / "joint", cache, **names, joint__operator=operator)
        films = prepared_for(run.config, cache).films
        test = run.predictions("test")
        rows, posters = films.rows(test.ids), list(films.poster_files())
        found = inference.predict(
            run, {"poster": [posters[row] for row in rows], "overview": [films.overviews[row] for row in rows]}
        )
        np.testing.assert_allclose(found, test.y_prob, atol=1e-3 if operator == "cross_attention" else 1e-5)

    def test_a_run_is_not_asked_with_another_preset_in_the_place_of_its_own(
        self, names, cache, tmp_path, monkeypatch, capsys
    ):
        own = write_text_preset(tmp_path / "own")
        run = run_variant("overview", tmp_path / "run", cache, **{**names, "overview_encoder__name": own})
        monkeypatch.setattr(features, "_fingerprints", {})
        write_text_preset(tmp_path / "own", seed=1)
        assert command(predict.main, monkeypatch, run.folder, "--overview", "a film") == 2
        assert "was begun with another overview preset" in capsys.readouterr().err

    def test_training_does_not_go_on_with_another_preset(self, names, cache, tmp_path, monkeypatch):
        own = write_text_preset(tmp_path / "own")
        named = {**names, "overview_encoder__name": own}
        config = tiny_config("overview", **named, fine_tuning__fine_tune=True)

        def another():
            monkeypatch.setattr(features, "_fingerprints", {})
            write_text_preset(tmp_path / "own", seed=1)

        with pytest.raises(UserError, match="was begun with another overview preset"):
            resumed_after_an_epoch(config, tmp_path / "run", cache, monkeypatch, meanwhile=another)


def resumed_after_an_epoch(config, folder, cache, monkeypatch, meanwhile=lambda: None):
    """A run that stopped in its second epoch and was gone on with."""

    class Stop(Exception):
        pass

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(Unfreezing, "on_epoch_end", stop)
        with pytest.raises(Stop):
            experiment.train(config, folder, cache)
    meanwhile()
    return experiment.resume(Run(folder), cache)


class TestFineTuned:
    def test_trains_the_preset_and_goes_on_after_a_stop_with_the_same_bytes(
        self, names, cache, tmp_path, monkeypatch
    ):
        settings = {"fine_tuning__fine_tune": True, "fine_tuning__layers_per_epoch": 2, "training__epochs": 3}
        config = tiny_config("overview", **names, **settings)
        whole = experiment.train(config, tmp_path / "whole", cache)
        found = inference.load_model(whole).encoder.backbone.backbone.get_weights()
        before = presets.load_overview_backbone(config).backbone.get_weights()
        assert any(not np.array_equal(a, b) for a, b in zip(found, before))
        run = resumed_after_an_epoch(config, tmp_path / "stopped", cache, monkeypatch)
        assert run.predictions_file.read_bytes() == whole.predictions_file.read_bytes()
        films, test = prepared_for(config, cache).films, run.predictions("test")
        overviews = [films.overviews[row] for row in films.rows(test.ids)]
        again = inference.predict(run, {"overview": overviews})
        np.testing.assert_allclose(again, test.y_prob, atol=1e-5)

    def test_posters_reach_a_fine_tuned_preset_at_its_own_size(self, names, cache, tmp_path):
        config = tiny_config("joint", **names, fine_tuning__fine_tune=True, training__epochs=1)
        run = experiment.train(config, tmp_path / "run", cache)
        model = inference.load_model(run)
        assert model.encoders[POSTER].backbone is not None
        assert prepared_for(config, cache).inputs(config).films[POSTER].values.shape[1:] == (32, 24, 3)

    def test_late_fusion_is_of_two_that_are_both_fine_tuned_or_both_frozen(self, names, cache, tmp_path):
        parts = {v: tiny_config(v, **names, fine_tuning__fine_tune=True, training__epochs=1) for v in PARTS}
        run = experiment.train(tiny_config("late", **names), tmp_path / "late", cache, part_configs=parts)
        said = run.predictions("test").y_prob
        films = prepared_for(run.config, cache).films
        rows, posters = films.rows(run.split["test"]), list(films.poster_files())
        found = inference.predict(
            run, {"poster": [posters[row] for row in rows], "overview": [films.overviews[row] for row in rows]}
        )
        np.testing.assert_allclose(found, said, atol=1e-5)
        parts["poster"] = tiny_config("poster", **names)
        with pytest.raises(UserError, match="all, or none"):
            experiment.train(tiny_config("late", **names), tmp_path / "other", cache, part_configs=parts)
        assert not (tmp_path / "other").exists()

    def test_layers_below_the_chosen_ones_stay_as_they_came(self, names):
        config = tiny_config("overview", **names, fine_tuning__fine_tune=True, fine_tuning__layers=1)
        backbone = presets.overview_preset_encoder(config, as_sequence=False).backbone.backbone
        weighted = [layer for layer in backbone.layers if layer.weights]
        assert [layer.trainable for layer in weighted] == [False] * (len(weighted) - 1) + [True]

    def test_layers_are_unfrozen_one_after_the_other_from_the_top_at_their_own_rate(self, names, cache):
        config = tiny_config(
            "overview",
            **names,
            fine_tuning__fine_tune=True,
            fine_tuning__layers_per_epoch=1,
            fine_tuning__learning_rate=1e-4,
            training__weight_decay=0.5,  # of what is on top of the preset alone
        )
        prepared = prepared_for(config, cache)
        model = preparation.build(config, prepared, prepared.inputs(config))
        unfreezing = fitting.compile_model(model, config)[0]
        layers = [x for x in model.encoder.backbone.backbone.layers if x.trainable_weights]
        head = model.head
        for epoch, unfrozen in ((0, 0), (1, 1), (2, 2)):
            unfreezing.on_epoch_begin(epoch)
            before = [layer.get_weights() for layer in layers]
            head_before = head.get_weights()
            model.fit({POSTER: np.zeros((4, 32, 24, 3)), OVERVIEW: np.full((4, 5), 6)}, np.ones((4, 3)), verbose=0)
            moved = [
                max(np.abs(a - b).max() for a, b in zip(old, layer.get_weights())) > 0
                for old, layer in zip(before, layers)
            ]
            assert moved == [False] * (len(layers) - unfrozen) + [True] * unfrozen
            assert not np.array_equal(head.get_weights()[0], head_before[0])


class TestRefusals:
    def test_without_keras_hub_the_message_says_how_to_install_it(self, names, monkeypatch):
        monkeypatch.setitem(sys.modules, "keras_hub", None)
        with pytest.raises(UserError, match=r"pip install .*\[pretrained\]"):
            presets.load_poster_backbone(tiny_config("poster", **names))

    @pytest.mark.parametrize(
        ("name", "said"), [("/nowhere/at/all", "there is no such folder"), ("no_such_preset", "cannot be loaded")]
    )
    def test_a_preset_that_is_not_there_is_named(self, name, said, names):
        config = tiny_config("poster", **{**names, "poster_encoder__name": f"preset:{name}"})
        with pytest.raises(UserError, match=said):
            presets.load_poster_backbone(config)

    @pytest.mark.parametrize("name", ["efficientnet_lite0_ra_imagenet", "hf://nobody/nothing"])
    def test_a_hub_that_cannot_be_reached_is_named_within_seconds_with_what_to_do(self, name, names, monkeypatch):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            hub = f"http://127.0.0.1:{closed.getsockname()[1]}"
            monkeypatch.setattr(kagglehub, "model_download", lambda *args: requests.get(hub))
            monkeypatch.setattr(constants, "ENDPOINT", hub)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            presets._why_away.cache_clear()
            start = time.monotonic()
            with pytest.raises(UserError, match=r"hub cannot be reached \(Connection refused\): .*preset:FOLDER"):
                presets.load_poster_backbone(
                    tiny_config("poster", **{**names, "poster_encoder__name": f"preset:{name}"})
                )
            presets._why_away.cache_clear()
        assert time.monotonic() - start < 10

    def test_a_preset_of_the_other_modality_is_refused(self, names):
        texts = names["overview_encoder__name"]
        with pytest.raises(UserError, match="preset"):
            presets.load_poster_backbone(tiny_config("poster", **{**names, "poster_encoder__name": texts}))
        with pytest.raises(UserError, match="has 2 layers, fewer than"):
            presets.load_overview_backbone(
                tiny_config("overview", **{**names, "overview_encoder__preset__layers": 3})
            )
        pictures = names["poster_encoder__name"]
        with pytest.raises(UserError, match="preset"):
            presets.load_overview_backbone(tiny_config("overview", **{**names, "overview_encoder__name": pictures}))

    def test_fine_tuning_without_a_preset_is_no_choice(self):
        with pytest.raises(UserError, match="neither encoder is one"):
            tiny_config("joint", fine_tuning__fine_tune=True)

    def test_early_fusion_of_features_needs_those_of_both_modalities(self, names):
        with pytest.raises(UserError, match="name a preset for overview and poster"):
            tiny_config("early_features", **{**names, "poster_encoder__name": "resnet"})


def test_a_folder_is_named_by_where_it_is_whatever_the_command_says(names, tmp_path, monkeypatch):
    folder = names["poster_encoder__name"].removeprefix("preset:")
    monkeypatch.chdir(folder.rsplit("/", 1)[0])
    args = train.parser().parse_args(["--poster-encoder", f"preset:{folder.rsplit('/', 1)[1]}"])
    assert train.configure(args, "poster", 0).poster_encoder.name == f"preset:{folder}"


def test_the_benchmark_has_a_baseline_on_the_same_features_and_calls_them_by_their_presets(
    names, tmp_path, monkeypatch
):
    kinds = {
        "--data-dir": names["data__data_dir"],
        "--poster-encoder": names["poster_encoder__name"],
        "--overview-encoder": names["overview_encoder__name"],
        "--out": tmp_path / "results",
    }
    given = [word for flag, value in kinds.items() for word in (flag, value)]
    sizes = TINY | {key.replace("__", "."): value for key, value in SIZES.items() if key != "data__dataset"}
    encoders = {key.replace("__", "."): names[key] for key in ("poster_encoder__name", "overview_encoder__name")}
    given += settings(sizes, variants=("poster", "early_features"), **encoders)
    assert command(benchmark.main, monkeypatch, "--variants", "features", "poster", "early_features", *given) == 0
    assert command(table.main, monkeypatch, tmp_path / "results") == 0
    results = (tmp_path / "results" / "RESULTS.md").read_text()
    for row in ("features (pictures + texts)", "poster (pictures)", "early_features (pictures + texts)"):
        assert f"| {row} |" in results
    assert names["poster_encoder__name"].removeprefix("preset:") not in results  # folders of this machine


def test_the_baseline_on_features_needs_two_frozen_presets(tmp_path, monkeypatch, capsys):
    assert command(benchmark.main, monkeypatch, "--variants", "features", "--out", tmp_path / "out") == 2
    assert "features is fitted on features of frozen presets" in capsys.readouterr().err
