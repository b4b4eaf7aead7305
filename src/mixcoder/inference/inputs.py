"""The images that a user names, as a stream that fits a model.

files, folders, patterns, data sources ─▶ names and how to read them ─read ahead─▶ Batch, Batch, …
                                                              └─ what cannot be read ─▶ left_out
"""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixcoder.data import SOURCES, DataSource, create_source
from mixcoder.data.read_ahead import map_ahead
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.data.store.listing import Listing, describe_passed_over, is_pattern, list_images
from mixcoder.errors import ArgumentError, DataError, did_you_mean, system_reason
from mixcoder.images.codec import Fit, ImageError, Pixels, decode_file
from mixcoder.images.shape import ImageShape
from mixcoder.inference.fitting import Shaping
from mixcoder.io.user_folders import expand_home
from mixcoder.text.sanitize import sanitize
from mixcoder.training.evaluation import safe_batch_size

Place = str | Path
"""A file, a folder, a pattern such as `photos/**/*.jpg`, or images of a data source: `digits`, those that
validate; `digits:train`; `digits:7`, the eighth that validates; `digits:train:7`."""

_CHUNK = 32
"""Images that a thread reads at a time: to hand over each alone takes longer than to read a small one."""
_SOURCE = re.compile(r"(?P<source>\w+)(?P<train>:train)?(?::(?P<index>\d{1,18}))?", re.ASCII)


@dataclass(frozen=True)
class Batch:
    """A few images.

    Attributes:
        names: of the images.
        images: (B, C, H, W) uint8.
    """

    names: list[str]
    images: Tensor


class Inputs:
    """The images at some places, in the order in which they are named; those of a folder by their path.

    Args:
        places: at least one.
        shape: what the images must be.
        shaping: how they become that.
        sources: data sources that are known already, by name.

    Attributes:
        left_out: files that could not be read so far, by name, and why.
        passed_over: files beside those of the places that are not taken for images, by name, and why.

    Raises:
        DataError: a place does not exist, or holds no image.
    """

    def __init__(
        self,
        places: Iterable[Place],
        shape: ImageShape,
        shaping: Shaping,
        sources: Mapping[str, DataSource] | None = None,
    ) -> None:
        if shape[0] not in (1, 3):
            raise DataError(f"the model takes images of {shape[0]} channels; files hold 1 or 3")
        self.shape = shape
        self.shaping = shaping
        self.left_out: dict[str, str] = {}
        self.passed_over: dict[str, str] = {}
        self._readers = [self._reader(str(place), sources or {}) for place in places]

    def __iter__(self) -> Iterator[Batch]:
        """All images, as many at a time as memory is sure to bear.

        Raises:
            DataError: an image is of another size, or none could be read.
        """
        names: list[str] = []
        images: list[Pixels] = []
        is_empty = True
        for name, pixels in self._images():
            names.append(name)
            images.append(pixels)
            if len(names) == safe_batch_size(self.shape):
                yield _batch(names, images)
                names, images, is_empty = [], [], False
        if names:
            yield _batch(names, images)
        elif is_empty:
            name, reason = next(iter(self.left_out.items()))
            raise DataError(f"none of {len(self.left_out):,} images can be used; {name}: {reason}")

    def note(self) -> str:
        """What could not be read so far, and what was passed over; empty where there is neither."""
        notes = (left_out_note(self.left_out), describe_passed_over(self.passed_over))
        return "; ".join(filter(None, notes))

    def warn(self) -> None:
        """Warns a caller in Python of what `note` says."""
        if note := self.note():
            warnings.warn(note, stacklevel=3)

    def _reader(self, place: str, sources: Mapping[str, DataSource]) -> _Reader:
        """What reads the images at a place; notes what it passes over."""
        fit = Fit(self.shape[0], longest_edge=None, shortest_edge=1)
        path = expand_home(place)
        if _is_dir(path) or (is_pattern(place) and not path.exists()):
            listing = list_images(place)
            self.passed_over |= {str(listing.root / name): why for name, why in listing.passed_over.items()}
            return _listed(listing, fit)
        if path.exists():
            return _file(place, path, fit)
        spec = _SOURCE.fullmatch(place)
        if spec and spec["source"] in SOURCES:
            data = (sources.get(spec["source"]) or create_source(spec["source"])).load()
            if not spec["index"]:
                self.left_out |= data.left_out
            return _of_source(spec, data)
        nearest = did_you_mean(place, SOURCES)
        raise DataError(f"{sanitize(place, 200)}: there is no such file, folder or data source{nearest}")

    def _images(self) -> Iterator[tuple[str, Pixels]]:
        """Names and pixels (C, H, W) of all that can be read."""
        items = chain.from_iterable(reader() for reader in self._readers)
        chunks = iter(lambda: list(islice(items, _CHUNK)), [])
        for name, outcome in chain.from_iterable(map_ahead(self._read_all, chunks)):
            if isinstance(outcome, ImageError):
                self.left_out[name] = str(outcome)
            else:
                yield name, outcome

    def _read_all(self, items: list[_Item]) -> list[tuple[str, Pixels | ImageError]]:
        return [self._read(item) for item in items]

    def _read(self, item: _Item) -> tuple[str, Pixels | ImageError]:
        name, read = item
        try:
            pixels = read()
        except ImageError as error:
            return name, error
        try:
            return name, self.shaping(pixels, self.shape)
        except DataError as error:
            raise DataError(f"{sanitize(name, 200)}: {error}") from None


def left_out_note(left_out: Mapping[str, str]) -> str:
    """A sentence on what could not be read; empty where everything could."""
    if not left_out:
        return ""
    name, reason = next(iter(left_out.items()))
    return f"{len(left_out):,} images left out; the first: {sanitize(name, 200)}: {reason}"


_Item = tuple[str, Callable[[], Pixels]]
"""The name of an image, and how to read it."""
_Reader = Callable[[], Iterable[_Item]]
"""All images at a place, from the first, whenever it is called."""


def _batch(names: list[str], images: Sequence[Pixels]) -> Batch:
    return Batch(names, torch.from_numpy(np.stack(images)))  # (B, C, H, W)


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long, or no name
        reason = system_reason(error) if isinstance(error, OSError) else error
        raise DataError(f"{sanitize(str(path), 200)}: cannot be read ({reason})") from error


def _file(name: str, path: Path, fit: Fit) -> _Reader:
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{sanitize(name, 200)}: is not a file")
    return lambda: [(name, partial(decode_file, path, fit))]


def _listed(listing: Listing, fit: Fit) -> _Reader:
    def read(name: str) -> Pixels:
        if name in listing.refused:
            raise ImageError(listing.refused[name])
        return decode_file(listing.files[name], fit)

    return lambda: ((str(path), partial(read, name)) for name, path in listing.files.items())


def _of_source(spec: re.Match[str], data: ImageData) -> _Reader:
    side = f"{spec['source']}{spec['train'] or ''}"
    split = data.train if spec["train"] else data.validation
    if not isinstance(split, ImageSplit):
        raise ArgumentError("images", f"{side} are random crops; name the files or the folder instead")
    chosen = [int(spec["index"])] if spec["index"] else range(len(split))
    if chosen[-1] >= len(split):
        raise ArgumentError("images", f"{spec[0]} is none of the {len(split):,} images of {side}")

    def pixels(index: int) -> Pixels:
        values: Pixels = split.images[index].numpy()  # (C, H, W)
        return values

    return lambda: ((f"{side}:{index}", partial(pixels, index)) for index in chosen)
