"""EMNIST: handwritten letters and digits of 28 x 28 pixels, in six selections.

    gzip.zip, or the files out of it ─▶ IDX, each image turned on its side ─▶ upright

Source: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters",
arXiv 1702.05373.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar, Literal
from zipfile import BadZipFile, ZipFile

from torch import Tensor

from mixcoder.data.source import describe_soundness, register_source
from mixcoder.data.sources.idx import parse_idx, read_idx
from mixcoder.data.sources.mnist import find_idx
from mixcoder.data.sources.published import PublishedSource
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import DataError, first_line

Part = Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"]

_ARCHIVE = "gzip.zip"
_ARCHIVES = (_ARCHIVE, "emnist.zip")
"""The published name, and that which other programs give it."""
_COUNTS: dict[str, tuple[int, int]] = {
    "balanced": (112_800, 18_800),
    "byclass": (697_932, 116_323),
    "bymerge": (697_932, 116_323),
    "letters": (124_800, 20_800),
    "digits": (240_000, 40_000),
    "mnist": (60_000, 10_000),
}
"""Training and validation images of each selection."""


@register_source("emnist")
class Emnist(PublishedSource):
    """Handwritten letters and digits in MNIST's format, set upright.

    Args:
        part: which selection: `balanced` (47 classes, as many images of each), `byclass` (62 classes),
            `bymerge` (47), `letters` (26, labels 1 to 26), `digits` or `mnist` (10).
    """

    name = "emnist"
    homes = ("EMNIST/raw",)
    mirrors = ("https://biometrics.nist.gov/cs_links/EMNIST",)
    checksums: ClassVar[dict[str, str]] = {_ARCHIVE: "58c8d27c78d21e728a6bc7b3cc06412e"}
    max_bytes = 2**30
    image_shape = (1, 28, 28)

    def __init__(self, part: Part = "balanced") -> None:
        self.part = part
        self.training_images = _COUNTS[part][0]

    def is_whole(self, folder: Path) -> bool:
        return _archive_in(folder) is not None or all(find_idx(folder, file) for file in self._shapes())

    def read(self, folder: Path) -> ImageData:
        images, labels, test_images, test_labels = (
            _read(folder, file, shape) for file, shape in self._shapes().items()
        )
        training = ImageSplit(_upright(images), labels.long())
        return ImageData(self.name, training, ImageSplit(_upright(test_images), test_labels.long()))

    def verify(self) -> list[dict[str, str]]:
        folder = self.found_folder()
        return [
            {
                "file": str(folder / file),
                "verdict": describe_soundness(partial(_read, folder, file, shape)),
            }
            for file, shape in self._shapes().items()
        ]

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the four files by name: images, labels; then those that validate."""
        training, validation = _COUNTS[self.part]
        return {
            f"emnist-{self.part}-train-images-idx3-ubyte": (training, 28, 28),
            f"emnist-{self.part}-train-labels-idx1-ubyte": (training,),
            f"emnist-{self.part}-test-images-idx3-ubyte": (validation, 28, 28),
            f"emnist-{self.part}-test-labels-idx1-ubyte": (validation,),
        }


def _upright(images: Tensor) -> Tensor:
    """Returns images (N, 28, 28) whose rows are columns as (N, 1, 28, 28) whose rows are rows."""
    return images.transpose(1, 2)[:, None].contiguous()  # (N, 1, 28, 28)


def _archive_in(folder: Path) -> Path | None:
    return next((path for path in (folder / name for name in _ARCHIVES) if path.is_file()), None)


def _read(folder: Path, file: str, shape: tuple[int, ...]) -> Tensor:
    """Returns the numbers of a file in a folder, or in the archive that lies there.

    Raises:
        DataError: it is damaged, or not in the archive.
    """
    path = find_idx(folder, file)
    if path is not None:
        return read_idx(path, shape)
    archive = _archive_in(folder)
    assert archive is not None
    name = f"{file}.gz"
    try:
        with ZipFile(archive) as members:
            [member] = [info for info in members.infolist() if info.filename.rpartition("/")[2] == name]
            with members.open(member) as content:
                packed = content.read(Emnist.max_bytes)
    except (OSError, BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: cannot be read ({first_line(error)}); fetch it again") from error
    except ValueError:  # none of that name, or several
        raise DataError(f"{archive}: does not hold {name}; fetch it again") from None
    return parse_idx(packed, shape, f"{archive}: {name}")
