"""Pictures for tests: made from a seed, of any size."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from mixcoder.pixels.codec import Pixels


def noise(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Random pixels."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.merge(mode, [Image.fromarray(band) for band in np.moveaxis(values, 2, 0)])


def smooth(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Soft random blots, as photos have them."""
    return noise(12, 10, seed, mode).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    """The content of an image file."""
    content = BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def pixels_of(image: Image.Image) -> Pixels:
    """(C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def flat(name: str) -> Pixels:
    """An image (2, H, W) of one grey; size and grey follow from the number that is its name."""
    number = int(name)
    return np.full((2, 3 + number % 5, 4 + number % 3), number % 256, dtype=np.uint8)
