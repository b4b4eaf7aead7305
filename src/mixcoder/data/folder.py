"""Any folder of images, of any sizes: packed once, then cropped.

folder ─▶ image files by relative path ─▶ packed store (in the user's cache) ─▶ training, validation
└─ what cannot be used, with the reason ─▶ a CSV file beside the store
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from mixcoder.data.crops import CropSplit
from mixcoder.data.decode import Fit, ImageError, Pixels, decode_file
from mixcoder.data.images import ImageData
from mixcoder.data.listing import Listing, list_images
from mixcoder.data.pack_cache import describe_left_out, pack_into, pack_path
from mixcoder.data.progress import StartProgress, no_progress
from mixcoder.data.registry import DataSource, register_source
from mixcoder.data.store import ImageStore
from mixcoder.errors import ArgumentError, DataError

_LARGEST_EDGE = 4096

Side = tuple[ImageStore, Sequence[int]]
"""A store, and which of its images."""


@register_source("folder")
class Folder(DataSource):
    """Any folder of images with all its subfolders, of any sizes: `path=...`.

    JPEG, PNG, WebP, GIF, TIFF and BMP files are packed once into one file; training takes random crops,
    validation the middle of each image. Which images validate is decided by the hash of their path below
    the folder, so that an image stays on its side when others come or go.

    Args:
        path: the folder, or a pattern such as `photos/**/*.jpg`.
        train: in place of `path`, the folder or pattern of the training images,
        validation: and that of the validation images.
        crop_size: height and width of the crops.
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this longest edge, but no smaller than a crop; None leaves
            them as they are.
        validation_share: how much of `path` validates.
        horizontal_flips: mirrors half of the training crops.
    """

    def __init__(
        self,
        path: str | None = None,
        train: str | None = None,
        validation: str | None = None,
        crop_size: int = 96,
        channels: int = 3,
        longest_edge: int | None = 160,
        validation_share: float = 0.1,
        horizontal_flips: bool = False,
    ) -> None:
        self.places = _places(path, train, validation)
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

    @property
    def training_images(self) -> int:  # type: ignore[override]
        """How many there are; the images are packed first where they are not yet."""
        return len(self.load().train)

    def status(self) -> str:
        paths = [self._pack_path(place, list_images(place)) for place in self.places]
        return "ready" if all(path.exists() for path in paths) else "not packed yet"

    def prepare(self, progress: StartProgress = no_progress) -> str:
        stores = [self._store(place, progress) for place in self.places]
        return "; ".join(filter(None, map(describe_left_out, stores)))

    def load(self) -> ImageData:
        stores = [self._store(place) for place in self.places]
        if len(stores) == 1:
            training, validation = self._split(stores[0])
        else:
            training, validation = ((store, range(len(store))) for store in stores)
        left_out = {name: reason for store in stores for name, reason in store.left_out.items()}
        return ImageData(
            "folder",
            CropSplit.of(*training, self.crop, self.horizontal_flips),
            CropSplit.of(*validation, self.crop).centre_crops(),
            left_out,
        )

    def _split(self, store: ImageStore) -> tuple[Side, Side]:
        """Training and validation images of the one folder."""
        sides: tuple[list[int], list[int]] = ([], [])
        for row, name in enumerate(store.names):
            sides[_fraction(name) < self.validation_share].append(row)
        training, validation = sides
        if not (training and validation):
            raise DataError(
                f"{self.places[0]}: of {len(store):,} images, {len(training):,} would train and "
                f"{len(validation):,} validate; change validation_share, or name folders for train and "
                "validation"
            )
        return (store, training), (store, validation)

    def _store(self, place: str, progress: StartProgress = no_progress) -> ImageStore:
        listing = list_images(place)

        def decode(name: str) -> Pixels:
            if name in listing.refused:
                raise ImageError(listing.refused[name])
            return decode_file(listing.files[name], self.fit)

        path = self._pack_path(place, listing)
        report = no_progress if path.exists() else progress
        return pack_into(path, list(listing.files), decode, report(f"packing {place}", "images"))

    def _pack_path(self, place: str, listing: Listing) -> Path:
        identity = f"{Path(place).expanduser().absolute()} {astuple(self.fit)}"
        return pack_path(f"folder {Path(place).name}", identity, listing.fingerprint)


def _places(path: str | None, train: str | None, validation: str | None) -> list[str]:
    """The one folder, or those of training and validation.

    Raises:
        ArgumentError: neither is stated, or both are.
    """
    if path and not (train or validation):
        return [path]
    if train and validation and not path:
        return [train, validation]
    if path:
        raise ArgumentError("path", "stands alone; remove it, or both train and validation")
    if train or validation:
        missing = "validation" if train else "train"
        raise ArgumentError(missing, "is missing: train and validation go together")
    raise ArgumentError("path", "is missing: name a folder of images")


def _fraction(name: str) -> float:
    """A number in [0, 1) that belongs to a name, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) / 2**48
