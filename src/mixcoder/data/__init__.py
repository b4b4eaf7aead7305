"""The data sources, all behind `load_data(name, **arguments)`."""

from mixcoder.data.crops import CropSplit
from mixcoder.data.digits import Digits
from mixcoder.data.folder import Folder
from mixcoder.data.hub import Hub
from mixcoder.data.images import ImageData, ImageSplit, to_float
from mixcoder.data.mnist import FashionMnist, IdxSource, Mnist
from mixcoder.data.registry import SOURCES, DataSource, create_source, load_data, register_source
from mixcoder.data.unsplash import Unsplash

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
