"""Archives from a stranger: one bad member refuses the whole, before any film is used, and nothing is written."""

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from conftest import tiny_config
from PIL import Image

from mmfusion.data import mmimdb, multimodal_imdb
from mmfusion.data.archives import ALLOWANCE, MAX_EXPANSION, open_zip, read_tar, read_zip_member
from mmfusion.data.films import load_films
from mmfusion.data.mmimdb.mmimdb_dataset_builder import ARCHIVE, MAX_JSON_BYTES
from mmfusion.data.multimodal_imdb.multimodal_imdb_dataset_builder import PRESENT as CSV_NAME
from mmfusion.data.multimodal_imdb.multimodal_imdb_dataset_builder import PUBLIC_GENRES
from mmfusion.data.posters import MAX_POSTER_BYTES, BadPoster
from mmfusion.data.prepared import _windows
from mmfusion.data.records import FilmRecord
from mmfusion.errors import UserError


def poster(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 30), (number, 9, 9)).save(file, "JPEG")
    return file.getvalue()


# ---------------------------------------------------------------- mmimdb.tar.gz

FILMS = [f"{number:07d}" for number in range(12)]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def good_members() -> list[tuple[tarfile.TarInfo, bytes]]:
    members = [member("mmimdb/dataset", kind=tarfile.DIRTYPE)]
    for number, film in enumerate(FILMS):
        text = json.dumps({"plot": [f"Film {number}"], "genres": ["War"]}).encode()
        members.append(member(f"mmimdb/dataset/{film}.json", text))
        members.append(member(f"mmimdb/dataset/{film}.jpeg", poster(number)))
    return [*members, member("mmimdb/split.json", json.dumps({"train": FILMS, "dev": [], "test": []}).encode())]


