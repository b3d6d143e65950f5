"""A flag or a setting that cannot act is refused by name, and what is wrong at once, before a film is read."""

from types import SimpleNamespace

import pytest
from conftest import PARTS, command, tiny_config

from benchmarks import run as benchmark
from benchmarks import sweep
from benchmarks.baselines import SECTIONS_READ
from mmfusion import train
from mmfusion.config import resolve
from mmfusion.config.idle import acting
from mmfusion.data import films
from mmfusion.training import preparation
from tuning import search


@pytest.mark.parametrize(
    ("main", "call", "said"),
    [
        (
            train,
            "--variant poster --fusion gated",
            "--fusion does nothing here: joint.operator is not read by poster",
        ),
        (train, "--variant poster --set recipe=report", "recipe is chosen with --recipe"),
        (train, "--variant poster --set variant=late", "variant is chosen with --variant"),
        (train, "--variant poster --set recipe.foo=1", "recipe is chosen with --recipe"),
        (
            train,
            "--variant overview --set poster_encoder.resnet.augment=false",
            "poster_encoder.resnet.augment is not read by overview",
        ),
        (
            train,
            "--variant early_features --recipe pretrained --set poster_encoder.preset.augment=false",
            "poster_encoder.preset.augment is not read by early_features",
        ),
        (
            train,
            "--variant early_features --recipe pretrained --set poster_encoder.preset.dropout=0.1",
            "poster_encoder.preset.dropout is not read by early_features",
        ),
        (train, "--variant overview --set wide.c=2", "wide.c is not read by overview"),
        (train, "--variant poster --set wide.units=words", "wide.units is not read by poster"),
        (
            train,
            "--variant poster --set poster_encoder.resnet.augment=false --set poster_encoder.resnet.erase=0.1",
            "poster_encoder.resnet.erase is not read",
        ),
        (train, "--variant poster --set training.schedule=cosine --set training.decay=0.1", "decay is not read"),
        (train, "--variant early --modalities poster table --set early.ngrams=50", "early.ngrams is not read"),
        (
            train,
            "--variant early --modalities overview table --set early.overlap=true",
            "overlap is not read",
        ),
        (train, "--variant early --set early_features.units=8", "early_features.units is not read by early"),
        (train, "--variant joint --combiner mean", "--combiner does nothing here"),
        (train, "--variant poster --overview-encoder bag", "--overview-encoder does nothing here"),
        (train, "--variant overview --set poster_encoder.resnet.dropout=0.1", "not read by overview"),
        (train, "--variant poster --set poster_encoder.cnn.dropout=0.1", "not read by poster"),  # it has a resnet
        (train, "--variant early --poster-encoder cnn", "--poster-encoder does nothing here"),
        (train, "--variant poster --set early.width=8", "not read by poster"),
        (train, "--variant poster --set fine_tuning.layers=1", "not read by poster"),
        (train, "--variant poster --data-dir . --set data.films=60", "--set data.films=60 does nothing here"),
        (train, "--variant poster --data-dir . --dataset synthetic", "--data-dir does nothing here"),
        (train, "--variant poster --skip-bad", "--skip-bad does nothing here"),
        (train, "--variant poster --epochs 3 --set training.epochs=4", "--epochs says 3; leave out one of the two"),
        (train, "--variant late --parts a b --epochs 3", "--epochs does nothing here: --parts are trained already"),
        (benchmark, "--out {out} --variants tfidf colours --epochs 3", "not read by colours, tfidf"),
        (benchmark, "--out {out} --variants poster overview --fusion gated", "not read by poster, overview"),
        (benchmark, "--out {out} --set seed=3", "--seeds N trains with the seeds"),
        (benchmark, "--out {out} --variants tfidf --missing", "--missing does nothing here"),
        (search, "--out {out} --variant poster --combiner mean", "--combiner does nothing here"),
    ],
)
def test_what_cannot_act_is_refused_by_name(main, call, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = call.format(out=tmp_path / "out").split()
    assert command(main.main, monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_files_lines_may_be_for_other_variants(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[joint]\nunits = 8\n[late]\ncombiner = 'mean'\n")
    assert resolve("poster", file=file).joint.units == 8


def test_in_a_sweep_it_is_enough_that_one_run_reads_a_setting(tmp_path, monkeypatch):
    args = benchmark.parser().parse_args(["--set", "joint.units=8", "--out", str(tmp_path)])
    sweep.refuse_idle_flags(args, [resolve("poster"), resolve("joint")])


def test_a_run_is_found_again_whatever_other_models_would_read():
    first, second = (tiny_config("poster", joint__units=units) for units in (8, 16))
    assert acting(first, SECTIONS_READ) == acting(second, SECTIONS_READ)
    assert acting(first, SECTIONS_READ) != acting(tiny_config("poster", training__decay=0.5), SECTIONS_READ)


def test_a_baseline_is_found_again_whichever_encoder_has_posters_of_its_size():
    def colours(**overrides):
        found = resolve("poster", overrides={key.replace("__", "."): value for key, value in overrides.items()})
        return acting(found.with_values(variant="colours"), SECTIONS_READ)

    assert colours()["poster_size"] == 64
    assert colours() == colours(poster_encoder__name="cnn") == colours(poster_encoder__name="preset:x")
    assert colours() != colours(poster_encoder__resnet__poster_size=32)


def test_late_fusion_takes_fine_tuning_over_from_its_parts_and_is_found_again(tmp_path):
    encoder = "[variants.poster.poster_encoder]\nname = 'preset:pictures'\n"
    (tmp_path / "late.toml").write_text(f"{encoder}[variants.poster.fine_tuning]\nfine_tune = true\n")
    parts = {part: resolve(part, file=tmp_path / "late.toml") for part in PARTS}
    found = resolve("late", file=tmp_path / "late.toml").made_of(parts)
    assert found.label == "late (pictures + bag, fine-tuned)"
    args = benchmark.parser().parse_args(["--config-dir", str(tmp_path), "--out", str(tmp_path)])
    wanted = sweep.configured(args, "late", 0)
    sweep.check_same(SimpleNamespace(config=found, parts=[], folder=tmp_path), wanted, args)


WRONG = [
    ("joint", "--fusion crossattention", "unknown joint.operator 'crossattention'"),
    ("joint", "--fusion cross_attention --set joint.units=7", "do not divide 7 units"),
    ("early", "--set early.patch_size=7", "early.patch_size 7 does not divide early.poster_size 64"),
    ("early", "--set early.heads=3", "early.heads 3 does not divide early.width 128"),
    ("poster", "--poster-encoder preset:./nowhere", "preset:./nowhere: there is no such folder"),
]


@pytest.mark.parametrize(("variant", "flags", "said"), WRONG)
@pytest.mark.parametrize("main", [train, benchmark, search])
def test_what_the_configuration_shows_to_be_wrong_is_refused_before_a_film_is_read(
    main, variant, flags, said, tmp_path, monkeypatch, capsys
):
    def read(*args):
        raise AssertionError("films are read")

    monkeypatch.setattr(films, "load_films", read)
    monkeypatch.setattr(preparation, "films_of", read)
    which = ["--variants", "frequencies", variant] if main is benchmark else ["--variant", variant]
    call = [*which, *flags.split(), "--out", tmp_path / "out"]
    assert command(main.main, monkeypatch, *call) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
