"""A poster, and how it becomes a file."""

import io

from PIL import Image


def encoded(picture, form="PNG", **options) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


RED_LEFT = Image.new("RGB", (40, 60), "blue")
RED_LEFT.paste("red", (0, 0, 20, 60))
