"""From an image file of any common kind to pixels of the wanted size and channels.

file ─▶ open (known formats, size and mode checked) ─▶ draft ─ pixel budget ─▶ decode ─▶ orientation
     ─▶ 8 bits, white below ─▶ scaled ─▶ grey or RGB ─▶ (C, H, W) uint8

All threads together decode no more pixels at a time than `MAX_PIXELS`, and whatever is made of a decoded
image is made of it band by band: one picture never takes gigabytes, and many at a time no more than one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL import _imaging as core

from mixcoder.pixels.pixel_budget import PixelBudget
from mixcoder.pixels.pixel_modes import ImageError as ImageError
from mixcoder.pixels.pixel_modes import Values, on_white
from mixcoder.text.sanitize import sanitize

Pixels = npt.NDArray[np.uint8]
"""(C, H, W) uint8."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF")
"""AVIF and HEIF where Pillow has a decoder for them."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""What files of that format begin with."""
_MODES = {1: "L", 3: "RGB"}
MAX_PIXELS = 100_000_000
"""An image that claims more is taken for a decompression bomb; also what all threads decode at a time."""
_MAX_ASPECT = 40
_MARGIN = 2
"""Images are decoded to, or averaged to, no less than this multiple of the wanted size, then resampled."""
_LARGE = 16_000_000
"""Pixels from which on an image that is far larger than wanted is averaged first."""
_BAND_PIXELS = 1_000_000

_BLOCK_BYTES = 1 << 29
"""Pillow takes memory in blocks of up to so many bytes. An image in one large block gives it back to the
system at once; what was 16 MB each stayed with every thread that had ever decoded a large image."""

_budget = PixelBudget(MAX_PIXELS)
core.set_block_size(max(_BLOCK_BYTES, core.get_block_size()))


def suffixes() -> frozenset[str]:
    """Returns the endings, in small letters, of files that are taken for images."""
    known = {*_FORMATS, "MPO"}  # JPEG with more pictures behind it
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in known)


