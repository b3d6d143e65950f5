"""A source that was read is recognised by its files' names, sizes and times, and what a report shows is kept."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import command, pack, tiny_config
from PIL import Image

from benchmarks import run as benchmark
from mmfusion import evaluate, train
from mmfusion.data.films import load_films
from mmfusion.data.mmimdb.mmimdb_dataset_builder import ARCHIVE
from mmfusion.data.posters import SHOWN_BYTES
from mmfusion.data.recognition import forget
from mmfusion.runs import Run
from mmfusion.training import experiment, preparation
from tuning import search

LAST_YEAR = 1_700_000_000 * 10**9  # nanoseconds


def set_times(folder: Path, time: int = LAST_YEAR) -> Path:
    for file in folder.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(time, time))
    return folder


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(params=["multimodal_imdb", "mmimdb", "archive"])
def source(request) -> Path:
    """A folder of films that did not change for long, in each form."""
    if request.param == "multimodal_imdb":
        return set_times(request.getfixturevalue("folder"))
    folder = request.getfixturevalue("mm_folder")
    return set_times(folder if request.param == "mmimdb" else pack(folder))


def films_of(folder: Path, cache: Path, **overrides):
    dataset = "multimodal_imdb" if (folder / "Images").exists() else "mmimdb"
    config = tiny_config("poster", data__dataset=dataset, data__data_dir=str(folder), **overrides)
    return load_films(config.data, cache, poster_size=config.poster_size)


def change(folder: Path, time: int) -> None:
    """Another content of the same size, with the time that is said."""
    file = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".jpeg", ".gz"))[3]
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(time, time))


def posters_in(opened: list[str], folder: Path) -> list[str]:
    """The posters, or the archive of them, that were opened."""
    return [path for path in opened if path.startswith(f"{folder}/") and path.endswith((".jpg", ".jpeg", ".gz"))]


class TestSource:
    def test_a_second_start_opens_no_poster(self, source, cache, opened):
        first = films_of(source, cache)
        assert posters_in(opened, source)
        opened.clear()
        second = films_of(source, cache)
        assert posters_in(opened, source) == []
        assert (second.fingerprint, second.ids) == (first.fingerprint, first.ids)
        np.testing.assert_array_equal(second.posters, first.posters)

    def test_a_copy_with_other_times_is_read_once_and_not_prepared_again(self, source, cache, opened, capsys):
        fingerprint = films_of(source, cache).fingerprint
        copy = set_times(shutil.copytree(source, source.with_name("copy")), LAST_YEAR + 10**10)
        capsys.readouterr()
        for read in (True, False):
            opened.clear()
            assert films_of(copy, cache).fingerprint == fingerprint
            assert bool(posters_in(opened, copy)) is read
        assert "Preparing" not in capsys.readouterr().err

    def test_a_change_of_size_or_time_is_seen(self, folder, cache):
        found = {films_of(set_times(folder), cache).fingerprint}
        change(folder, LAST_YEAR + 1)
        found.add(films_of(folder, cache).fingerprint)
        with (folder / "Images" / "tt0001.jpg").open("ab") as file:
            file.write(b"\0")
        os.utime(file.name, ns=(LAST_YEAR, LAST_YEAR))
        found.add(films_of(folder, cache).fingerprint)
        (folder / "Images" / "tt0001.jpg").unlink()
        found.add(films_of(folder, cache, data__skip_bad=True).fingerprint)
        assert len(found) == 4

    def test_a_change_that_keeps_both_is_seen_when_everything_is_read_anew(self, folder, cache):
        before = films_of(set_times(folder), cache).fingerprint
        change(folder, LAST_YEAR)
        assert films_of(folder, cache).fingerprint == before
        forget(cache)
        after = films_of(folder, cache).fingerprint
        assert after != before
        assert films_of(folder, cache).fingerprint == after

    def test_a_change_right_after_the_films_were_read_is_seen_though_the_clock_did_not_tick(self, source, cache):
        now = max(file.stat().st_ctime_ns for file in source.rglob("*"))
        set_times(source, now)
        before = films_of(source, cache, data__skip_bad=True).fingerprint
        assert not list((cache / "sources").glob("*"))
        if not (source / ARCHIVE).exists():  # which with another byte cannot be read
            change(source, now)
            assert films_of(source, cache, data__skip_bad=True).fingerprint != before

    def test_a_link_that_leads_to_another_file_of_the_same_size_and_time_is_seen(self, folder, cache):
        images = folder / "Images"
        (images / "tt0003.jpg").rename(images / "one.jpg")
        shutil.copy(images / "one.jpg", images / "other.jpg")
        (images / "other.jpg").write_bytes((images / "one.jpg").read_bytes()[:-9] + bytes(9))
        set_times(folder)
        found = set()
        for target, time in (("one.jpg", LAST_YEAR), ("other.jpg", LAST_YEAR + 1)):
            (images / "tt0003.jpg").unlink(missing_ok=True)
            (images / "tt0003.jpg").symlink_to(target)
            os.utime(images / "tt0003.jpg", ns=(time, time), follow_symlinks=False)
            found.add(films_of(folder, cache, data__skip_bad=True).fingerprint)
        assert len(found) == 2

    def test_a_file_that_could_not_be_read_is_tried_again(self, folder, cache, monkeypatch):
        set_times(folder)
        real = Path.read_bytes

        def refused(path):
            if path.name == "tt0005.jpg":
                raise PermissionError(13, "Permission denied")
            return real(path)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", refused)
            assert list(films_of(folder, cache, data__skip_bad=True).skipped) == ["tt0005"]
        assert len(films_of(folder, cache, data__skip_bad=True)) == 40

    @pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[:20], lambda text: "0" * 16 + text[16:]])
    def test_what_is_kept_of_it_may_be_damaged(self, folder, cache, damage):
        fingerprint = films_of(set_times(folder), cache).fingerprint
        (kept,) = (cache / "sources").iterdir()
        good = kept.read_text()
        kept.write_text(damage(good))
        assert films_of(folder, cache).fingerprint == fingerprint
        assert kept.read_text() == good

    @pytest.mark.parametrize("name", ["train", "run", "search", "evaluate"])
    def test_every_command_that_reads_films_can_read_them_anew(self, name, folder, cache, tmp_path, monkeypatch):
        films_of(set_times(folder), cache)
        main = {"train": train, "run": benchmark, "search": search, "evaluate": evaluate}[name].main
        what = {"run": ("--variants", "poster"), "evaluate": (tmp_path / "nowhere",)}.get(
            name, ("--variant", "poster")
        )
        args = ("--cache-dir", cache, "--data-dir", tmp_path / "nowhere", "--out", tmp_path / "out", "--rehash")
        assert command(main, monkeypatch, *what, *args) == 2
        assert not list((cache / "sources").iterdir())


class TestShown:
    def test_posters_of_a_report_outlive_the_source(self, source, cache):
        films = films_of(source, cache)
        files = {file.stem: file.read_bytes() for file in source.rglob("*.jp*g")}
        shutil.rmtree(source)
        shown = films.encoded_posters([films.ids[3], films.ids[1]])
        assert list(shown) == [films.ids[3], films.ids[1]]
        for film, poster in shown.items():
            assert poster == files.get(film, poster)
            assert Image.open(io.BytesIO(poster)).size == (20, 30)

    def test_a_large_poster_is_shown_smaller_in_its_shape_and_colours(self, folder, cache):
        rng = np.random.default_rng(0)
        pixels = np.repeat(np.repeat(rng.integers(0, 256, (9, 6, 3), np.uint8), 100, 0), 100, 1)
        noise = rng.integers(0, 9, pixels.shape, np.uint8)
        picture = Image.fromarray(pixels // 2 + noise)
        picture.save(folder / "Images" / "tt0002.jpg", quality=95)
        assert (folder / "Images" / "tt0002.jpg").stat().st_size > SHOWN_BYTES
        poster = films_of(folder, cache).encoded_posters(["tt0002"])["tt0002"]
        assert len(poster) <= SHOWN_BYTES
        shown = Image.open(io.BytesIO(poster))
        assert (shown.format, shown.size) == ("JPEG", (171, 256))
        expected = np.asarray(picture.resize(shown.size, Image.Resampling.BOX)).astype(int)
        assert np.abs(np.asarray(shown) - expected).mean() < 4

    def test_a_run_keeps_the_films_of_its_report_without_opening_a_poster(self, folder, cache, opened, tmp_path):
        data = {"data__dataset": "multimodal_imdb", "data__data_dir": str(folder)}
        config = tiny_config("poster", **data)
        films_of(set_times(folder), cache)
        opened.clear()
        prepared = preparation.prepare(config, cache)
        with Run.create(tmp_path / "run") as run:
            preparation.write_decisions(run, config, prepared, {"parameters": 1, "reads": ["poster"]})
            labels = prepared.films.labels
            said = {split: labels[prepared.rows[split]] * 0.5 for split in ("validation", "test")}
            experiment.write_predictions(run, prepared, said)
        kept = Run(tmp_path / "run").films()
        assert len(kept) == 2 * min(6, len(said["test"]) // 2)
        for film, (read_poster, _) in kept.items():
            assert read_poster() == (folder / "Images" / f"{film}.jpg").read_bytes()
            opened.remove(str(folder / "Images" / f"{film}.jpg"))  # just now
        assert posters_in(opened, folder) == []

    def test_a_cache_that_went_away_is_no_reason_to_lose_a_run(self, folder, cache):
        films = films_of(folder, cache)
        shutil.rmtree(cache)
        assert films.encoded_posters(["tt0001"]) == {}
