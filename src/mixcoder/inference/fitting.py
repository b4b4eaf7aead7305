"""How images of any size come to the shape that a model takes.

pixels (c, h, w) uint8 ─▶ grey or RGB ─▶ of the right size already, or resized and cropped ─▶ (C, H, W) uint8
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from mixcoder.errors import DataError
from mixcoder.images.codec import Pixels
from mixcoder.images.shape import ImageShape

Shaping = Callable[[Pixels, ImageShape], Pixels]
"""From pixels (c, h, w), c being 1 or 3, to those (C, H, W) of an image shape."""


def exact(pixels: Pixels, shape: ImageShape) -> Pixels:
    """The image as it is, with the model's channels.

    Raises:
        DataError: it is of another size; says which would be right.
    """
    if pixels.shape[1:] != shape[1:]:
        raise DataError(
            f"is {pixels.shape[1]} x {pixels.shape[2]} pixels (height x width) and the model takes "
            f"{shape[1]} x {shape[2]}; --fit (in Python fit=True) resizes and crops"
        )
    return pixels if pixels.shape[0] == shape[0] else _pixels(_picture(pixels), shape)


def fitted(pixels: Pixels, shape: ImageShape) -> Pixels:
    """The middle of the image, as much of it as has the model's aspect, at the model's size."""
    picture = _picture(pixels)
    size = shape[2], shape[1]
    if picture.size != size:
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    return _pixels(picture, shape)


def _picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))  # (h, w[, 3])


def _pixels(picture: Image.Image, shape: ImageShape) -> Pixels:
    values = np.asarray(picture.convert("L" if shape[0] == 1 else "RGB"))  # (H, W[, 3])
    return np.ascontiguousarray(values.reshape(*shape[1:], shape[0]).transpose(2, 0, 1))  # (C, H, W)
