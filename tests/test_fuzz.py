"""Broken files by the thousand: pictures, CSVs and archives that were right until something went wrong in them.

Each input is a function of its number. A failure names the number; this makes only that input again, and
this looks at others, for longer:

    python tests/test_fuzz.py posters 1234 0
    MMFUSION_FUZZ_FIRST=1000000 MMFUSION_FUZZ_SECONDS=300 pytest -n 0 tests/test_fuzz.py

The last long run, from input 1,000,000, with Pillow 13.0 and two kinds at a time on two cores: 2,093,058
posters in 300 s, of which 377,392 still were pictures; 5,850,153 tables in 270 s, 333,066 still films; 150,189
archives in 270 s, 12,181 still whole. Nothing came out that should not. The slowest poster took 1.5 seconds and
the largest 628 MB: they claimed almost 40 million pixels.
"""

import csv
import gzip
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageCms, PngImagePlugin

SECONDS = float(os.environ.get("MMFUSION_FUZZ_SECONDS", "6"))  # for each kind of file
FIRST = int(os.environ.get("MMFUSION_FUZZ_FIRST", "0"))
SLOWEST = 20  # seconds for one input, on a busy machine; a picture of 40 million pixels takes 1.3 on a free one
MOST_MEMORY = 1_200  # MB on top of the imports; such a picture takes 0.9 GB


# ---------------------------------------------------------------- what is broken


