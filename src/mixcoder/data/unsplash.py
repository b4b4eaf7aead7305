"""Unsplash Lite: 25,000 photos, scaled to at least 96 pixels a side and cropped to 96 x 96.

Source: https://unsplash.com/data. Known here so that experiments on it can be planned and their models be
built; its photos cannot be fetched yet.
"""

from __future__ import annotations

from mixcoder.data.images import ImageData
from mixcoder.data.registry import DataSource, register_source
from mixcoder.errors import DataError

PHOTOS = 25_000
VALIDATION_PHOTOS = 100


@register_source("unsplash")
class Unsplash(DataSource):
    """Random 96 x 96 crops of photos to train on, centre crops of the first 100 to validate on."""

    image_shape = (3, 96, 96)
    training_images = PHOTOS - VALIDATION_PHOTOS

    def load(self) -> ImageData:
        raise DataError(
            "unsplash: this version can plan experiments on these photos but not fetch them; "
            "digits, mnist and fashion_mnist can be trained on"
        )

    def status(self) -> str:
        return "to plan with; cannot be fetched yet"
