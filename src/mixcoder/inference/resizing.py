"""How images of any size come to the shape that a model takes.

    pixels (c, h, w) uint8 ─▶ grey or RGB ─▶ resized and cropped where asked for ─▶ (C, H, W) uint8

Without `fit`, an image of another size is an error.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from mixcoder.errors import DataError
from mixcoder.pixels.codec import Pixels
from mixcoder.pixels.shape import ImageShape


def to_shape(pixels: Pixels, shape: ImageShape, fit: bool = False) -> Pixels:
    """Returns an image (C, H, W) uint8 of a model's shape.

    Args:
        pixels: (c, h, w) uint8, c being 1 or 3.
        shape: (C, H, W), C being 1 or 3.
        fit: crops the middle to the aspect of `shape` and resizes it.

    Raises:
        DataError: the image is of another size, and `fit` is False.
    """
    if pixels.shape == shape:
        return pixels
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))  # (h, w[, 3])
    channels, height, width = shape
    if picture.size != (width, height):
        if not fit:
            raise DataError(
                f"is {picture.height} x {picture.width} pixels (height x width) and the model takes "
                f"{height} x {width}; --fit (in Python fit=True) resizes and crops"
            )
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    values = np.asarray(picture.convert("L" if channels == 1 else "RGB"))  # (H, W[, 3])
    return np.ascontiguousarray(values.reshape(height, width, channels).transpose(2, 0, 1))
