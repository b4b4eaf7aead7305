"""Images that were in the memory of a Python program, in the config of a run that it trained.

The run directory then says what it was trained on, though nothing can bring these images back.
"""

from __future__ import annotations

from mixcoder.data.source import DataSource, register_source
from mixcoder.data.split import ImageData
from mixcoder.errors import DataError
from mixcoder.pixels.shape import ImageShape


@register_source("memory")
class Memory(DataSource):
    """Images that a Python program held when it trained; `mixcoder.train(…, runs=…)` writes this source.

    Args:
        name: of the data.
        image_shape: (C, H, W) of its images.
        sha256: of all images.
        count: of training images.
    """

    def __init__(self, name: str, image_shape: list[int], sha256: str, count: int) -> None:
        channels, height, width = image_shape
        self.name = name
        self.image_shape: ImageShape = (channels, height, width)
        self.sha256 = sha256
        self.training_images = count

    def load(self) -> ImageData:
        raise DataError(f"the images '{self.name}' were in the memory of a Python program, and are not here")

    def is_fetched(self) -> bool:
        return False

    def status(self) -> str:
        return "only in a Python program"
