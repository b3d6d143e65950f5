"""Decodes posters: encoded bytes in, uint8 pixels out, whoever the bytes come from."""

import io
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 40_000_000  # a 27 kB file can claim 675 MB of pixels; posters have about 2 million
MAX_POSTER_BYTES = 64 * 2**20  # of a file; one with so many pixels can have as many
SHOWN_BYTES = 2**15  # of a file that pictures of films show as it came
_SHOWN_SIDE = 256  # pixels, of one that is made for them; they show a poster with 165 by 232
LARGE = 4_000_000  # pixels; above, one at a time: at MAX_PIXELS a picture takes up to 1.1 GB while it is decoded
MAX_SCANS = 100  # passes over a JPEG of MAX_PIXELS, more over a smaller one; progressive ones have about ten
_TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"

_ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held
_SHORT = 3  # the EXIF type of its value
_TURN_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadPoster(Exception):
    """These bytes are not a picture that can be read; the message says why."""


class NoPoster(BadPoster):
    """There is no picture, which a film may do without."""


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self):
        """Nothing: the resolution is not asked for, and to look for it is to read all of EXIF."""


# By how they begin. Pillow knows others, some of which run programs, and `Image.open` reads more than pixels.
_READERS = {
    b"\xff\xd8\xff": _Jpeg,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"GIF8": GifImageFile,
    b"RIFF": WebPImageFile,
    b"BM": BmpImageFile,
}


def open_poster(encoded: bytes) -> Image.Image:
    """Decodes a JPEG, PNG, GIF, WebP or BMP into an upright RGB picture; of an animation, the first frame.

    What is transparent becomes white.

    Raises:
        BadPoster: not a picture, cut short, or with more than `MAX_PIXELS` pixels.
    """
    return _decode(encoded, None)


def decode_poster(encoded: bytes, size: int) -> np.ndarray:
    """A poster as uint8 (size, size, 3), resized bilinearly with antialiasing.

    A JPEG is read at the smallest of its cheap scales (1/2, 1/4, 1/8) that leaves no less than `size`
    on either side. On the 5,683 real posters at 64 pixels that changes a value by 2.6 of 255 on average,
    by 10 in the film that changes most, and takes two thirds of the time.

    Raises:
        BadPoster: see `open_poster`.
    """
    return np.asarray(_decode(encoded, size))


def shown_poster(encoded: bytes) -> bytes:
    """A poster's file for pictures of films: as it came, or if it is large a JPEG of at most 256 pixels a side.

    Raises:
        BadPoster: see `open_poster`.
    """
    if len(encoded) <= SHOWN_BYTES:
        return encoded
    file = io.BytesIO()
    _decode(encoded, _SHOWN_SIDE, keep_shape=True).save(file, "JPEG", quality=85)
    return file.getvalue()


def _decode(encoded: bytes, size: int | None, *, keep_shape: bool = False) -> Image.Image:
    """An RGB picture; unless `size` is None of so many pixels a side, to keep its shape at most so many."""
    reader = next((reader for start, reader in _READERS.items() if encoded.startswith(start)), None)
    if reader is None:
        raise BadPoster(f"not a readable picture ({len(encoded):,} bytes)")
    try:
        with reader(io.BytesIO(encoded)) as picture:
            pixels = picture.width * picture.height
            if pixels > MAX_PIXELS:  # known from the header, before anything is decoded
                raise BadPoster(_TOO_LARGE)
            # Every scan goes over all pixels, and a file of a few kB can hold thousands.
            if reader is _Jpeg and encoded.count(b"\xff\xda") * pixels > MAX_SCANS * MAX_PIXELS:
                raise BadPoster("a JPEG of too many scans")
            if pixels > LARGE:
                return _large.submit(_load, picture, size, keep_shape).result()
            return _load(picture, size, keep_shape)
    except BadPoster:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, further up
        raise BadPoster(_TOO_LARGE) from error
    # Pillow's decoders raise what they please on broken input, struct.error and SyntaxError included.
    except Exception as error:
        raise BadPoster(f"not a readable picture ({len(encoded):,} bytes)") from error


def _load(picture: ImageFile, size: int | None, keep_shape: bool) -> Image.Image:
    if size is not None:
        picture.draft("RGB", (size, size))
    picture.load()
    rgb = _upright_rgb(picture)
    if keep_shape and size is not None:
        rgb.thumbnail((size, size), Image.Resampling.BILINEAR)
        return rgb
    return rgb if size is None else rgb.resize((size, size), Image.Resampling.BILINEAR)


def _upright_rgb(picture: Image.Image) -> Image.Image:
    turn = _TURN_BACK.get(_orientation(picture.info.get("exif", b"")))
    if picture.mode.startswith("I"):  # 16-bit gray: RGB would clip it to white
        gray = np.asarray(picture)
        white = gray == picture.info.get("transparency", -1)
        picture = Image.fromarray(np.where(white, 255, gray >> 8).astype(np.uint8))
    if turn is not None:
        picture = picture.transpose(turn)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _orientation(exif: bytes) -> int:
    """Reads how the camera was held, as EXIF counts it from 1 to 8; 1 where that cannot be read.

    Pillow would read all of EXIF, warn of or stop at what is wrong in it though the picture is good, and,
    in older versions, take gigabytes for entries that share one megabyte.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = ">" if exif.startswith(b"MM") else "<"
    try:
        (table,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, table)
        for place in range(table + 2, table + 2 + 12 * entries, 12):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, place)
            if tag == _ORIENTATION and kind == _SHORT:
                return value
    except (struct.error, TypeError, AttributeError):  # cut short, or a PNG's text of that name
        pass
    return 1


# A lock would not do: each thread that has decoded a large picture keeps much of the memory.
_large = ThreadPoolExecutor(1, "large-posters")
