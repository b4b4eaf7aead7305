"""scikit-learn's embedded digits: 1,797 real handwritten digits of 8 x 8 pixels, always at hand.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from mixcoder.data.source import DataSource, register_source
from mixcoder.data.split import ImageData, ImageSplit

TRAINING_IMAGES = 1500


@register_source("digits")
class Digits(DataSource):
    """The first 1,500 digits to train on, the last 297 to validate on. Needs no network."""

    is_known_by_name = True
    image_shape = (1, 8, 8)
    training_images = TRAINING_IMAGES

    def load(self) -> ImageData:
        table = torch.from_numpy(np.loadtxt(_path(), delimiter=","))  # 64 whole numbers 0 … 16, and the digit
        grey = table[:, :-1].view(-1, *self.image_shape)  # (1797, 1, 8, 8)
        images = (grey * 255 / 16).round().to(torch.uint8)
        labels = table[:, -1].long()
        return ImageData(
            "digits",
            ImageSplit(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
            ImageSplit(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]),
        )


def _path() -> Path:
    """The file in scikit-learn's folder; to import scikit-learn for it takes longer than a short training."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
