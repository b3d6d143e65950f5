"""Disks that are full and folders that cannot be written: a run says so, keeps what it has, and goes on later.

The disks are small file systems in memory; where nothing may be mounted, their tests are skipped.
"""

import os

import numpy as np
import pytest
from conftest import tiny_config, write_folder
from processes import AT_LAST, TRAIN, Forked, Process, one_line, resumed

from mmfusion import inference
from mmfusion.data.films import load_films
from mmfusion.errors import UserError
from mmfusion.runs import Run
from mmfusion.training import features


@pytest.fixture(scope="module")
def undisturbed(trained) -> bytes:
    """The final predictions of a run that nothing happened to."""
    return trained("poster").predictions_file.read_bytes()


# Fills the disk of the run folder up to what is said, when something happens for the nth time.
FILL = """
what, times, left = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
disk = pathlib.Path(sys.argv[-1]).parent

def fill():
    with (disk / "other").open("wb", buffering=0) as file:
        room = os.statvfs(disk)
        file.write(bytes(room.f_bavail * room.f_frsize - left))

at(what, fill)
"""


class TestFullDisk:
    @pytest.mark.parametrize(
        ("what", "times", "left", "file"),
        [
            ("epoch", 2, 0, "history.csv"),
            ("epoch", 2, 8_192, "resume.npz"),
            ("archive", 2, 4_096, "model.keras"),
            ("logits", 1, 0, "model.keras"),  # the validation films' logits, to fit a temperature
            ("logits", 2, 0, "predictions.npz"),
            ("predictions.npz", 1, 0, "films"),
            ("overviews.json", 1, 0, "manifest.json"),
            ("report", 1, 0, "curves.png"),
            ("badly.png", 1, 0, "report.md"),
            ("report.md", 1, 0, "report.json"),
        ],
    )
    def test_it_says_so_and_goes_on_when_there_is_room(
        self, undisturbed, tiny_toml, tmp_path, mounted, monkeypatch, what, times, left, file
    ):
        disk = mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "tmpfs")
        args = ("--variant", "poster", "--config", tiny_toml, "--out", disk / "run")
        code, _, errors = Forked(AT_LAST + FILL + TRAIN, what, times, left, *args).end()
        assert code == 2
        assert one_line(errors).startswith("mmfusion: cannot write")
        assert file in one_line(errors)
        assert "No space left on device" in one_line(errors)
        inference.load_model(Run(disk / "run"))  # the checkpoint before
        (disk / "other").unlink()
        assert resumed(disk / "run", monkeypatch) == undisturbed

    def test_features_of_a_preset_leave_nothing_behind(self, tmp_path, mounted):
        disk = mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs")
        with pytest.raises(UserError, match=r"cannot write .*features.npy: No space left on device"):
            features._write(disk / "features.npy", (np.ones((32, 5_000), np.float32) for _ in range(9)), 9 * 32)
        assert not list(disk.iterdir())

    def test_nor_does_a_limit_on_the_size_of_files_leave_a_half(
        self, undisturbed, tiny_toml, tmp_path, monkeypatch
    ):
        args = ("--variant", "poster", "--config", tiny_toml, "--out", tmp_path / "run")
        limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))\n"
        code, _, errors = Forked(limit + TRAIN, *args).end()
        assert code == 2
        assert "resume.npz: File too large" in one_line(errors)
        assert resumed(tmp_path / "run", monkeypatch) == undisturbed


class TestFolders:
    @pytest.fixture
    def data(self, tmp_path):
        folder = write_folder(tmp_path / "films")
        return tiny_config("poster", data__dataset="multimodal_imdb", data__data_dir=str(folder)).data

    @pytest.fixture
    def read_only(self, mounted):
        """Makes a folder read-only, for the superuser too."""

        def protect(folder):
            if os.geteuid():
                folder.chmod(0o555)
                return
            mounted(folder, "--bind", folder)
            mounted(folder, "-o", "remount,ro,bind")

        return protect

    def test_a_read_only_data_folder_is_read(self, data, read_only, tmp_path):
        read_only(tmp_path / "films")
        with pytest.raises(OSError, match=r"Read-only|Permission"):
            (tmp_path / "films" / "new").touch()
        assert len(load_films(data, tmp_path / "cache")) == 40

    def test_a_missing_cache_is_made(self, data, tmp_path):
        assert len(load_films(data, tmp_path / "a" / "b")) == 40

    def test_a_read_only_cache_is_enough_once_the_films_are_in_it(self, data, read_only, tmp_path, capfd):
        cache = tmp_path / "cache"
        films = load_films(data, cache)
        read_only(cache)
        capfd.readouterr()
        np.testing.assert_array_equal(load_films(data, cache).posters, films.posters)
        assert capfd.readouterr().err == ""

    def test_a_cache_that_cannot_be_written_is_one_line(self, data, read_only, tmp_path):
        cache = tmp_path / "cache"
        cache.mkdir()
        read_only(cache)
        with pytest.raises(UserError, match=r"cannot prepare .* in .*cache.*--cache-dir"):
            load_films(data, cache)
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot make the folder"):
            load_films(data, tmp_path / "file" / "cache")

    def test_a_full_cache_is_one_line_and_nothing_is_left_in_it(self, data, mounted, tmp_path):
        cache = mounted(tmp_path / "cache", "-t", "tmpfs", "-o", "size=24k", "tmpfs")
        with pytest.raises(UserError, match=r"cannot .*: .*No space left on device"):
            load_films(data, cache)
        assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
        mounted(cache, "-o", "remount,size=4m")
        assert len(load_films(data, cache)) == 40

    def test_a_command_with_a_cache_that_cannot_be_written_trains_and_predicts(
        self, tiny_toml, read_only, tmp_path, data
    ):
        """Keras and matplotlib keep files of their own there, and may not complain either."""
        cache = tmp_path / "cache"
        load_films(data, cache, poster_size=16)
        read_only(cache)
        args = ("--config", tiny_toml, "--data-dir", data.data_dir, "--cache-dir", cache, "--epochs", 1)
        code, _, errors = Process(TRAIN, "--variant", "poster", *args, "--out", tmp_path / "run").end()
        assert code == 0
        lines = errors.splitlines()  # the account of the films, and nothing of Keras or matplotlib
        assert len(lines) == 4
        assert lines[2].startswith("40 films; 40 with a poster")
