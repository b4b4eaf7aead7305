"""Arrays in a file of numpy: `data: {source: npz, path: mine.npz}`.

    .npz ─ arrays by their names ─▶ images, labels ─▶ ImageData
    .npy ─ one array ─────────────▶ images, of which a share validates

Of a file that somebody else made nothing is run: arrays of Python objects are refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from mixcoder.data.layouts import image_shape_of
from mixcoder.data.own_images import images
from mixcoder.data.source import DataSource, describe_soundness, register_source
from mixcoder.data.split import ImageData
from mixcoder.errors import ArgumentError, DataError, did_you_mean, first_line, is_out_of_memory
from mixcoder.io.user_folders import expand_home
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize

Arrays = Mapping[str, npt.NDArray[Any]]
"""Arrays by their names, read when they are asked for."""

_USUAL = {
    "train": ("train_images", "x_train", "X_train", "train", "images", "x", "X", "arr_0"),
    "labels": ("train_labels", "y_train", "labels", "y"),
    "validation": ("val_images", "x_val", "X_val", "validation", "test_images", "x_test", "X_test", "test"),
    "validation_labels": ("val_labels", "y_val", "validation_labels", "test_labels", "y_test"),
}
"""Names that others give to the arrays; the first that a file holds is taken."""


@register_source("npz")
class Npz(DataSource):
    """Arrays in a file of numpy, `.npz` or `.npy`: `path=...`.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W); uint8, bool, or floats in [0, 1], which become uint8.
    Arrays whose names are left out are found by their usual names, such as `x_train`, `y_train` and `x_test`.

    Args:
        path: of the file.
        train: name of the array of training images.
        validation: name of the array of validation images; without one, a share of the others validates.
        labels: name of the array of labels, whole numbers.
        validation_labels: name of the array of the labels of `validation`.
        validation_share: how much of `train` validates where there is no `validation`.
        image_shape: (C, H, W) of an image; `null` (None in Python) takes that of the file.
    """

    def __init__(
        self,
        path: str,
        train: str | None = None,
        validation: str | None = None,
        labels: str | None = None,
        validation_labels: str | None = None,
        validation_share: float = 0.1,
        image_shape: list[int] | None = None,
    ) -> None:
        self.path = expand_home(path)
        self.names = {
            "train": train,
            "validation": validation,
            "labels": labels,
            "validation_labels": validation_labels,
        }
        self.validation_share = validation_share
        self._stated_shape = image_shape

    @classmethod
    def located(cls, arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
        path = arguments.get("path")
        return {**arguments, "path": str(folder / expand_home(path))} if isinstance(path, str) else arguments

    @property
    def image_shape(self) -> ImageShape:  # type: ignore[override]
        """(C, H, W), as stated, or else as the head of the file says it."""
        if self._stated_shape is not None:
            channels, height, width = self._stated_shape
            return channels, height, width
        with _opened(self.path) as arrays:
            return image_shape_of(_sizes(arrays, self._name("train", arrays)), "train")

    @property
    def training_images(self) -> int:  # type: ignore[override]
        """As many as are left of the file's when some of them validate."""
        return len(self.load().train)

    def is_fetched(self) -> bool:
        return self.path.is_file()

    def status(self) -> str:
        return "ready" if self.path.is_file() else "not there"

    def load(self) -> ImageData:
        with _opened(self.path) as arrays:
            names = {key: self._name(key, arrays) for key in self.names}
            given: dict[str, Any] = {key: arrays[name] for key, name in names.items() if name}
            data = images(**given, validation_share=self.validation_share, name="npz")
        if self._stated_shape is not None and data.image_shape != self.image_shape:
            found = f"is {self.image_shape}, the images of {self.path} are {data.image_shape}"
            raise ArgumentError("image_shape", found)
        return data

    def verify(self) -> list[dict[str, str]]:
        """Reads the file whole."""
        return [{"file": str(self.path), "verdict": describe_soundness(self.load)}]

    def _name(self, key: str, arrays: Arrays) -> str:
        """Returns the name of the array that is meant by `key`; empty where there need be none and is none.

        Raises:
            ArgumentError: there is no array of the name that was stated, or none to train on.
        """
        stated = self.names[key]
        if stated is None:
            usual = next((name for name in _USUAL[key] if name in arrays), "")
            if usual or key != "train":
                return usual
            raise ArgumentError(
                "train", f"is missing: name an array of {self.path}{did_you_mean('', arrays)}"
            )
        if stated not in arrays:
            raise ArgumentError(key, f"{self.path} has no array '{stated}'{did_you_mean(stated, arrays)}")
        return stated


@contextmanager
def _opened(path: Path) -> Iterator[Arrays]:
    """Opens the arrays of a file by their names; the one of an `.npy` file is `train`.

    Raises:
        DataError: the file, or an array that is read meanwhile, is not there, is damaged or holds objects.
    """
    name = sanitize(str(path), 200)
    if not path.is_file():
        raise DataError(f"{name}: there is no such file")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            yield {"train": loaded} if isinstance(loaded, np.ndarray) else loaded
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error, MemoryError) as error:
        if isinstance(error, ArgumentError):
            raise
        reason = "it takes more memory than there is" if is_out_of_memory(error) else first_line(error)
        raise DataError(f"{name}: cannot be read ({sanitize(reason, 200)})") from error


def _sizes(arrays: Arrays, name: str) -> tuple[int, ...]:
    """Returns the shape of an array; of a packed one, its head alone is read.

    Raises:
        ValueError: it has no head.
    """
    if not (isinstance(arrays, NpzFile) and arrays.zip):
        return arrays[name].shape
    with arrays.zip.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        sizes, _, _ = read(file)
    return tuple(sizes)
