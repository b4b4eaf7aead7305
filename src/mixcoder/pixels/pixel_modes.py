"""From the pixels of any mode that an image file may have to grey or RGB of 8 bits, on white.

opened image ─▶ Values (checked before anything is decoded) ─▶ decoded image, whole or a band ─▶ L or RGB
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    TiffImageFile,
)

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_WHITE_IS_ZERO = 0
_SIGNED = 2
_IN_PLANES = 2


class ImageError(Exception):
    """A reason, in a few words, why an image cannot be used."""


@dataclass(frozen=True)
class Values:
    """A meaning of the values of grey pixels of more than 8 bits; their decoded form does not state it.

    Attributes:
        black: the value of black.
        white: that of white.
    """

    black: int
    white: int

    @classmethod
    def of(cls, image: Image.Image) -> Values:
        """Returns those of an image that is opened, but not decoded yet.

        Raises:
            ImageError: they are not known, or would be decoded wrongly.
        """
        if image.mode == "F":
            raise ImageError("has floating-point pixels, whose range is not known")
        if image.mode == "I" and image.format != "PPM":  # which are scaled to 16 bits
            raise ImageError("has 32-bit or signed pixels, whose range is not known")
        if isinstance(image, TiffImageFile):
            return cls._of_tiff(image)
        if isinstance(image, PngImageFile):
            _scale_transparent_value(image)
        return cls(0, 65_535)

    @classmethod
    def _of_tiff(cls, image: TiffImageFile) -> Values:
        tags = image.tag_v2
        bits = tags.get(BITSPERSAMPLE, (1,))
        if _SIGNED in tags.get(SAMPLEFORMAT, ()):
            raise ImageError("has 32-bit or signed pixels, whose range is not known")
        is_raw = image.tile[0].codec_name == "raw"
        if is_raw and max(bits) > 8 and tags.get(PLANAR_CONFIGURATION) == _IN_PLANES:
            raise ImageError("has 16-bit colours in planes that are not compressed, which are not read")
        highest = 2 ** bits[0] - 1
        if image.mode in _SIXTEEN_BITS and tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
            return cls(highest, 0)
        return cls(0, highest)


def on_white(image: Image.Image, values: Values) -> Image.Image:
    """Returns a decoded image as grey or RGB of 8 bits, with white where it is transparent.

    Raises:
        ImageError: there are values that its file cannot hold.
    """
    if image.mode in ("I", *_SIXTEEN_BITS):
        image = _to_eight_bits(image, values)
    if image.mode == "La":  # grey multiplied with alpha, which Pillow makes nothing else of
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _to_eight_bits(image: Image.Image, values: Values) -> Image.Image:
    """Returns grey of up to 16 bits as grey of 8 bits, with alpha where one of its values is transparent."""
    levels = np.asarray(image)  # (H, W)
    lowest, highest = sorted((values.black, values.white))
    if levels.min() < lowest or levels.max() > highest:
        raise ImageError("has values beyond those of its bits")
    scaled = (levels - float(values.black)) * (255 / (values.white - values.black))
    grey = Image.fromarray(scaled.round().astype(np.uint8))
    transparent: Any = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = np.where(levels == transparent, 0, 255).astype(np.uint8)  # (H, W)
    return Image.merge("LA", (grey, Image.fromarray(alpha)))


def _scale_transparent_value(image: PngImageFile) -> None:
    """Makes the transparent value of a PNG file that of its decoded pixels, where these are scaled."""
    layout = str(image.tile[0].args)
    transparent = image.info.get("transparency")
    if transparent is None:
        return
    if layout.startswith("L;"):  # grey of 2 or 4 bits
        image.info["transparency"] = transparent * 255 // (2 ** int(layout[2:]) - 1)
    if layout.startswith("RGB;16"):
        raise ImageError("has 16-bit colours of which one is transparent, which are not read")
