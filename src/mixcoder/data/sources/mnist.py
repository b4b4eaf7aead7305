"""MNIST and Fashion-MNIST: 60,000 + 10,000 grey pictures of 28 x 28 pixels in four IDX files.

Sources: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits";
H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv 1708.07747.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from mixcoder.data.data_folders import data_folders
from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.net.download import download
from mixcoder.data.source import DataSource, register_source
from mixcoder.data.sources.idx import read_idx
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import ArgumentError, DataError

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
_MAX_BYTES = 64 * 2**20


class IdxSource(DataSource):
    """A data set in MNIST's four files. A subclass names it, its mirrors and its checksums."""

    name: ClassVar[str]
    mirrors: ClassVar[tuple[str, ...]]
    checksums: ClassVar[dict[str, str]]
    is_known_by_name = True
    image_shape = (1, 28, 28)
    training_images = SHAPES[TRAIN_IMAGES][0]

    def prepare(self, progress: StartTask = no_progress) -> str:
        if not self.folder():
            self.fetch(progress=progress)
        return ""

    def load(self) -> ImageData:
        if not self.folder():
            self.fetch()
        return ImageData(
            self.name, self._split(TRAIN_IMAGES, TRAIN_LABELS), self._split(TEST_IMAGES, TEST_LABELS)
        )

    def is_fetched(self) -> bool:
        return self.folder() is not None

    def status(self) -> str:
        folder = self.folder()
        return f"ready in {folder}" if folder else "not fetched yet"

    def folder(self) -> Path | None:
        """Returns the first folder that holds all four files, gzipped or not; None where there is none."""
        for folder in data_folders(self.name):
            if all(_find(folder, file) for file in SHAPES):
                return folder
        return None

    def fetch(
        self, origin: str | None = None, sha256: str | None = None, progress: StartTask = no_progress
    ) -> None:
        """Brings the files that are missing to this machine.

        Args:
            origin: address of a folder to fetch from, in place of the well-known ones.
            sha256: not for four files, whose checksums are known.
            progress: told of each file.

        Raises:
            DataError: no mirror brought them; says which files to put where.
        """
        if sha256:
            raise ArgumentError("sha256", f"the checksums of {self.name} are known; leave it out")
        if self.folder():
            return
        folder = data_folders(self.name)[0]
        mirrors = (origin,) if origin else self.mirrors
        for file, md5 in self.checksums.items():
            if _find(folder, file):
                continue
            urls = [f"{address.rstrip('/')}/{file}.gz" for address in mirrors]
            report = progress(f"fetching {file}.gz", "bytes")
            try:
                download(
                    urls,
                    folder / f"{file}.gz",
                    checksum=f"md5:{md5}",
                    max_bytes=_MAX_BYTES,
                    progress=report,
                )
            except DataError as error:
                files = ", ".join(f"{name}.gz" for name in SHAPES)
                raise DataError(
                    f"{self.name} is not on this machine and cannot be fetched; "
                    f"put {files} into {folder} ({error})"
                ) from error

    def verify(self) -> list[dict[str, str]]:
        folder = self.folder()
        if not folder:
            raise DataError(f"{self.name} is not on this machine; mixcoder data fetch {self.name} brings it")
        rows = []
        for file, shape in SHAPES.items():
            path = _find(folder, file)
            assert path is not None
            try:
                read_idx(path, shape)
                published = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                same = published == self.checksums[file]
                verdict = "as published" if same else "sound, but compressed or edited since it was published"
            except DataError as error:
                verdict = f"damaged: {error}"
            rows.append({"file": str(path), "verdict": verdict})
        return rows

    def _split(self, images_file: str, labels_file: str) -> ImageSplit:
        folder = self.folder()
        assert folder is not None
        images, labels = (_read(folder, file) for file in (images_file, labels_file))
        return ImageSplit(images[:, None], labels.long())  # (N, 1, 28, 28), (N,)


def _read(folder: Path, file: str) -> Tensor:
    path = _find(folder, file)
    assert path is not None
    return read_idx(path, SHAPES[file])


def _find(folder: Path, file: str) -> Path | None:
    for path in (folder / f"{file}.gz", folder / file):
        if path.is_file():
            return path
    return None


@register_source("mnist")
class Mnist(IdxSource):
    """Handwritten digits: 60,000 to train on, 10,000 to validate on."""

    name = "mnist"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
    )
    checksums: ClassVar[dict[str, str]] = {
        TRAIN_IMAGES: "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        TRAIN_LABELS: "d53e105ee54ea40749a09fcbcd1e9432",
        TEST_IMAGES: "9fb629c4189551a2d022fa330f9573f3",
        TEST_LABELS: "ec29112dd5afa0611ce80d1b7f02629c",
    }


@register_source("fashion_mnist")
class FashionMnist(IdxSource):
    """Pictures of clothes in MNIST's format: 60,000 to train on, 10,000 to validate on."""

    name = "fashion_mnist"
    mirrors = (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    )
    checksums: ClassVar[dict[str, str]] = {
        TRAIN_IMAGES: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        TRAIN_LABELS: "25c81989df183df01b3e8a0aad5dffbe",
        TEST_IMAGES: "bef4ecab320f06d8554ea6380940ec79",
        TEST_LABELS: "bb300cfdad3c16e7a12a480ee83cd310",
    }
