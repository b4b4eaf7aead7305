"""From an image file of any common kind to pixels of the wanted size and channels.

file ─▶ open (known formats, size checked) ─▶ draft ─▶ decode ─▶ orientation ─▶ 8 bits, white below
     ─▶ scaled ─▶ grey or RGB ─▶ (C, H, W) uint8
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mixcoder.safe_text import sanitize

Pixels = npt.NDArray[np.uint8]
"""(C, H, W) uint8."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp"})
"""The endings of files that are taken for images."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")
_MODES = {1: "L", 3: "RGB"}
MAX_PIXELS = 100_000_000
"""An image that claims more is taken for a decompression bomb."""
_MAX_ASPECT = 40
_DRAFT_MARGIN = 2


class ImageError(Exception):
    """An image cannot be used; says why in a few words."""


@dataclass(frozen=True)
class Fit:
    """How large images are stored, and with how many channels.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this many pixels on their longest edge; None leaves them.
        shortest_edge: but no smaller than this on their shortest; what is smaller is scaled up to it.
    """

    channels: int
    longest_edge: int | None
    shortest_edge: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size (width, height) at which an image is stored."""
        longest, shortest = max(width, height), min(width, height)
        scale = min(1.0, (self.longest_edge or longest) / longest)
        scale = max(scale, self.shortest_edge / shortest)
        smallest = self.shortest_edge
        return max(smallest, round(width * scale)), max(smallest, round(height * scale))


def decode_file(path: Path, fit: Fit) -> Pixels:
    """The pixels (C, H, W) of an image file.

    Raises:
        ImageError: the file cannot be used.
    """
    return _decode(path, fit)


def decode_bytes(content: bytes, fit: Fit) -> Pixels:
    """The pixels (C, H, W) of an image file's content.

    Raises:
        ImageError: the content cannot be used.
    """
    return _decode(BytesIO(content), fit)


def _decode(source: Path | BytesIO, fit: Fit) -> Pixels:
    try:
        with Image.open(source, formats=_FORMATS) as image:
            return _pixels(image, fit)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("is not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ImageError(f"claims more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError("takes more memory than there is") from None
    except OSError as error:
        raise ImageError(_reason(error)) from None
    except Exception as error:  # a decoder meets a damaged file with whatever it stumbles over
        raise ImageError(f"is damaged ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return sanitize(text or type(error).__name__, 100)


def _pixels(image: Image.Image, fit: Fit) -> Pixels:
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"claims {image.width:,} x {image.height:,} pixels")
    if max(image.size) > _MAX_ASPECT * min(image.size):
        raise ImageError(f"is {image.width:,} x {image.height:,} pixels, too narrow to be cut into crops")
    width, height = fit.size(image.width, image.height)
    image.draft(None, (width * _DRAFT_MARGIN, height * _DRAFT_MARGIN))
    drafted = image.size  # its sides are rounded: the wanted size does not follow from them
    image.load()
    upright = _on_white(_to_eight_bits(_upright(image)))
    size = (width, height) if upright.size == drafted else (height, width)
    if size != upright.size:
        upright = upright.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(upright.convert(_MODES[fit.channels]))  # (H, W) or (H, W, 3)
    pixels = pixels.reshape(*pixels.shape[:2], fit.channels)  # (H, W, C)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))  # (C, H, W)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data says; as it is where that is damaged."""
    with contextlib.suppress(Exception):
        return ImageOps.exif_transpose(image)
    return image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits as 8 bits; any other image as it is."""
    if image.mode == "F":
        raise ImageError("has floating-point pixels, whose range is not known")
    if image.mode not in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
        return image
    values = np.asarray(image).astype(np.float64)  # (H, W), 0 … 65,535
    if not math.isfinite(values.max()) or values.max() > 65_535 or values.min() < 0:
        raise ImageError("has 32-bit pixels, whose range is not known")
    return Image.fromarray((values / 257).round().astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """The image as grey or RGB, with white where it is transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