def encoded(picture, form, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def posters() -> list[bytes]:
    """Every format, mode and extra that the decoder knows, small."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 17, 4), np.uint8)
    rgba = Image.fromarray(pixels)
    rgb, palette = rgba.convert("RGB"), rgba.convert("RGB").quantize(16)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a poster"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text = PngImagePlugin.PngInfo()
    text.add_text("one", "word " * 50, zip=True)
    text.add_itxt("two", "Wörter " * 50, "de", "zwei", zip=True)
    jpeg = {"form": "JPEG", "quality": 80}
    animation = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)], "duration": 50}
    return [
        encoded(rgb, **jpeg),
        encoded(rgb, **jpeg, progressive=True, exif=exif, icc_profile=icc, comment=b"a comment"),
        encoded(rgb.convert("CMYK"), **jpeg),
        encoded(rgb.convert("L"), **jpeg, restart_marker_blocks=1),
        *(encoded(rgba.convert(mode), "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA")),
        encoded(palette, "PNG", transparency=bytes(range(0, 256, 16)), exif=exif),
        encoded(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG", transparency=257),
        encoded(rgb, "PNG", pnginfo=text, icc_profile=icc),
        encoded(rgb, "PNG", **animation),
        encoded(palette, "GIF", transparency=3, comment=b"a comment"),
        encoded(rgb, "GIF", **animation),
        encoded(rgb, "WEBP", exif=exif, icc_profile=icc),
        encoded(rgba, "WEBP", lossless=True),
        encoded(rgba, "WEBP", quality=50),
        encoded(rgb, "WEBP", **animation),
        *(encoded(rgb.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")),
    ]


def tables() -> list[bytes]:
    """CSVs as people have them: with and without quotes, a byte-order mark, any line end; and other forms."""
    rows = [["Id", "Genre", "Comedy", "War", "Overview"]]
    rows += [
        [f"tt{n}", "[]", n % 2, n % 3 // 2, f'Film {n}, "so to say"\nwith a line, 电影 é 😀'] for n in range(5)
    ]
    found = []
    for options in ({}, {"lineterminator": "\n"}, {"lineterminator": "\r", "quoting": csv.QUOTE_ALL}):
        file = io.StringIO(newline="")
        csv.writer(file, **options).writerows(rows)
        found += [file.getvalue().encode(), file.getvalue().encode("utf-8-sig"), file.getvalue().encode("utf-16")]
    films = [{"id": n, "genres": [{"name": "War"}], "overview": row[-1]} for n, row in enumerate(rows[1:])]
    found.append("\n".join(json.dumps(film) for film in films).encode())
    for compression in ("none", "snappy", "zstd"):
        parquet = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(films), parquet, compression=compression)
        found.append(parquet.getvalue().to_pybytes())
    return found


def archives() -> list[bytes]:
    """Zips, and tars, compressed and not yet."""
    files = {
        "mmimdb/split.json": json.dumps({"train": ["1"], "dev": ["2"], "test": ["3"]}).encode(),
        **{
            f"mmimdb/dataset/{n}.json": json.dumps({"plot": ["a", "bc"], "genres": ["War"]}).encode() for n in "123"
        },
        **{f"mmimdb/dataset/{n}.jpeg": posters()[0] for n in "123"},
        f"mmimdb/{'long' * 40}.json": b"{}",
    }
    found = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        found.append(file.getvalue())
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name[-90:])
                if form != tarfile.USTAR_FORMAT:
                    member.name, member.mtime = name, 1.5
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        found += [file.getvalue(), gzip.compress(file.getvalue(), mtime=0)]
    return found


# ---------------------------------------------------------------- how it is broken

TELLING = (0, 1, 0x7F, 0x80, 0xFF, ord('"'), ord(","), ord("\n"))


def broken(seeds: list[bytes], number: int) -> bytes:
    """One of the files after one to four mishaps; PNG chunks and tar headers may get their checksums back."""
    chance = random.Random(number)
    content = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(content) + 1)
        if chance.random() < 0.4:  # headers decide more
            place = min(place, chance.randrange(128))
        length = chance.choice((1, 2, 4, 16, 64, 512))
        kind = chance.randrange(8)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[place : place + length] = bytes([chance.choice(TELLING)]) * min(length, len(content) - place)
        elif kind == 2:
            del content[place:]
        elif kind == 3:
            del content[place : place + length]
        elif kind == 4:
            other = chance.choice(seeds)
            content[place:] = other[chance.randrange(len(other)) :]
        elif kind == 5:
            content[place:place] = content[place : place + length] * chance.choice((1, 2, 30, 1000))
        elif kind == 6:  # what may be a size or a place
            form = chance.choice("<>") + chance.choice("HI")
            most = 2 ** (8 * struct.calcsize(form)) - 1
            size = struct.pack(form, chance.choice((0, 1, 4000, most // 2, most, chance.randrange(most))) & most)
            content[place : place + len(size)] = size
        else:
            content[place:place] = chance.randbytes(length)
    if chance.random() < 0.7:
        mend_png(content)
        mend_tar(content)
    return bytes(content)


def mend_png(content: bytearray) -> None:
    place = 8
    while content.startswith(b"\x89PNG") and place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if end + 4 <= len(content):
            content[end : end + 4] = zlib.crc32(content[place + 4 : end]).to_bytes(4, "big")
        place = end + 4


def mend_tar(content: bytearray) -> None:
    for place in range(0, len(content) - 511, 512):
        if content[place + 257 : place + 262] == b"ustar":
            content[place + 148 : place + 156] = b" " * 8
            content[place + 148 : place + 156] = b"%06o\0 " % sum(content[place : place + 512])


# ---------------------------------------------------------------- what must come out


def read_poster(content: bytes) -> bool:
    from mmfusion.data.posters import BadPoster, decode_poster

    try:
        pixels = decode_poster(content, 16)
    except BadPoster:
        return False
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
    return True


def read_table(content: bytes) -> bool:
    from tables import films_in

    from mmfusion.errors import UserError

    name = {b"{": "films.jsonl", b"P": "films.parquet"}.get(content[:1], "films.csv")
    try:
        genres, rows = films_in(content, name)
    except UserError as error:
        said = str(error)
    else:
        return bool(genres and rows)
    assert said.startswith(name)
    assert "\n" not in said
    return False


def read_archive(content: bytes) -> bool:
    from mmfusion.data.archives import open_zip, read_tar, read_zip_member
    from mmfusion.data.posters import BadPoster
    from mmfusion.errors import UserError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "archive"
        try:
            if content.startswith(b"PK"):
                path.write_bytes(content)
                archive = open_zip(path)
                return all(len(read_zip_member(archive, name, 10_000)) <= 10_000 for name in archive.namelist())
            path.write_bytes(content if content.startswith(b"\x1f\x8b") else gzip.compress(content, 1))
            return all(len(held or b"") <= 10_000 for _, held in read_tar(path, ".json", 10_000))
        except (UserError, BadPoster, zipfile.BadZipFile):
            return False


KINDS = {"posters": (posters, read_poster), "tables": (tables, read_table), "archives": (archives, read_archive)}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happened_to_a_file_it_is_read_or_refused_in_little_time_and_memory(kind):
    child = subprocess.Popen(
        [sys.executable, "-W", "error", __file__, kind, str(FIRST), str(SECONDS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        said, failed = child.communicate(timeout=SECONDS + SLOWEST + 60)
    except subprocess.TimeoutExpired:
        child.kill()
        said, failed = child.communicate()
        pytest.fail(f"an input hangs: see the last number in\n{said[-200:]}\n{failed[-2000:]}")
    assert child.returncode == 0, f"{said[-200:]}\n{failed[-3000:]}"
    found = json.loads(said.splitlines()[-1])
    print(kind, found)
    assert found["inputs"] > 0
    assert 0 < found["good"] < found["inputs"]
    assert found["slowest"] < SLOWEST, f"input {found['slowest_input']}"
    assert found["memory"] < MOST_MEMORY


def main(kind: str, first: int, seconds: float) -> None:
    """Reads broken files for so long, one at least; prints every 100th number and, at the end, what was found."""
    make, read = KINDS[kind]
    seeds = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what importing TensorFlow warns of is not ours
        assert all(map(read, seeds))
    before = most_memory()
    number, good, slowest, slowest_input, start = first, 0, 0.0, first, time.monotonic()
    while number == first or time.monotonic() < start + seconds:
        content = broken(seeds, number)
        if number % 100 == 0:
            print(number, flush=True)
        begun = time.monotonic()
        try:
            good += read(content)
        except BaseException:
            print(f"input {number} of {kind}", file=sys.stderr)
            raise
        slowest, slowest_input = max((slowest, slowest_input), (time.monotonic() - begun, number))
        number += 1
    found = {"inputs": number - first, "good": good, "slowest": round(slowest, 2), "slowest_input": slowest_input}
    print(json.dumps({**found, "memory": round(most_memory() - before)}))


def most_memory() -> float:
    """In MB, what this process had at its height; getrusage's begins with that of the parent."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
