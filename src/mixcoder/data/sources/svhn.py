"""SVHN: house numbers, cropped to colour pictures of 32 x 32 pixels, in two files of Matlab.

Source: Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from mixcoder.data.source import describe_soundness, register_source
from mixcoder.data.sources.published import PublishedSource
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import DataError, first_line
from mixcoder.text.sanitize import sanitize

_TRAINING, _VALIDATION = "train_32x32.mat", "test_32x32.mat"
_COUNTS = {_TRAINING: 73_257, _VALIDATION: 26_032}


@register_source("svhn")
class Svhn(PublishedSource):
    """House numbers in colour: 73,257 + 26,032 of 32 x 32. Needs `pip install 'mixcoder[svhn]'`."""

    name = "svhn"
    homes = (".", "SVHN")
    mirrors = ("https://ufldl.stanford.edu/housenumbers",)
    checksums: ClassVar[dict[str, str]] = {
        _TRAINING: "e26dedcc434d2e4c54c9b2d4a06d8373",
        _VALIDATION: "eb5a983be6a315427106f1b164d9cef3",
    }
    max_bytes = 256 * 2**20
    image_shape = (3, 32, 32)
    training_images = _COUNTS[_TRAINING]

    def is_whole(self, folder: Path) -> bool:
        return all((folder / file).is_file() for file in _COUNTS)

    def read(self, folder: Path) -> ImageData:
        return ImageData(self.name, _read(folder / _TRAINING), _read(folder / _VALIDATION))

    def verify(self) -> list[dict[str, str]]:
        folder = self.found_folder()
        paths = [folder / file for file in _COUNTS]
        return [{"file": str(path), "verdict": describe_soundness(partial(_read, path))} for path in paths]


def _read(path: Path) -> ImageSplit:
    """Returns the images and labels of a file; the label 10 stands for a zero.

    Raises:
        DataError: the file is damaged, or scipy is not installed.
    """
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError:
        raise DataError("source svhn needs another package: pip install 'mixcoder[svhn]'") from None
    try:
        arrays: dict[str, Any] = loadmat(path, variable_names=["X", "y"])
        pixels, labels = np.asarray(arrays["X"]), np.asarray(arrays["y"])
    except Exception as error:  # of a reader that raises anything for a damaged file
        reason = sanitize(first_line(error), 100)
        raise DataError(f"{path}: cannot be read ({reason}); fetch it again") from error
    count = _COUNTS[path.name]
    if pixels.shape != (32, 32, 3, count) or pixels.dtype != np.uint8 or labels.size != count:
        raise DataError(f"{path}: is not a file of {count:,} images of 32 x 32 pixels; fetch it again")
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))  # (N, 3, 32, 32)
    return ImageSplit(images, torch.from_numpy(labels.astype(np.int64).reshape(-1) % 10))
