"""The images that a user names, as a stream of batches that fit a model.

    files, folders, patterns, data sources, images in memory ─▶ names and where to read them ─┬▶ ImageBatch, …
                                                                                              └▶ left_out

Images are read ahead by a few threads.
"""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixcoder.data import SOURCES, DataSource, create_source
from mixcoder.data.read_ahead import map_ahead
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.data.store.image_listing import describe_passed_over, is_pattern, list_images
from mixcoder.errors import ArgumentError, DataError, did_you_mean, system_reason
from mixcoder.inference.resizing import to_shape
from mixcoder.io.user_folders import expand_home
from mixcoder.pixels.codec import Fit, ImageError, Pixels, decode_file
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize
from mixcoder.training.evaluation import safe_batch_size

Place = str | Path
"""A file, a folder, a pattern such as `photos/**/*.jpg`, or images of a data source: `digits`, those that
validate; `digits:train`; `digits:7`, the eighth that validates; `digits:train:7`."""

Images = Any
"""A `Place`; or images in memory: an array, a tensor, PIL images, a data set of another library, `ImageData`;
or a list of any of these."""

_CHUNK = 32
"""Images that a thread reads at a time: a hand-over for each image takes longer than to read a small one."""
_SOURCE = re.compile(r"(?P<source>\w+)(?P<train>:train)?(?::(?P<index>\d{1,18}))?", re.ASCII)


@dataclass(frozen=True)
class ImageBatch:
    """A few images.

    Attributes:
        names: of the images.
        images: (B, C, H, W) uint8.
    """

    names: list[str]
    images: Tensor


@dataclass(frozen=True, slots=True)
class _ImageFile:
    """An image in a file.

    Attributes:
        name: as a user sees it.
        path: of the file.
        problem: why the file cannot be used, where that is known before it is read; else empty.
    """

    name: str
    path: Path
    problem: str = ""

    def read(self, fit: Fit) -> Pixels:
        """Returns the pixels (c, h, w) uint8.

        Raises:
            ImageError: the file cannot be used.
        """
        if self.problem:
            raise ImageError(self.problem)
        return decode_file(self.path, fit)


@dataclass(frozen=True, slots=True)
class _LoadedImage:
    """An image in memory, such as one of a data source: a name, and the index among others."""

    name: str
    images: Tensor
    index: int

    def read(self, fit: Fit) -> Pixels:
        """Returns the pixels (c, h, w) uint8."""
        pixels: Pixels = self.images[self.index].numpy()
        return pixels


_NamedImage = _ImageFile | _LoadedImage


