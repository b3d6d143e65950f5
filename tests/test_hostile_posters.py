"""Pictures from a stranger: every form comes out right, and none takes more than its share of memory or time."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from mmfusion.data.posters import decode_poster, open_poster


def encoded(picture, form="PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(width, height, depth, colour, rows: bytes, *extra: bytes, interlaced=0) -> bytes:
    """A PNG made by hand: `rows` with the filter's byte before each, `extra` chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    pixels = zlib.compress(rows, 1)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def unfiltered(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


RED_LEFT = Image.new("RGB", (40, 60), "blue")
RED_LEFT.paste("red", (0, 0, 20, 60))


def sixteen_bits(*channels: int, colour: int, **options) -> bytes:
    """Left half of these 16-bit channels, right half of 0."""
    pixels = np.zeros((60, 40, len(channels)), ">u2")
    pixels[:, :20] = channels
    return png(40, 60, 16, colour, unfiltered(pixels), *options.get("extra", ()))


def interlaced() -> bytes:
    pixels = np.asarray(RED_LEFT)
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    return png(40, 60, 8, 2, b"".join(unfiltered(pixels[y::dy, x::dx]) for x, y, dx, dy in passes), interlaced=1)


def ycck() -> bytes:
    """Red as Photoshop writes it: inverted CMYK, of which CMY went through RGB to YCbCr."""
    jpeg = bytearray(encoded(Image.new("CMYK", (40, 60), (255 - 179, 255 - 171, 255 - 1, 0)), "JPEG", quality=95))
    jpeg[jpeg.index(b"Adobe") + 11] = 2
    return bytes(jpeg)


def with_hole(mode="RGBA") -> Image.Image:
    """Red on the left, nothing on the right."""
    picture = Image.new("RGBA", (40, 60), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 20, 60))
    return picture if mode == "RGBA" else picture.convert(mode)


RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (40, 60), "lime")] * 3, "duration": 40}
PALETTE = Image.new("P", (40, 60), 1)
PALETTE.putpalette([255, 0, 0, 0, 255, 0])
PALETTE.paste(0, (0, 0, 20, 60))
HALF = 128 * 257
PICTURES = {
    "gray": (encoded(Image.new("L", (40, 60), 77)), (77,) * 3, (77,) * 3),
    "gray jpeg": (encoded(Image.new("L", (40, 60), 77), "JPEG"), (77,) * 3, (77,) * 3),
    "1 bit": (encoded(Image.new("1", (40, 60), 1)), WHITE, WHITE),
    "gray 16 bit": (sixteen_bits(HALF, colour=0), (128,) * 3, BLACK),
    "gray 16 bit, one value transparent": (
        sixteen_bits(HALF, colour=0, extra=[chunk(b"tRNS", struct.pack(">H", HALF))]),
        WHITE,
        BLACK,
    ),
    "gray and alpha 16 bit": (sixteen_bits(HALF, 65535, colour=4), (128,) * 3, WHITE),
    "rgb 16 bit": (sixteen_bits(65535, HALF, 0, colour=2), (255, 128, 0), BLACK),
    "rgba 16 bit": (sixteen_bits(65535, HALF, 0, 65535, colour=6), (255, 128, 0), WHITE),
    "cmyk jpeg": (encoded(RED_LEFT.convert("CMYK"), "JPEG", quality=95), RED, BLUE),
    "ycck jpeg": (ycck(), RED, RED),
    "palette": (encoded(PALETTE), RED, (0, 255, 0)),
    "palette with a transparent colour": (encoded(PALETTE, transparency=1), RED, WHITE),
    "palette with alpha": (encoded(PALETTE, transparency=bytes([255, 0])), RED, WHITE),
    "rgba": (encoded(with_hole()), RED, WHITE),
    "gif with a hole": (encoded(with_hole(), "GIF"), RED, WHITE),
    "webp with a hole": (encoded(with_hole(), "WEBP", lossless=True), RED, WHITE),
    "interlaced png": (interlaced(), RED, BLUE),
    "progressive jpeg": (encoded(RED_LEFT, "JPEG", quality=95, progressive=True), RED, BLUE),
    "animated gif": (encoded(RED_LEFT, "GIF", **FRAMES), RED, BLUE),
    "animated webp": (encoded(RED_LEFT, "WEBP", lossless=True, **FRAMES), RED, BLUE),
    "animated png": (encoded(RED_LEFT, "PNG", **FRAMES), RED, BLUE),
    "webp": (encoded(RED_LEFT, "WEBP", quality=95), RED, BLUE),
}

