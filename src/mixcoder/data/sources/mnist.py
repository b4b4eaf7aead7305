"""MNIST and data sets in its format: grey pictures of 28 x 28 pixels in four IDX files.

Sources: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits";
H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv 1708.07747;
T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", arXiv 1812.01718.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from mixcoder.data.source import register_source
from mixcoder.data.sources.idx import read_idx
from mixcoder.data.sources.published import PublishedSource
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import DataError

TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_IMAGES = "t10k-images-idx3-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"
SHAPES: dict[str, tuple[int, ...]] = {
    TRAIN_IMAGES: (60_000, 28, 28),
    TRAIN_LABELS: (60_000,),
    TEST_IMAGES: (10_000, 28, 28),
    TEST_LABELS: (10_000,),
}


class IdxSource(PublishedSource):
    """A data set in MNIST's four files. A subclass names it, its mirrors and its checksums."""

    image_shape = (1, 28, 28)
    training_images = SHAPES[TRAIN_IMAGES][0]
    max_bytes = 64 * 2**20

    def is_whole(self, folder: Path) -> bool:
        return all(find_idx(folder, file) for file in SHAPES)

    def lacks(self, folder: Path, file: str) -> bool:
        return not find_idx(folder, file.removesuffix(".gz"))

    def read(self, folder: Path) -> ImageData:
        images, labels, test_images, test_labels = (_read(folder, file) for file in SHAPES)
        training = ImageSplit(images[:, None], labels.long())  # (N, 1, 28, 28), (N,)
        return ImageData(self.name, training, ImageSplit(test_images[:, None], test_labels.long()))

    def verify(self) -> list[dict[str, str]]:
        folder = self.found_folder()
        rows = []
        for file, shape in SHAPES.items():
            path = find_idx(folder, file)
            assert path is not None
            try:
                read_idx(path, shape)
                published = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                same = published == self.checksums[f"{file}.gz"]
                verdict = "as published" if same else "sound, but compressed or edited since it was published"
            except DataError as error:
                verdict = f"damaged: {error}"
            rows.append({"file": str(path), "verdict": verdict})
        return rows


def find_idx(folder: Path, file: str) -> Path | None:
    """Returns the path of an IDX file in a folder, by any of its names; None where it is not there."""
    return next((path for path in _names(folder, file) if path.is_file()), None)


def _names(folder: Path, file: str) -> Iterator[Path]:
    """Yields the paths that an IDX file may have: gzipped or not, with a dot, or in a folder of its name."""
    dotted = file.replace("-idx", ".idx")
    for name in (file, dotted):
        yield from (folder / f"{name}.gz", folder / name, folder / name / name, folder / name / file)


def _read(folder: Path, file: str) -> Tensor:
    path = find_idx(folder, file)
    assert path is not None
    return read_idx(path, SHAPES[file])


@register_source("mnist")
class Mnist(IdxSource):
    """Handwritten digits: 60,000 to train on, 10,000 to validate on."""

    name = "mnist"
    homes = ("MNIST/raw",)
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    )
    checksums: ClassVar[dict[str, str]] = {
        f"{TRAIN_IMAGES}.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        f"{TRAIN_LABELS}.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        f"{TEST_IMAGES}.gz": "9fb629c4189551a2d022fa330f9573f3",
        f"{TEST_LABELS}.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }


@register_source("fashion_mnist")
class FashionMnist(IdxSource):
    """Pictures of clothes in MNIST's format: 60,000 to train on, 10,000 to validate on."""

    name = "fashion_mnist"
    homes = ("FashionMNIST/raw",)
    mirrors = (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    )
    checksums: ClassVar[dict[str, str]] = {
        f"{TRAIN_IMAGES}.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        f"{TRAIN_LABELS}.gz": "25c81989df183df01b3e8a0aad5dffbe",
        f"{TEST_IMAGES}.gz": "bef4ecab320f06d8554ea6380940ec79",
        f"{TEST_LABELS}.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }


@register_source("kmnist")
class Kmnist(IdxSource):
    """Handwritten characters of old Japanese in MNIST's format: 60,000 to train on, 10,000 to validate on."""

    name = "kmnist"
    homes = ("KMNIST/raw",)
    mirrors = ("https://codh.rois.ac.jp/kmnist/dataset/kmnist",)
    checksums: ClassVar[dict[str, str]] = {
        f"{TRAIN_IMAGES}.gz": "bdb82020997e1d708af4cf47b453dcf7",
        f"{TRAIN_LABELS}.gz": "e144d726b3acfaa3e44228e80efcd344",
        f"{TEST_IMAGES}.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
        f"{TEST_LABELS}.gz": "7320c461ea6c1c855c0b718fb2a4b134",
    }