class ImageStream:
    """A stream of the images at some places, in the order of the places; those of a folder by their path.

    Args:
        places: at least one; images in memory are (N, c, h, w) uint8.
        shape: the shape of the model's images.
        fit: resizes and crops images of another size.
        sources: data sources that are known already, by name.

    Attributes:
        left_out: files that could not be read so far, by name, and why.
        passed_over: files at the places that are not taken for images, by name, and why.

    Raises:
        DataError: a place does not exist, or holds no image.
    """

    def __init__(
        self,
        places: Iterable[Place | Tensor],
        shape: ImageShape,
        fit: bool = False,
        sources: Mapping[str, DataSource] | None = None,
    ) -> None:
        self.shape = shape
        self.fit = fit
        self.left_out: dict[str, str] = {}
        self.passed_over: dict[str, str] = {}
        self._codec_fit = Fit(shape[0], longest_edge=None, shortest_edge=1)
        self._images: list[_NamedImage] = []
        for place in places:
            if isinstance(place, Tensor):
                self._images += _loaded_images(place, len(self._images))
            else:
                self._images += self._images_at(str(place), sources or {})

    def __iter__(self) -> Iterator[ImageBatch]:
        """Yields all images, in batches that are sure to fit into memory.

        Raises:
            DataError: an image is of another size, or none could be read.
        """
        readable = self._readable_images()
        is_empty = True
        while chunk := list(islice(readable, safe_batch_size(self.shape))):
            is_empty = False
            names, pixels = zip(*chunk, strict=True)
            yield ImageBatch(list(names), torch.from_numpy(np.stack(pixels)))  # (B, C, H, W)
        if is_empty:
            name, reason = next(iter(self.left_out.items()))
            raise DataError(f"none of {len(self.left_out):,} images can be used; {name}: {reason}")

    def note(self) -> str:
        """Returns a sentence on what could not be read so far and what was passed over, or an empty one."""
        notes = (describe_left_out(self.left_out), describe_passed_over(self.passed_over))
        return "; ".join(filter(None, notes))

    def warn(self) -> None:
        """Warns a caller in Python of what `note` says."""
        if note := self.note():
            warnings.warn(note, stacklevel=3)

    def _images_at(self, place: str, sources: Mapping[str, DataSource]) -> list[_NamedImage]:
        """Returns the images at a place; notes files that are passed over."""
        if self.shape[0] not in (1, 3):
            raise DataError(f"the model takes images of {self.shape[0]} channels; files hold 1 or 3")
        path = expand_home(place)
        if _is_dir(path) or (is_pattern(place) and not path.exists()):
            listing = list_images(place)
            self.passed_over |= {str(listing.root / name): why for name, why in listing.passed_over.items()}
            return [
                _ImageFile(str(path), path, listing.refused.get(name, ""))
                for name, path in listing.files.items()
            ]
        if path.exists():
            if not stat.S_ISREG(path.stat().st_mode):
                raise DataError(f"{sanitize(place, 200)}: is not a file")
            return [_ImageFile(place, path)]
        spec = _SOURCE.fullmatch(place)
        if spec and spec["source"] in SOURCES:
            data = (sources.get(spec["source"]) or create_source(spec["source"])).load()
            if not spec["index"]:
                self.left_out |= data.left_out
            return _source_images(spec, data)
        nearest = did_you_mean(place, SOURCES)
        raise DataError(f"{sanitize(place, 200)}: there is no such file, folder or data source{nearest}")

    def _readable_images(self) -> Iterator[tuple[str, Pixels]]:
        """Yields the names and pixels (C, H, W) of all images that can be read; notes the others."""
        starts = range(0, len(self._images), _CHUNK)
        chunks = (self._images[start : start + _CHUNK] for start in starts)
        for name, outcome in chain.from_iterable(map_ahead(self._read_all, chunks)):
            if isinstance(outcome, ImageError):
                self.left_out[name] = str(outcome)
            else:
                yield name, outcome

    def _read_all(self, images: list[_NamedImage]) -> list[tuple[str, Pixels | ImageError]]:
        return [(image.name, self._read(image)) for image in images]

    def _read(self, image: _NamedImage) -> Pixels | ImageError:
        try:
            pixels = image.read(self._codec_fit)
        except ImageError as error:
            return error
        try:
            return to_shape(pixels, self.shape, self.fit)
        except DataError as error:
            raise DataError(f"{sanitize(image.name, 200)}: {error}") from None


def describe_left_out(left_out: Mapping[str, str]) -> str:
    """Returns a sentence on what could not be read; an empty one where everything could."""
    if not left_out:
        return ""
    name, reason = next(iter(left_out.items()))
    return f"{len(left_out):,} images left out; the first: {sanitize(name, 200)}: {reason}"


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or no name
        reason = system_reason(error) if isinstance(error, OSError) else error
        raise DataError(f"{sanitize(str(path), 200)}: cannot be read ({reason})") from error


def _source_images(spec: re.Match[str], data: ImageData) -> list[_NamedImage]:
    """Returns the images of a data source that a place such as `digits:train:7` names."""
    side = f"{spec['source']}{spec['train'] or ''}"
    split = data.train if spec["train"] else data.validation
    if not isinstance(split, ImageSplit):
        raise ArgumentError("images", f"{side} are random crops; name the files or the folder instead")
    indices = [int(spec["index"])] if spec["index"] else range(len(split))
    if indices[-1] >= len(split):
        raise ArgumentError("images", f"{spec[0]} is none of the {len(split):,} images of {side}")
    return [_LoadedImage(f"{side}:{index}", split.images, index) for index in indices]


def _loaded_images(images: Tensor, before: int) -> list[_LoadedImage]:
    """Returns images (N, c, h, w) in memory, numbered on from those before them."""
    return [_LoadedImage(f"images:{before + index}", images, index) for index in range(len(images))]