# What EXIF 2.3 says of each value: where the first row and the first column of the file belong.
TURNED = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def turned(upright: np.ndarray, row: str, column: str) -> np.ndarray:
    pixels = upright if row in ("top", "bottom") else upright.swapaxes(0, 1)
    pixels = pixels[::-1] if row in ("bottom", "right") else pixels
    return pixels[:, ::-1] if column in ("bottom", "right") else pixels


class TestPictures:
    @pytest.mark.parametrize(("poster", "left", "right"), PICTURES.values(), ids=PICTURES)
    def test_every_form_gives_the_right_picture(self, poster, left, right):
        pixels = decode_poster(poster, 16)
        assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)
        np.testing.assert_allclose(pixels[8, 2].astype(int), left, atol=14)
        np.testing.assert_allclose(pixels[8, 13].astype(int), right, atol=14)
        assert open_poster(poster).size == (40, 60)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("turn", TURNED)
    def test_a_turned_picture_is_turned_back(self, form, turn):
        upright = np.zeros((64, 32, 3), np.uint8)
        upright[:32, :16], upright[:32, 16:], upright[32:, :16] = RED, BLUE, WHITE
        exif = Image.Exif()
        exif[0x0112] = turn
        poster = encoded(Image.fromarray(turned(upright, *TURNED[turn])), form, exif=exif, quality=95)
        assert open_poster(poster).size == (32, 64)
        pixels = decode_poster(poster, 16).astype(int)
        for place, colour in (((3, 3), RED), ((3, 12), BLUE), ((12, 3), WHITE), ((12, 12), BLACK)):
            np.testing.assert_allclose(pixels[place], colour, atol=30)

    @pytest.mark.parametrize(
        "exif",
        [
            b"",
            b"II*\0",
            b"II*\0\xff\xff\xff\xff",
            b"MM\0*\0\0\0\x08\xff\xff" + bytes(20),
            b"Exif\0\0" * 3,
            b"\xff" * 99,
        ],
    )
    def test_broken_exif_leaves_a_good_picture_good(self, exif):
        """Warnings are errors here."""
        for form in ("JPEG", "PNG", "WEBP"):
            pixels = decode_poster(encoded(RED_LEFT, form, exif=exif, quality=95), 16)
            np.testing.assert_allclose(pixels[8, 2].astype(int), RED, atol=14)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
    @pytest.mark.parametrize("size", [(1, 1), (10_000, 10), (10, 10_000), (2, 1)])
    def test_any_proportions_become_a_square(self, form, size):
        pixels = decode_poster(encoded(Image.new("RGB", size, "red"), form), 16)
        assert pixels.shape == (16, 16, 3)
        np.testing.assert_allclose(pixels.reshape(-1, 3).astype(int), [RED] * 256, atol=14)


# ---------------------------------------------------------------- what asks for too much

SMALL = {form: encoded(RED_LEFT, form) for form in ("JPEG", "PNG", "GIF", "WEBP", "BMP")}


def claiming(form: str, old: bytes, new: bytes) -> bytes:
    """A picture whose header claims another size."""
    assert SMALL[form].count(old) == 1
    return SMALL[form].replace(old, new)


def compressed_text(kind: bytes, megabytes: int) -> bytes:
    before = {b"zTXt": b"key\0\0", b"iTXt": b"key\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
    return chunk(kind, before + zlib.compress(bytes(megabytes * 2**20), 9))


def png_with(*extra: bytes) -> bytes:
    return png(40, 60, 8, 2, unfiltered(np.asarray(RED_LEFT)), *extra)


def exif_of_many_entries() -> bytes:
    """3,000 entries that all claim the same 300 kB."""
    entries = b"".join(struct.pack("<HHII", tag, 7, 300_000, 8) for tag in range(1, 3001))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 3000) + entries + bytes(300_000)


