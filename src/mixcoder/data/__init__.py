"""The data sources, all behind `load_data(name, **arguments)`."""

from mixcoder.data.crops import CropSplit
from mixcoder.data.source import SOURCES, DataSource, create_source, load_data, register_source
from mixcoder.data.sources.digits import Digits
from mixcoder.data.sources.folder import Folder
from mixcoder.data.sources.hub import Hub
from mixcoder.data.sources.mnist import FashionMnist, IdxSource, Mnist
from mixcoder.data.sources.unsplash import Unsplash
from mixcoder.data.split import ImageData, ImageSplit, to_float

__all__ = [
    "SOURCES",
    "CropSplit",
    "DataSource",
    "Digits",
    "FashionMnist",
    "Folder",
    "Hub",
    "IdxSource",
    "ImageData",
    "ImageSplit",
    "Mnist",
    "Unsplash",
    "create_source",
    "load_data",
    "register_source",
    "to_float",
]
