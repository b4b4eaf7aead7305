"""The data sources, all behind `load_data(name, **arguments)`."""

import mixcoder.data.sources  # noqa: F401 - registers them
from mixcoder.data.crops import CropSplit
from mixcoder.data.own_images import images
from mixcoder.data.source import SOURCES, DataSource, create_source, load_data, register_source
from mixcoder.data.split import ImageData, ImageSplit, to_float

__all__ = [
    "SOURCES",
    "CropSplit",
    "DataSource",
    "ImageData",
    "ImageSplit",
    "create_source",
    "images",
    "load_data",
    "register_source",
    "to_float",
]
