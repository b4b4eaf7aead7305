"""Any folder of images.

folder ─▶ image files by relative path ─▶ packed store, in the user's cache
└─ what cannot be used, with the reason ─▶ a CSV file beside the store
"""

from __future__ import annotations

import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.source import register_source
from mixcoder.data.sources.packed import Packed, PackedSource
from mixcoder.data.store.image_listing import Listing, list_images
from mixcoder.data.store.pack_cache import pack_into, pack_path
from mixcoder.errors import ArgumentError
from mixcoder.io.user_folders import expand_home
from mixcoder.pixels.codec import ImageError, Pixels, decode_file

_PATHS = ("path", "train", "validation")


@register_source("folder")
class Folder(PackedSource):
    """Any folder of images with all its subfolders, of any sizes: `path=...`.

    JPEG, PNG, WebP, AVIF, GIF, TIFF, BMP and PNM files are packed once into one file; training takes random
    crops, validation the middle of each image. Which images validate is decided by the hash of their path
    below the folder. Files that end otherwise, and linked folders, are counted and told.

    Args:
        path: the folder, or a pattern such as `photos/**/*.jpg`.
        train: in place of `path`, the folder or pattern of the training images.
        validation: that of the validation images; goes with `train`.
        crop_size: height and width of the crops.
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this longest edge, but no smaller than a crop; `null` (None
            in Python) leaves them as they are.
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
        super().__init__(crop_size, channels, longest_edge, validation_share, horizontal_flips)
        self.places = _places(path, train, validation)

    @classmethod
    def located(cls, arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
        return {
            key: below(folder, value) if key in _PATHS and isinstance(value, str) else value
            for key, value in arguments.items()
        }

    def status(self) -> str:
        paths = [self._pack_path(place, list_images(place)) for place in self.places]
        return "ready" if all(path.exists() for path in paths) else "not packed yet"

    def packs(self, progress: StartTask) -> list[Packed]:
        return [self._pack(place, progress) for place in self.places]

    def _pack(self, place: str, progress: StartTask) -> Packed:
        listing = list_images(place)

        def decode(name: str) -> Pixels:
            if name in listing.refused:
                raise ImageError(listing.refused[name])
            return decode_file(listing.files[name], self.fit)

        path = self._pack_path(place, listing)
        report = no_progress if path.exists() else progress
        store = pack_into(path, list(listing.files), decode, report(f"packing {place}", "images"))
        return Packed(store, listing.passed_over)

    def _pack_path(self, place: str, listing: Listing) -> Path:
        whole = os.path.abspath(expand_home(place))  # noqa: PTH100 - the same place with and without ".."
        identity = f"{whole} {astuple(self.fit)}"
        return pack_path(f"folder {Path(place).name}", identity, listing.fingerprint)


def below(folder: Path, place: str) -> str:
    """Returns a path or a pattern as it is to be found from here, once a relative one begins in `folder`."""
    is_whole = Path(place).is_absolute() or place.startswith("~")
    return place if is_whole or folder == Path() else os.path.join(folder, place)  # noqa: PTH118 - patterns


def _places(path: str | None, train: str | None, validation: str | None) -> list[str]:
    """Returns the one folder, or those of training and validation.

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
