"""scikit-learn's embedded digits: 1,797 real handwritten digits of 8 x 8 pixels, always at hand.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998.
"""

from __future__ import annotations

import torch

from mixcoder.data.images import ImageData, ImageSplit
from mixcoder.data.registry import DataSource, register_source

TRAINING_IMAGES = 1500


@register_source("digits")
class Digits(DataSource):
    """The first 1,500 digits to train on, the last 297 to validate on. Needs no network."""

    image_shape = (1, 8, 8)
    training_images = TRAINING_IMAGES
    classes = 10

    def load(self) -> ImageData:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped]

        bunch = load_digits()
        grey = torch.from_numpy(bunch.images)[:, None]  # (1797, 1, 8, 8), whole numbers 0 … 16
        images = (grey * 255 / 16).round().to(torch.uint8)
        labels = torch.from_numpy(bunch.target).long()
        return ImageData(
            "digits",
            ImageSplit(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
            ImageSplit(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]),
        )