@dataclass(frozen=True)
class Fit:
    """A rule for the size and the channels in which images are stored.

    Attributes:
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this many pixels on their longest edge; None leaves them.
        shortest_edge: but no smaller than this on their shortest; what is smaller is scaled up to it.
    """

    channels: int
    longest_edge: int | None
    shortest_edge: int

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the size (width, height) at which an image is stored."""
        longest, shortest = max(width, height), min(width, height)
        scale = min(1.0, (self.longest_edge or longest) / longest)
        scale = max(scale, self.shortest_edge / shortest)
        smallest = self.shortest_edge
        return max(smallest, round(width * scale)), max(smallest, round(height * scale))


def suffix_objection(path: Path) -> str:
    """Returns why a file of this name is not taken for an image that can be read; empty where it is."""
    suffix = path.suffix.lower()
    if suffix in suffixes():
        return ""
    return f"ends in {sanitize(suffix, 20)}, which is not read here" if suffix else "has no suffix"


def decode_file(path: Path, fit: Fit) -> Pixels:
    """Returns the pixels (C, H, W) of an image file.

    Raises:
        ImageError: the file cannot be used.
    """
    return _decode(path, fit)


def decode_bytes(content: bytes, fit: Fit) -> Pixels:
    """Returns the pixels (C, H, W) of an image file's content.

    Raises:
        ImageError: the content cannot be used.
    """
    return _decode(BytesIO(content), fit)


def decode_picture(picture: Image.Image) -> Pixels:
    """Returns the pixels (C, H, W) of a picture that a program holds: grey where it has no colours, else RGB.

    Raises:
        ImageError: the meaning of its values is not known.
    """
    flat = on_white(ImageOps.exif_transpose(picture), Values.of(picture))
    return _to_array(flat, 1 if flat.mode == "L" else 3)


def _decode(source: Path | BytesIO, fit: Fit) -> Pixels:
    Image.init()
    formats = [form for form in _FORMATS if form in Image.OPEN]
    try:
        with Image.open(source, formats=formats) as image:
            return _pixels(image, fit)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_unknown(source)) from None
    except Image.DecompressionBombError:
        raise ImageError(f"claims more than {MAX_PIXELS:,} pixels") from None
    except MemoryError:
        raise ImageError("takes more memory than there is") from None
    except OSError as error:
        raise ImageError(_reason(error)) from None
    except Exception as error:  # decoders raise anything for damaged files
        raise ImageError(f"is damaged ({_reason(error)})") from None


def _unknown(source: Path | BytesIO) -> str:
    """Returns why a file cannot be opened that has the form of no known format."""
    start = b""
    with suppress(OSError), source.open("rb") if isinstance(source, Path) else source as file:
        file.seek(0)
        start = file.read(4)
    if start in _TIFF:
        return "is a TIFF image of a kind that is not read, such as of floating-point colours"
    return (isinstance(source, Path) and suffix_objection(source)) or "is not an image of a known format"


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return sanitize(text or type(error).__name__, 100)


def _pixels(image: Image.Image, fit: Fit) -> Pixels:
    wanted = fit.size(image.width, image.height)
    _check_size(image.size, wanted)
    values = Values.of(image)
    claimed = image.width * image.height
    image.draft(None, (wanted[0] * _MARGIN, wanted[1] * _MARGIN))
    decoded = claimed if image.info.get("progressive") else image.width * image.height
    with _budget.taken(max(decoded, wanted[0] * wanted[1])), closing(image):  # its pixels go with it
        return _to_array(_fitted(image, wanted, values), fit.channels)


def _check_size(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raises ImageError for an image that would take too much memory, as it is or as it would be stored."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(f"claims {width:,} x {height:,} pixels")
    if max(size) > _MAX_ASPECT * min(size):
        raise ImageError(f"is {width:,} x {height:,} pixels, too narrow to be cut into crops")
    if wanted[0] * wanted[1] > MAX_PIXELS:
        raise ImageError(f"would have to be scaled up to {wanted[0]:,} x {wanted[1]:,} pixels")


def _fitted(image: Image.Image, wanted: tuple[int, int], values: Values) -> Image.Image:
    """Returns the image decoded, upright, grey or RGB of 8 bits, and of the wanted size."""
    opened = image.size  # drafted sides are rounded: the wanted size does not follow from them
    image.load()
    size = wanted if image.size == opened else wanted[::-1]  # a format may have turned it already
    factor = min(min(image.size) // min(size), max(image.size) // max(size)) // _MARGIN
    if factor > 1 and image.width * image.height > _LARGE:
        averaged = _flattened(image, values, factor)
        box = (0.0, 0.0, image.width / factor, image.height / factor)
        return _turned(averaged.resize(size, Image.Resampling.LANCZOS, box), _orientation(image))
    upright = _flattened(_turned(image, _orientation(image)), values)
    size = wanted if upright.size == opened else wanted[::-1]
    return upright if size == upright.size else upright.resize(size, Image.Resampling.LANCZOS)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image of each EXIF orientation upright."""
_ORIENTATION = 0x0112


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation that a decoded image still has; 1 where its EXIF data is damaged."""
    with suppress(Exception):
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _flattened(image: Image.Image, values: Values, factor: int = 1) -> Image.Image:
    """Returns the image in 8 bits on white, each `factor` x `factor` pixels averaged; made band by band."""
    size = (-(-image.width // factor), -(-image.height // factor))
    flat: Image.Image | None = None
    for top, bottom in _bands(image.width, image.height, factor):
        band = on_white(image.crop((0, top, image.width, bottom)), values).reduce(factor)
        if flat is None:
            flat = band if band.size == size else Image.new(band.mode, size)
        if flat is not band:
            flat.paste(band, (0, top // factor))
    assert flat is not None
    return flat


def _bands(width: int, height: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Yields the first row of each band and the one behind its last: `_BAND_PIXELS`, or `multiple` rows."""
    rows = max(1, _BAND_PIXELS // (width * multiple)) * multiple
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _to_array(picture: Image.Image, channels: int) -> Pixels:
    """Returns the pixels (C, H, W) of a picture that is grey or RGB."""
    width, height = picture.size
    pixels = np.empty((channels, height, width), dtype=np.uint8)
    for top, bottom in _bands(width, height):
        band = np.asarray(picture.crop((0, top, width, bottom)).convert(_MODES[channels]))  # (h, W[, 3])
        pixels[:, top:bottom] = band.reshape(bottom - top, width, channels).transpose(2, 0, 1)
    return pixels