def tar_of(members, form=tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def raw(info: tarfile.TarInfo, content: bytes = b"", size: bytes | None = None) -> bytes:
    """A header as tarfile would not write it, and what follows it."""
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))[-512:]
    if size is not None:
        header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def with_raw(*parts: bytes) -> bytes:
    """The good films, then these blocks, then the end."""
    content = tar_of(good_members())
    films = len(content.rstrip(b"\0"))
    return content[: -(-films // 512) * 512] + b"".join(parts) + bytes(1024)


def mm_config(folder: Path, **overrides):
    return tiny_config("poster", data__dataset="mmimdb", data__data_dir=str(folder), **overrides).data


def mm_folder(folder: Path, packed: bytes) -> Path:
    folder.mkdir()
    (folder / ARCHIVE).write_bytes(packed)
    return folder


def load(folder, cache, **overrides):
    return load_films(mm_config(folder, **overrides), cache)


def listing(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


OUT, NEITHER, BOMB, BROKEN = (
    "leads out of the archive",
    "neither a file nor a folder",
    "unpacks to more than",
    "cannot be read",
)
LONG = "x" * 200
BAD_TARS = {
    "..": (lambda: tar_of([*good_members(), member("../x.json", b"{}")]), OUT),
    ".. inside": (lambda: tar_of([*good_members(), member("mmimdb/../../x.jpeg", b"{}")]), OUT),
    "absolute": (lambda: tar_of([*good_members(), member("/etc/cron.d/x", b"{}")]), OUT),
    "drive": (lambda: tar_of([*good_members(), member("C:\\x.json", b"{}")]), OUT),
    "backslashes": (lambda: tar_of([*good_members(), member("a\\..\\..\\x.json", b"{}")]), OUT),
    ".. in a long pax name": (lambda: tar_of([*good_members(), member(f"{LONG}/../../../x", b"{}")]), OUT),
    ".. in a long gnu name": (
        lambda: tar_of([*good_members(), member(f"{LONG}/../../../x", b"{}")], tarfile.GNU_FORMAT),
        OUT,
    ),
    "a folder ..": (lambda: tar_of([*good_members(), member("..", kind=tarfile.DIRTYPE)]), OUT),
    "symlink": (
        lambda: tar_of([*good_members(), member("x", kind=tarfile.SYMTYPE, linkname="/etc/passwd")]),
        NEITHER,
    ),
    "symlink inside": (lambda: tar_of([*good_members(), member("x", kind=tarfile.SYMTYPE, linkname="y")]), NEITHER),
    "hard link": (
        lambda: tar_of([*good_members(), member("x", kind=tarfile.LNKTYPE, linkname="/etc/passwd")]),
        NEITHER,
    ),
    "character device": (lambda: tar_of([*good_members(), member("x", kind=tarfile.CHRTYPE, devmajor=1)]), NEITHER),
    "block device": (lambda: tar_of([*good_members(), member("x", kind=tarfile.BLKTYPE)]), NEITHER),
    "pipe": (lambda: tar_of([*good_members(), member("x", kind=tarfile.FIFOTYPE)]), NEITHER),
    "sparse": (lambda: with_raw(raw(member("x.json", kind=tarfile.GNUTYPE_SPARSE)[0])), NEITHER),
    "pax sparse": (
        lambda: tar_of(
            [*good_members(), member("x.json", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})]
        ),
        NEITHER,
    ),
    "bomb": (lambda: tar_of([*good_members(), member("mmimdb/x.jpeg", bytes(30 * 2**20))]), BOMB),
    "bomb of another kind": (lambda: tar_of([*good_members(), member("x.bin", bytes(30 * 2**20))]), BOMB),
    "bomb of empty files": (lambda: tar_of([*good_members(), *[member("x")] * 20_000]), BOMB),
    "bomb after the end": (lambda: tar_of(good_members()) + bytes(30 * 2**20), BOMB),
    "a name of a megabyte": (
        lambda: tar_of([*good_members(), member("x" * 2**20)]),
        "name has more than 8,192 bytes",
    ),
    "a size below 0": (lambda: with_raw(raw(member("x.json")[0], size=b"\xff" * 12)), BROKEN),
    "a size of 8 EiB": (lambda: with_raw(raw(member("x.json")[0], size=b"\x80" + b"\0" * 3 + b"\x7f" * 8)), BROKEN),
    "1,000 headers of headers": (
        lambda: with_raw(
            *[raw(member("x", b"x" * 9, tarfile.GNUTYPE_LONGNAME)[0], b"x" * 9)] * 1_000, b"junk" * 128
        ),
        BROKEN,
    ),
    "no tar": (lambda: b"<html>" * 1_000, BROKEN),
}


class TestTar:
    @pytest.mark.parametrize(("make", "said"), BAD_TARS.values(), ids=BAD_TARS)
    def test_one_bad_member_at_the_end_refuses_the_whole(self, tmp_path, make, said):
        """Found on the way to the first film, whatever was asked, and nothing was written anywhere."""
        folder, cache = mm_folder(tmp_path / "films", gzip.compress(make(), 1)), tmp_path / "cache"
        config = mm_config(folder, data__skip_bad=True)
        with pytest.raises(UserError, match=said) as error:
            next(mmimdb.make_builder(config, cache).films(None))
        assert str(folder / ARCHIVE) in str(error.value)
        assert str(error.value).isprintable()
        with pytest.raises(UserError, match=said):
            load_films(config, cache)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == [ARCHIVE]

    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_good_ones_of_any_form_are_read(self, tmp_path, cache, form):
        packed = tar_of(good_members(), form)
        half = len(packed) // 2
        two_parts = gzip.compress(packed[:half]) + gzip.compress(packed[half:])
        loaded = load(mm_folder(tmp_path / f"films{form}", two_parts), cache)
        assert loaded.ids == tuple(FILMS)
        assert loaded.overviews[3] == "Film 3"
        np.testing.assert_allclose(loaded.posters[:, 8, 8, 0], range(12), atol=3)
        assert loaded.encoded_posters(["0000005"]) == {"0000005": poster(5)}

    def test_long_names_and_attributes_are_passed_over(self, tmp_path, cache):
        long = member(f"mmimdb/{LONG}/{FILMS[0]}.txt", b"x", pax_headers={"comment": "é" * 1_000})
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            packed = gzip.compress(tar_of([long, member("mmimdb/._split.json", b"junk"), *good_members()], form))
            assert len(load(mm_folder(tmp_path / f"films{form}", packed), cache)) == 12

    def test_a_broken_or_cut_archive_is_refused_before_its_good_films_are_used(self, tmp_path, cache):
        packed = gzip.compress(tar_of(good_members()))
        flipped = bytearray(packed)
        flipped[-6] ^= 1  # of the checksum
        for number, broken in enumerate(
            (packed[:-1], packed[: len(packed) // 2], bytes(flipped), b"", packed[:12])
        ):
            folder = mm_folder(tmp_path / f"{number}", broken)
            with pytest.raises(UserError, match=r"cannot be read|there is no split\.json"):
                next(mmimdb.make_builder(mm_config(folder), cache).films(None))

    def test_a_json_or_poster_that_is_too_large_is_one_bad_film(self, tmp_path, cache):
        noise = random.Random(0).randbytes(8 * 2**20)
        large = [
            member(f"mmimdb/dataset/{FILMS[1]}.json", noise[: MAX_JSON_BYTES + 1]),
            member(f"mmimdb/dataset/{FILMS[2]}.jpeg", noise * 8 + b"x"),
        ]
        assert len(large[1][1]) == MAX_POSTER_BYTES + 1
        names = {info.name for info, _ in large}
        members = [*large, *[(info, content) for info, content in good_members() if info.name not in names]]
        folder = mm_folder(tmp_path / "films", gzip.compress(tar_of(members), 1))
        with pytest.raises(
            UserError, match=r"0000002 \(more than 64 MiB\); 0000001 \(its JSON has more than 4 MiB\)"
        ):
            load(folder, cache)
        assert len(load(folder, cache, data__skip_bad=True)) == 10

    def test_few_posters_are_in_memory_at_a_time_where_they_are_large(self, monkeypatch):
        monkeypatch.setattr("mmfusion.data.prepared._HELD", 100)
        monkeypatch.setattr("mmfusion.data.prepared._WINDOW", 4)
        records = [FilmRecord(f"{held}", "", (), None, held=held) for held in (1, 2, 3, 4, 99, 1, 100, 5, 200, 7)]
        windows = [[record.held for record in window] for window in _windows(iter(records))]
        assert windows == [[1, 2, 3, 4], [99, 1], [100], [5, 200], [7]]

    def test_as_much_as_films_can_shrink_is_read(self, tmp_path):
        """JSON alone shrinks to a tenth."""
        text = b"".join(
            b'{"plot": "%x", "genres": ["War"], "rating": 7.%d, "cast": []}\n' % (n * 7919, n)
            for n in range(90_000)
        )
        (tmp_path / "x").write_bytes(packed := gzip.compress(tar_of([member("x.json", text)])))
        assert len(text) > 3 * ALLOWANCE
        assert 6 < len(text) / len(packed) < MAX_EXPANSION
        assert [len(content) for _, content in read_tar(tmp_path / "x", ".json", 2**23)] == [len(text)]


# ---------------------------------------------------------------- the zip of the posters

IMAGES = "Movies-Poster_Dataset-0f2cea5/Images"


def zip_of(*more, kind=zipfile.ZIP_STORED) -> bytes:
    """Twelve good posters, then members as (ZipInfo or name, content)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        for number, film in enumerate(FILMS):
            archive.writestr(f"{IMAGES}/{film}.jpg", poster(number))
        for name, content in more:
            archive.writestr(name, content)
    return file.getvalue()


def zip_info(name: str, mode: int = 0, compression: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, compression
    info.create_system = 3  # Unix
    return info


def changed_entry(content: bytes, name: bytes, place: int, form: str, value: int) -> bytes:
    """The archive with one field of a member's entry in the directory at its end overwritten."""
    entry = content.rindex(b"PK\1\2", 0, content.rindex(name))
    changed = bytearray(content)
    struct.pack_into(form, changed, entry + place, value)
    return bytes(changed)


def overlapping() -> bytes:
    """2,000 entries of one compressed megabyte, which is there once."""
    content = zip_of((zip_info(f"{IMAGES}/x.jpg", compression=zipfile.ZIP_DEFLATED), bytes(2**20)))
    directory, end = content.index(b"PK\1\2"), content.rindex(b"PK\5\6")
    entry = content[content.rindex(b"PK\1\2") : end]
    tail = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, 2_012, 2_012, end - directory + 2_000 * len(entry), directory, 0
    )
    return content[:end] + entry * 2_000 + tail


LINK, DEVICE, PIPE = 0o120777, 0o020666, 0o010666
SOME = (f"{IMAGES}/x.jpg", b"x" * 100)
BAD_ZIPS = {
    "..": (lambda: zip_of(("../x.jpg", b"x")), OUT),
    ".. inside": (lambda: zip_of((f"{IMAGES}/../../../x.jpg", b"x")), OUT),
    "absolute": (lambda: zip_of(("/etc/cron.d/x", b"x")), OUT),
    "drive": (lambda: zip_of(("C:/x.jpg", b"x")), OUT),
    "backslashes": (lambda: zip_of(("a\\..\\..\\x.jpg", b"x")), OUT),
    "NUL": (lambda: zip_of((f"{IMAGES}/x.jpgQ.txt", b"x")).replace(b"x.jpgQ", b"x.jpg\0"), OUT),
    "symlink": (lambda: zip_of((zip_info(f"{IMAGES}/x.jpg", LINK), "/etc/passwd")), NEITHER),
    "device": (lambda: zip_of((zip_info(f"{IMAGES}/x.jpg", DEVICE), b"")), NEITHER),
    "pipe": (lambda: zip_of((zip_info(f"{IMAGES}/x.jpg", PIPE), b"")), NEITHER),
    "encrypted": (
        lambda: changed_entry(zip_of(SOME), b"x.jpg", 8, "<H", 1),
        "encrypted or compressed in an unusual way",
    ),
    "lzma": (lambda: zip_of((zip_info("x", compression=zipfile.ZIP_LZMA), b"x")), "unusual way"),
    "bzip2": (lambda: zip_of((zip_info("x", compression=zipfile.ZIP_BZIP2), b"x")), "unusual way"),
    "bomb": (lambda: zip_of((f"{IMAGES}/x.jpg", bytes(30 * 2**20)), kind=zipfile.ZIP_DEFLATED), BOMB),
    "bomb of another kind": (lambda: zip_of(("x.bin", bytes(30 * 2**20)), kind=zipfile.ZIP_DEFLATED), BOMB),
    "bomb of one part": (overlapping, BOMB),
    "claims 4 GiB": (lambda: changed_entry(zip_of(SOME), b"x.jpg", 24, "<L", 2**32 - 2), BOMB),
}


def public_films(folder: Path, archive: bytes):
    """The builder's films where the host has answered with this archive."""
    folder.mkdir()
    (folder / "posters.zip").write_bytes(archive)
    rows = [f"{film},[],{','.join('1' * len(PUBLIC_GENRES))},text\n" for film in [*FILMS, "x"]]
    (folder / CSV_NAME).write_text(f"Id,Genre,{','.join(PUBLIC_GENRES)},Overview\n{''.join(rows)}")
    downloads = SimpleNamespace(download=lambda urls: {"csv": folder / CSV_NAME, "posters": folder / "posters.zip"})
    return multimodal_imdb.Builder(data_dir=folder / "cache").films(downloads)


class TestZip:
    @pytest.mark.parametrize(("make", "said"), BAD_ZIPS.values(), ids=BAD_ZIPS)
    def test_one_bad_member_refuses_the_whole(self, tmp_path, make, said):
        films = public_films(tmp_path / "host", make())
        before = listing(tmp_path)
        with pytest.raises(UserError, match=said) as error:
            next(films)
        assert "posters.zip" in str(error.value)
        assert str(error.value).isprintable()
        assert listing(tmp_path) == before

    def test_posters_are_read_in_place_from_many_threads_also_after_the_last_film_was_given(self, tmp_path):
        films = list(public_films(tmp_path / "host", zip_of(kind=zipfile.ZIP_DEFLATED)))
        before = listing(tmp_path)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda film: film.read_poster(), films[:12] * 50))
        assert found == [poster(number) for number in range(12)] * 50
        with pytest.raises(BadPoster, match="poster missing"):
            films[12].read_poster()
        assert listing(tmp_path) == before

    def test_a_member_that_is_not_what_it_says_is_one_bad_poster(self, tmp_path):
        """Whatever it says, no more comes out than it says."""
        deflated = zip_of((f"{IMAGES}/x.jpg", bytes(2**19)), kind=zipfile.ZIP_DEFLATED)
        stored = zip_of(SOME)
        start = zipfile.ZipFile(io.BytesIO(stored)).getinfo(SOME[0]).header_offset
        lies = {
            "less": changed_entry(deflated, b"x.jpg", 24, "<L", 100),
            "checksum": changed_entry(stored, b"x.jpg", 16, "<L", 7),
            "no header there": changed_entry(stored, b"x.jpg", 42, "<L", start + 3),
            "beyond the end": changed_entry(stored, b"x.jpg", 42, "<L", 2**31),
            "not deflated": changed_entry(changed_entry(stored, b"x.jpg", 10, "<H", 8), b"x.jpg", 20, "<L", 100),
        }
        for kind, content in lies.items():
            *good, bad = public_films(tmp_path / kind, content)
            assert [film.read_poster() for film in good] == [poster(number) for number in range(12)]
            with pytest.raises(BadPoster, match="damaged in the archive"):
                bad.read_poster()

    def test_a_member_above_the_limit_is_one_bad_poster(self, tmp_path):
        (tmp_path / "x.zip").write_bytes(zip_of(SOME))
        archive = open_zip(tmp_path / "x.zip")
        assert read_zip_member(archive, SOME[0], 100) == SOME[1]
        with pytest.raises(BadPoster, match="more than"):
            read_zip_member(archive, SOME[0], 99)

    @pytest.mark.parametrize("content", [b"", b"<html>try later</html>", zip_of()[:-30], b"PK\5\6" + b"\xff" * 18])
    def test_what_is_no_zip_was_not_downloaded_and_is_not_kept(self, tmp_path, content):
        films = public_films(tmp_path / "host", content)
        with pytest.raises(tfds.download.DownloadError):
            next(films)
        assert not (tmp_path / "host" / "posters.zip").exists()
