"""Data sources whose images are of any size: packed once, then cropped.

images ─▶ packed store ─┬─ training rows ───▶ CropSplit: random crops, perhaps mirrored
(one or two)  └─ validation rows ─▶ ImageSplit: the middle of every image
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mixcoder.data.crops import CropSplit
from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.source import DataSource
from mixcoder.data.split import ImageData
from mixcoder.data.store.image_listing import describe_passed_over
from mixcoder.data.store.image_store import ImageStore
from mixcoder.data.store.pack_cache import describe_left_out
from mixcoder.errors import ArgumentError, DataError
from mixcoder.pixels.codec import Fit

_LARGEST_EDGE = 4096

Side = tuple[ImageStore, Sequence[int]]
"""A store, and which of its images."""


@dataclass(frozen=True)
class Packed:
    """A store of packed images, and the files beside them that were passed over.

    Attributes:
        store: the images.
        passed_over: files that were not taken for images, by name, and why.
    """

    store: ImageStore
    passed_over: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        """Returns what could not be used, and what was passed over; empty where there is neither."""
        notes = (describe_left_out(self.store), describe_passed_over(self.passed_over))
        return "; ".join(filter(None, notes))


class PackedSource(DataSource):
    """Images of any size. A subclass says which: in one store, to be divided, or in one for each side.

    Which images of one store validate is decided by the hash of their names, so that an image stays on its
    side when others come or go.

    Args:
        crop_size: height and width of the crops.
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this longest edge, but no smaller than a crop; `null` (None
            in Python) leaves them as they are.
        validation_share: how much of one store validates.
        horizontal_flips: mirrors half of the training crops.
    """

    def __init__(
        self,
        crop_size: int,
        channels: int,
        longest_edge: int | None,
        validation_share: float,
        horizontal_flips: bool,
    ) -> None:
        if not 1 <= crop_size <= _LARGEST_EDGE:
            raise ArgumentError("crop_size", f"must be from 1 to {_LARGEST_EDGE}, not {crop_size}")
        if channels not in (1, 3):
            raise ArgumentError("channels", f"must be 1 for grey or 3 for RGB, not {channels}")
        if longest_edge is not None and not 1 <= longest_edge <= _LARGEST_EDGE:
            raise ArgumentError("longest_edge", f"must be from 1 to {_LARGEST_EDGE}, not {longest_edge}")
        if not 0 < validation_share < 1:
            raise ArgumentError("validation_share", f"must lie between 0 and 1, not {validation_share}")
        self.fit = Fit(channels, longest_edge, crop_size)
        self.crop = (crop_size, crop_size)
        self.validation_share = validation_share
        self.horizontal_flips = horizontal_flips
        self.image_shape = (channels, *self.crop)

    @abstractmethod
    def packs(self, progress: StartTask) -> list[Packed]:
        """Returns all images, or those to train on and those that validate.

        Packs them first where they are not yet.
        """

    @property
    def training_images(self) -> int:  # type: ignore[override]
        """How many there are; the images are packed first where they are not yet."""
        return len(self.load().train)

    def prepare(self, progress: StartTask = no_progress) -> str:
        return "; ".join(filter(None, map(Packed.describe, self.packs(progress))))

    def load(self) -> ImageData:
        packs = self.packs(no_progress)
        if len(packs) == 1:
            training, validation = self._divided(packs[0].store)
        else:
            training, validation = ((pack.store, range(len(pack.store))) for pack in packs)
        sides = ("",) if len(packs) == 1 else ("train/", "validation/")  # both may hold the same names
        left_out = {
            side + name: reason
            for side, pack in zip(sides, packs, strict=True)
            for name, reason in {**pack.store.left_out, **pack.passed_over}.items()
        }
        return ImageData(
            type(self).__name__.lower(),
            CropSplit.of(*training, self.crop, self.horizontal_flips),
            CropSplit.of(*validation, self.crop).centre_crops(),
            left_out,
        )

    def _divided(self, store: ImageStore) -> tuple[Side, Side]:
        """Returns training and validation images of the one store."""
        sides: tuple[list[int], list[int]] = ([], [])
        for row, name in enumerate(store.names):
            sides[_fraction(name) < self.validation_share].append(row)
        training, validation = sides
        if not (training and validation):
            raise DataError(
                f"of {len(store):,} images, {len(training):,} would train and {len(validation):,} validate; "
                "change validation_share, or state train and validation apart"
            )
        return (store, training), (store, validation)


def _fraction(name: str) -> float:
    """Returns a number in [0, 1) that belongs to a name, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) / 2**48
