"""The builder as tensorflow-datasets tests it, then its download against a local stand-in."""

import functools
import hashlib
import http.server
import socket
import threading
import time
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from mmfusion.config import resolve
from mmfusion.data.films import load_films
from mmfusion.data.multimodal_imdb import multimodal_imdb_dataset_builder as builder
from mmfusion.errors import UserError

DUMMY = Path(__file__).parent / "dummy_data"


class MultimodalImdbTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builder.Builder
    SPLITS = {"films": 4}
    DL_DOWNLOAD_RESULT = {"csv": builder.PRESENT, "posters": "posters.zip"}
    # The posters' archive is made by its host on demand, so its bytes are not fixed.
    SKIP_CHECKSUMS = True


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A local web server with the CSV and the archive under the paths of the real ones."""
    root = tmp_path / "host"
    root.mkdir()
    (root / "films.csv").write_bytes((DUMMY / builder.PRESENT).read_bytes())
    (root / "posters.zip").write_bytes((DUMMY / "posters.zip").read_bytes())
    handler = functools.partial(_Quiet, directory=root)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(builder, "CSV_URL", f"{address}/films.csv")
    monkeypatch.setattr(builder, "POSTERS_URL", f"{address}/posters.zip")
    yield root
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def prepare(folder):
    made = builder.Builder(data_dir=folder)
    made.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    return {r["id"].decode(): r for r in made.as_dataset(split="films").as_numpy_iterator()}


def test_downloads_csv_and_posters(host, tmp_path):
    films = prepare(tmp_path / "data")
    assert sorted(films) == ["tt01", "tt02", "tt03", "tt04"]
    assert films["tt01"]["poster"].shape == (30, 20, 3)
    assert films["tt01"]["overview"].decode() == "Two sisters inherit a lighthouse."
    names = [builder.PUBLIC_GENRES[genre] for genre in films["tt01"]["genres"]]
    assert names == ["Comedy", "Drama"]


def test_a_data_set_without_a_folder_is_downloaded_and_a_host_that_fails_is_one_line(host, tmp_path):
    overrides = {"data.dataset": "multimodal_imdb"}
    data = resolve("poster", overrides=overrides).data
    films = load_films(data, tmp_path / "cache")
    assert (len(films), films.genres) == (4, builder.PUBLIC_GENRES)
    assert films.encoded_posters(["tt02"])["tt02"].startswith(b"\xff\xd8")
    assert not list((tmp_path / "cache").rglob("*.jpg"))  # read in place
    archive = (host / "posters.zip").read_bytes()
    (host / "posters.zip").write_bytes(b"<html>try later</html>")
    with pytest.raises(UserError, match=r"could not be downloaded .* --data-dir"):
        load_films(data, tmp_path / "other_cache")
    (host / "posters.zip").write_bytes(archive)
    assert len(load_films(data, tmp_path / "other_cache")) == 4  # the page was not kept


@pytest.mark.parametrize(("listens", "said"), [(False, "Connection refused"), (True, "no answer in 1 seconds")])
def test_a_host_that_does_not_answer_is_named_within_seconds(tmp_path, monkeypatch, listens, said):
    monkeypatch.setattr("mmfusion.network.PATIENCE", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        monkeypatch.setattr(builder, "CSV_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/films.csv")
        data = resolve("poster", overrides={"data.dataset": "multimodal_imdb"}).data
        start = time.monotonic()
        with pytest.raises(UserError, match=rf"\(127\.0\.0\.1 cannot be reached: {said}\); fetch .* --data-dir"):
            load_films(data, tmp_path / "cache")
    assert time.monotonic() - start < 10


def test_what_was_downloaded_needs_no_host(host, tmp_path, monkeypatch):
    data = resolve("poster", overrides={"data.dataset": "multimodal_imdb"}).data
    load_films(data, tmp_path / "cache")
    monkeypatch.setattr("requests.sessions.Session.request", lambda *args, **kwargs: pytest.fail("a host is asked"))
    assert len(load_films(data, tmp_path / "cache", poster_size=8)) == 4


def test_a_download_that_is_not_the_recorded_file_is_refused(host, tmp_path, monkeypatch):
    (host / "films.csv").write_bytes(b"something else")
    content = (DUMMY / builder.PRESENT).read_bytes()
    info = tfds.download.checksums.UrlInfo(len(content), hashlib.sha256(content).hexdigest(), "films.csv")
    monkeypatch.setattr(builder.Builder, "url_infos", {builder.CSV_URL: info})
    with pytest.raises(NonMatchingChecksumError):
        prepare(tmp_path / "data")


def test_the_real_csvs_size_and_hash_are_recorded():
    info = builder.Builder.url_infos[builder.CSV_URL]
    assert info.size == 1_514_175
    assert info.checksum == "4f69e650c430d5c43fb63e6b4accbed7caf028d2941f3db473d05852b489564e"
