"""Image files of every mode and format, under any suffix, broken at random.

dice ─▶ draw ─▶ {content, name, fit} ─▶ read ─┬─▶ pixels (C, H, W) ─▶ check_sound
                                              └─▶ a reason ────────▶ check_refusal
"""

from __future__ import annotations

import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from mixcoder.errors import DataError
from mixcoder.pixels.codec import Fit, ImageError, Pixels, decode_file
from tests.faults.broken_bytes import broken

Case = dict[str, Any]
"""{content: a file, one character a byte; name: of the file; fit: how it is stored}, as JSON has it."""

FORMATS: dict[str, list[str]] = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"],
    "TIFF": [
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "CMYK",
        "YCbCr",
        "LAB",
        "I",
        "I;16",
        "I;16B",
        "F",
    ],
    "JPEG": ["L", "RGB", "CMYK"],
    "GIF": ["1", "L", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "WEBP": ["L", "RGB", "RGBA"],
    "PPM": ["1", "L", "RGB", "I", "I;16"],
    "ICO": ["RGBA"],
    "TGA": ["L", "LA", "P", "RGB", "RGBA"],
    "JPEG2000": ["L", "RGB", "RGBA"],
    "PCX": ["1", "L", "P", "RGB"],
}
"""The modes that each format can hold."""
SIZES = [(1, 1), (1, 41), (7, 3), (8, 8), (13, 30), (64, 48), (300, 2)]
SUFFIXES = [
    "jpg",
    "JPG",
    "jfif",
    "png",
    "webp",
    "gif",
    "tif",
    "tiff",
    "bmp",
    "pgm",
    "ppm",
    "heic",
    "avif",
    "txt",
    "",
]
FITS = [(3, 160, 8), (1, 160, 8), (3, None, 16), (1, 4, 2), (3, 20, 20)]
ORIENTATION = 0x0112
TRANSPARENT = {"GIF": ("L", "P"), "PNG": ("L", "P", "RGB")}
"""The modes in which a format can name one colour as transparent."""
TIFF_COMPRESSIONS = ["raw", "tiff_lzw", "packbits", "tiff_adobe_deflate"]


def draw(dice: Random) -> Case:
    """An image file with up to three things done to its bytes."""
    form = dice.choice(list(FORMATS))
    content = _encoded(form, dice.choice(FORMATS[form]), dice.choice(SIZES), dice.randrange(12))
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        content = broken(content, dice)
    return {
        "content": content.decode("latin-1"),
        "name": f"x.{dice.choice(SUFFIXES)}",
        "fit": dice.choice(FITS),
    }


@cache
def _encoded(form: str, mode: str, size: tuple[int, int], variant: int) -> bytes:
    """An image of that kind; nothing where the library cannot make it."""
    image = _image(mode, size)
    options: dict[str, Any] = {}
    if form in ("JPEG", "PNG", "WEBP", "TIFF") and variant % 3 == 0:
        exif = Image.Exif()
        exif[ORIENTATION] = variant % 10
        options["exif"] = exif
    if form == "TIFF":
        options["compression"] = TIFF_COMPRESSIONS[variant % 4]
    if form in ("GIF", "WEBP", "PNG") and variant % 4 == 1:
        options.update(save_all=True, append_images=[image])
    if mode in TRANSPARENT.get(form, ()) and variant % 4 == 2:
        options["transparency"] = 3 if mode != "RGB" else (0, 0, 0)
    file = BytesIO()
    try:
        image.save(file, form, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SystemError):
        return b""
    return file.getvalue()


def _image(mode: str, size: tuple[int, int]) -> Image.Image:
    values = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8)
    grey = Image.fromarray(values[..., 0])
    if mode == "PA":
        return grey.convert("P").convert("PA")
    if mode.startswith("I;16"):
        return Image.frombytes(mode, size, values[..., :2].tobytes())
    if mode == "LAB":
        return Image.frombytes("LAB", size, values.tobytes())
    if mode in ("1", "L", "LA", "I", "F", "P"):
        return grey.convert(mode)
    return Image.fromarray(values).convert(mode)


def prepare() -> None:
    """Loads what is loaded once."""
    for form, modes in FORMATS.items():
        for mode in modes:
            _encoded(form, mode, SIZES[3], 0)


def read(case: Case) -> Pixels:
    """The pixels of a case.

    Raises:
        DataError: it cannot be used; anything else is a mistake of ours.
    """
    path = Path(case["name"])
    path.write_bytes(case["content"].encode("latin-1"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a decoder's doubts, as where folders are packed
            return decode_file(path, Fit(*case["fit"]))
    except ImageError as error:
        raise DataError(str(error)) from None
    finally:
        path.unlink()


def check_sound(case: Case, pixels: Pixels) -> None:
    """As many channels as are asked for, in 8 bits, no smaller than a crop."""
    channels, _, shortest = case["fit"]
    assert pixels.dtype == np.uint8
    assert pixels.shape[0] == channels
    assert min(pixels.shape[1:]) >= shortest
    assert pixels.flags.c_contiguous


def check_refusal(case: Case, message: str) -> None:
    """A few words that fit behind the file's name."""
    assert message.isprintable()
    assert 0 < len(message) < 300