def jpeg_with_exif(exif: bytes) -> bytes:
    """In as many segments as it needs, and without the resolution that would save looking there."""
    pieces = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    segments = [b"\xff\xe1" + struct.pack(">H", len(piece) + 8) + b"Exif\0\0" + piece for piece in pieces]
    return SMALL["JPEG"][:2] + b"".join(segments) + SMALL["JPEG"][20:]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    jpeg = encoded(Image.new("RGB", (side, side), "red"), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * scans + b"\xff\xd9"


def frames(form: str, number: int) -> bytes:
    others = [Image.new("RGB", (40, 60), (n % 256, n // 256, 0)) for n in range(number)]
    return encoded(RED_LEFT, form, save_all=True, append_images=others, duration=40)


TOO_MANY = "more than 40,000,000 pixels"
NOT_READABLE = "not a readable picture"
BOMBS = {
    # 400 million pixels that are really there, in 0.2 MB
    "png": (lambda: png(20_000, 20_000, 1, 0, bytes(20_000 * 2_501)), TOO_MANY),
    "png, 4 thousand million": (lambda: png(65_535, 65_535, 8, 6, b""), TOO_MANY),
    "png, a little too large": (lambda: encoded(Image.new("1", (10_000, 10_000))), TOO_MANY),
    "gif": (lambda: claiming("GIF", b"87a" + struct.pack("<HH", 40, 60), b"87a" + b"\xff" * 4), TOO_MANY),
    "gif, in its frame": (
        lambda: claiming("GIF", b"," + struct.pack("<HHHH", 0, 0, 40, 60), b"," + b"\xff" * 8),
        TOO_MANY,
    ),
    "gif, 100 million": (lambda: encoded(Image.new("L", (10_000, 10_000)), "GIF"), TOO_MANY),
    "webp": (lambda: claiming("WEBP", struct.pack("<HH", 40, 60), struct.pack("<HH", 16_383, 16_383)), TOO_MANY),
    "jpeg": (lambda: claiming("JPEG", struct.pack(">HH", 60, 40), b"\xff\xdc\xff\xdc"), TOO_MANY),
    "bmp": (lambda: claiming("BMP", struct.pack("<II", 40, 60), struct.pack("<II", 65_000, 65_000)), TOO_MANY),
    "zTXt": (lambda: png_with(compressed_text(b"zTXt", 200)), NOT_READABLE),
    "iTXt": (lambda: png_with(compressed_text(b"iTXt", 200)), NOT_READABLE),
    "iCCP": (lambda: png_with(compressed_text(b"iCCP", 200)), NOT_READABLE),
    "exif in png": (lambda: png_with(chunk(b"eXIf", exif_of_many_entries())), ""),
    "exif in jpeg": (lambda: jpeg_with_exif(exif_of_many_entries()), ""),
    "gif of 5,000 frames": (lambda: frames("GIF", 5_000), ""),
    "webp of 500 frames": (lambda: frames("WEBP", 500), ""),
    "jpeg of 20,000 scans": (lambda: jpeg_of_scans(2_000, 20_000), "a JPEG of too many scans"),
    "64 MB of text": (lambda: png_with(*[chunk(b"tEXt", b"key\0" + b"x" * 2**20)] * 60), ""),
}

MEASURE = """
import json, re, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from mmfusion.data.posters import BadPoster, decode_poster

def decode(path):
    try:
        return "" if decode_poster(path.read_bytes(), 64).shape == (64, 64, 3) else "wrong shape"
    except BadPoster as error:
        return str(error)

def most_memory():  # not getrusage's, which begins with that of the parent process
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

threads, folder = int(sys.argv[1]), Path(sys.argv[2])
for path in sorted(folder.glob("small *")):
    assert decode(path) == ""
before, start = most_memory(), time.monotonic()
with ThreadPoolExecutor(threads) as pool:
    said = list(pool.map(decode, sorted(folder.glob("large *"))))
print(json.dumps([said, round(most_memory() - before), time.monotonic() - start]))
"""


def measured(folder, posters, threads=1) -> tuple[list[str], int, float]:
    """What is said of each poster, by a process of its own, and what MB and seconds they took together."""
    for form, poster in SMALL.items():
        (folder / f"small {form}").write_bytes(poster)
    for number, poster in enumerate(posters):
        (folder / f"large {number:02d}").write_bytes(poster)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURE, str(threads), str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return tuple(json.loads(done.stdout))


class TestBombs:
    @pytest.mark.parametrize(("make", "said"), BOMBS.values(), ids=BOMBS)
    def test_a_small_file_that_asks_for_much_gets_little(self, tmp_path, make, said):
        (found,), memory, seconds = measured(tmp_path, [bomb := make()])
        print(f"{len(bomb):,} bytes took {memory} MB and {seconds:.2f} s")
        assert found.startswith(said)
        assert bool(found) == bool(said)
        assert memory < 20 + 4 * len(bomb) / 2**20
        assert seconds < 10

    def test_the_largest_pictures_take_a_gigabyte_whatever_the_number_of_threads(self, tmp_path):
        large = Image.new("RGBA", (6_320, 6_320), (1, 2, 3, 100))
        said, memory, _ = measured(tmp_path, [encoded(large, "WEBP", lossless=True)] * 3, threads=3)
        print(f"{memory} MB")
        assert said == [""] * 3
        assert 300 < memory < 1_200

    def test_many_scans_are_read_where_the_picture_is_small(self):
        assert decode_poster(jpeg_of_scans(64, 500), 16).shape == (16, 16, 3)
