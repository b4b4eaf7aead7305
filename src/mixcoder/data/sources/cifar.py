"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour pictures of 32 x 32 pixels.

    binary version:  records of labels and pixels ──────────────────────┐
    Python version:  pickled batches, of which the numbers are read ────┴▶ images (N, 3, 32, 32), labels (N,)
                     and nothing is run

Each version lies in a folder, or in the archive that it was published in.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mixcoder.data.source import describe_soundness, register_source
from mixcoder.data.sources.pickled_batch import read_batch
from mixcoder.data.sources.published import PublishedSource
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import DataError, first_line, system_reason
from mixcoder.io.atomic_file import write_atomically

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
_TRAINING, _VALIDATION = 50_000, 10_000
_MOST_BYTES = 256 * 2**20
"""More than the longest file of any version has."""

Read = Callable[[bytes, str], tuple[Tensor, Tensor]]
"""From the content of a file, and its name for messages, to pixels (N, 3072) uint8 and labels (N,) int64."""


@dataclass(frozen=True)
class Version:
    """A version of a data set.

    Attributes:
        folder: in which its files lie.
        archive: that it was published in.
        training: files of the training images, in their order.
        validation: the file of the others.
        read: reads a file.
    """

    folder: str
    archive: str
    training: tuple[str, ...]
    validation: str
    read: Read

    @property
    def files(self) -> tuple[str, ...]:
        """All files."""
        return (*self.training, self.validation)


class CifarSource(PublishedSource):
    """A data set of pictures of 32 x 32 pixels. A subclass states its versions, the published one first."""

    versions: ClassVar[tuple[Version, ...]]
    homes = (".",)
    mirrors = ("https://www.cs.toronto.edu/~kriz",)
    max_bytes = 256 * 2**20
    image_shape = SHAPE
    training_images = _TRAINING

    def is_whole(self, folder: Path) -> bool:
        return any(self._place_of(version, folder) for version in self.versions)

    def read(self, folder: Path) -> ImageData:
        places = ((version, self._place_of(version, folder)) for version in self.versions)
        version, place = next((version, place) for version, place in places if place)
        contents = _contents(place, version.files)
        *training, validation = (version.read(contents[file], f"{place}: {file}") for file in version.files)
        held_out = _split([validation], _VALIDATION, place)
        return ImageData(self.name, _split(training, _TRAINING, place), held_out)

    def unpack(self, folder: Path) -> None:
        """Writes the files of the published archive beside it: unpacking takes longer than reading."""
        version = self.versions[0]
        for file, content in _contents(folder / version.archive, version.files).items():
            path = folder / version.folder / file
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, content)

    def verify(self) -> list[dict[str, str]]:
        folder = self.found_folder()
        return [{"file": str(folder), "verdict": describe_soundness(partial(self.read, folder))}]

    def _place_of(self, version: Version, folder: Path) -> Path | None:
        """Returns the folder or the archive of a version; None where it is not there."""
        is_own = folder.name in (self.name, version.folder)  # elsewhere, train and test are files of others
        for place in (folder / version.folder, *([folder] if is_own else [])):
            if all((place / file).is_file() for file in version.files):
                return place
        archive = folder / version.archive
        return archive if archive.is_file() else None


def _contents(place: Path, files: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of files in a folder, or in an archive.

    Raises:
        DataError: one cannot be read, or is not there.
    """
    try:
        if place.is_dir():
            return {file: _read_bounded(place / file) for file in files}
        found = _members(place, files)
    except OSError as error:
        raise DataError(f"{place}: cannot be read ({system_reason(error)})") from error
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{place}: is damaged ({first_line(error)}); fetch it again") from error
    for file in files:
        if file not in found:
            raise DataError(f"{place}: does not hold {file}; fetch it again")
    return found


def _members(archive: Path, files: Sequence[str]) -> dict[str, bytes]:
    """Returns the contents of members of an archive, whatever folder they lie in."""
    found = {}
    with tarfile.open(archive, "r|gz") as members:
        for member in members:
            file = member.name.rpartition("/")[2]
            content = members.extractfile(member) if file in files and member.isfile() else None
            if content is not None:
                found[file] = _bounded(content.read(_MOST_BYTES + 1), archive / file)
    return found


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return _bounded(file.read(min(_MOST_BYTES + 1, os.fstat(file.fileno()).st_size)), path)


def _bounded(content: bytes, path: Path) -> bytes:
    if len(content) > _MOST_BYTES:
        raise DataError(f"{path}: is longer than the {_MOST_BYTES:,} bytes to expect")
    return content


def _split(batches: Iterable[tuple[Tensor, Tensor]], count: int, place: Path) -> ImageSplit:
    """Returns the images and labels of some batches.

    Raises:
        DataError: there are not as many as there must be.
    """
    pixels, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))  # (N, 3072), (N,)
    if len(pixels) != count:
        raise DataError(
            f"{place}: holds {len(pixels):,} images where there must be {count:,}; fetch it again"
        )
    return ImageSplit(pixels.reshape(-1, *SHAPE), labels)  # (N, 3, 32, 32)


def read_records(labels_before: int) -> Read:
    """Returns a reader of records: labels of a byte each, of which the last counts, then the pixels."""
    size = labels_before + PIXELS

    def read(content: bytes, name: str) -> tuple[Tensor, Tensor]:
        if not content or len(content) % size:
            raise DataError(f"{name}: is not a file of records of {size:,} bytes; fetch it again")
        records = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()).reshape(-1, size)
        return records[:, labels_before:], records[:, labels_before - 1].long()

    return read


def read_pickled(key: str) -> Read:
    """Returns a reader of pickled batches, which keep the labels under `key`."""

    def read(content: bytes, name: str) -> tuple[Tensor, Tensor]:
        pixels, labels = read_batch(content, key, PIXELS, name)
        return torch.from_numpy(pixels).reshape(-1, PIXELS), torch.tensor(labels)  # (N, 3072), (N,)

    return read


@register_source("cifar10")
class Cifar10(CifarSource):
    """Colour pictures of 10 kinds of things: 50,000 to train on, 10,000 to validate on."""

    name = "cifar10"
    checksums: ClassVar[dict[str, str]] = {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"}
    versions = (
        Version(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test_batch.bin",
            read_records(1),
        ),
        Version(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test_batch",
            read_pickled("labels"),
        ),
    )


@register_source("cifar100")
class Cifar100(CifarSource):
    """Colour pictures of 100 kinds of things: 50,000 to train on, 10,000 to validate on."""

    name = "cifar100"
    checksums: ClassVar[dict[str, str]] = {"cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8"}
    versions = (
        Version("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), "test.bin", read_records(2)),
        Version(
            "cifar-100-python", "cifar-100-python.tar.gz", ("train",), "test", read_pickled("fine_labels")
        ),
    )
