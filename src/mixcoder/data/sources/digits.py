"""The embedded digits: 1,797 real handwritten digits of 8 x 8 pixels, always at hand.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, the test set; CC BY 4.0. `digits.LICENSE.txt` beside the file says more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mixcoder.data.source import DataSource, register_source
from mixcoder.data.split import ImageData, ImageSplit

TRAINING_IMAGES = 1500
_FILE = Path(__file__).with_name("digits.npz")


@register_source("digits")
class Digits(DataSource):
    """The first 1,500 digits to train on, the last 297 to validate on. Needs no network."""

    is_known_by_name = True
    image_shape = (1, 8, 8)
    training_images = TRAINING_IMAGES

    def load(self) -> ImageData:
        with np.load(_FILE, allow_pickle=False) as arrays:
            grey = torch.from_numpy(arrays["images"].astype(np.float64))[:, None]  # (1797, 1, 8, 8), 0 … 16
            labels = torch.from_numpy(arrays["labels"].astype(np.int64))  # (1797,)
        images = (grey * 255 / 16).round().to(torch.uint8)
        return ImageData(
            "digits",
            ImageSplit(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
            ImageSplit(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]),
        )
