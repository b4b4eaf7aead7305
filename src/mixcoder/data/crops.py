"""Random crops of packed images, a whole batch in one indexing operation.

ImageStore ─ rows ─▶ CropSplit ─┬─ batch(indices (B,), draws (B, 3)) ─▶ (B, C, h, w) uint8
                                └─ centre_crops() ─▶ ImageSplit: (N, C, h, w) uint8

A crop of an image (C, H, W) is C x h pieces of w neighbouring bytes. The pieces of all crops of a batch
are rows of one overlapping view of the pixels, (bytes - w + 1, w), so that one `index_select` fetches them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from mixcoder.data.split import ImageSplit
from mixcoder.data.store.image_store import ImageStore
from mixcoder.errors import DataError
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize

_GPU_SHARE = 0.5
"""The pixels go to the GPU when they take no more than this share of its free memory."""
_CENTRE_BATCH = 256


@dataclass(frozen=True)
class CropSplit:
    """A split of crops of images of different sizes, taken at random places, perhaps mirrored.

    Attributes:
        pixels: (bytes,) uint8, image after image, each (C, H, W).
        offsets: (N,) int64, where in `pixels` each image begins.
        sizes: (N, 2) int64, height and width of each image; at least those of a crop.
        image_shape: (C, h, w) of a crop.
        horizontal_flips: whether half of the crops are mirrored.
        source: the checksum of the store that the pixels belong to.
        labels: (N,) int64, where there are any.
        target: the device that batches are made for; None for that of the pixels.
    """

    draws: ClassVar[int] = 3

    pixels: Tensor
    offsets: Tensor
    sizes: Tensor
    image_shape: ImageShape
    horizontal_flips: bool
    source: str
    labels: Tensor | None = None
    target: torch.device | None = None

    @classmethod
    def of(
        cls, store: ImageStore, rows: Sequence[int], crop: tuple[int, int], horizontal_flips: bool = False
    ) -> CropSplit:
        """Returns crops of height and width `crop` of the store's images number `rows`.

        Raises:
            DataError: an image is smaller than a crop.
        """
        chosen = torch.tensor(rows, dtype=torch.int64)
        sizes = store.sizes[chosen]
        for row in chosen[(sizes < torch.tensor(crop)).any(1)].tolist():
            height, width = store.sizes[row].tolist()
            name = sanitize(store.names[row], 100)
            raise DataError(f"{store.path}: {name} is {height} x {width} pixels, smaller than a crop")
        return cls(
            store.pixels,
            store.offsets[chosen],
            sizes,
            (store.channels, *crop),
            horizontal_flips,
            store.sha256,
            None if store.labels is None else store.labels[chosen],
        )

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.pixels.device

    def to(self, device: torch.device) -> CropSplit:
        """Returns the same split with its pixels on `device` where they fit, else its batches alone."""
        if device == self.device:
            return self
        if device.type == "cuda" and self.pixels.numel() > _GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
            return replace(self, target=device)
        return replace(
            self,
            pixels=self.pixels.to(device),
            offsets=self.offsets.to(device),
            sizes=self.sizes.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            target=None,
        )

    def batch(self, indices: Tensor, draws: Tensor) -> Tensor:
        """Returns the crops (B, C, h, w) of the images `indices` (B,).

        Args:
            indices: int64, on the device of the pixels.
            draws: (B, 3) in [0, 1): how far down, how far to the right, and whether mirrored.
        """
        _, height, width = self.image_shape
        rows, columns = self.sizes[indices].unbind(1)  # (B,), (B,)
        top = (draws[:, 0] * (rows - height + 1)).long()  # (B,)
        left = (draws[:, 1] * (columns - width + 1)).long()  # (B,)
        crops = self._crops(indices, top, left)
        if self.horizontal_flips:
            is_mirrored = (draws[:, 2] < 0.5)[:, None, None, None]  # (B, 1, 1, 1)
            crops = torch.where(is_mirrored, crops.flip(3), crops)
        return crops if self.target is None else crops.to(self.target, non_blocking=True)

    def centre_crops(self) -> ImageSplit:
        """Returns the middle of every image."""
        _, height, width = self.image_shape
        batches = []
        for indices in torch.split(torch.arange(len(self), device=self.device), _CENTRE_BATCH):
            rows, columns = self.sizes[indices].unbind(1)  # (B,), (B,)
            batches.append(self._crops(indices, (rows - height) // 2, (columns - width) // 2))
        return ImageSplit(torch.cat(batches), self.labels)

    def hold_out(self, indices: Tensor) -> tuple[CropSplit, ImageSplit]:
        """Returns the crops of all images but those at `indices` (N,), and the middle of those."""
        is_kept = torch.ones(len(self), dtype=torch.bool, device=self.device)
        is_kept[indices.to(self.device)] = False
        return self.chosen(is_kept), self.chosen(~is_kept).centre_crops()

    def chosen(self, is_chosen: Tensor) -> CropSplit:
        """Returns crops of the images where `is_chosen` (N,) bool is true; labels go along."""
        labels = None if self.labels is None else self.labels[is_chosen]
        return replace(self, offsets=self.offsets[is_chosen], sizes=self.sizes[is_chosen], labels=labels)

    def identity(self) -> bytes:
        """Returns checksums of the pixels and of the crops' bounds."""
        chosen = hashlib.sha256(self.offsets.cpu().numpy().tobytes()).hexdigest()
        flips = "mirrored" if self.horizontal_flips else "upright"
        return f"{self.source} {chosen} {self.image_shape} {flips}".encode()

    def _crops(self, indices: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Returns the crops (B, C, h, w) whose upper left corners are at `top` (B,), `left` (B,)."""
        channels, height, width = self.image_shape
        rows, columns = self.sizes[indices].unbind(1)  # (B,), (B,)
        corner = self.offsets[indices] + top * columns + left  # (B,)
        plane = (
            torch.arange(channels, device=self.device)[:, None] * (rows * columns)[:, None, None]
        )  # (B, C, 1)
        line = torch.arange(height, device=self.device) * columns[:, None, None]  # (B, 1, h)
        starts = corner[:, None, None] + plane + line  # (B, C, h)
        pieces = self.pixels.unfold(0, width, 1)  # (bytes - w + 1, w)
        return pieces.index_select(0, starts.flatten()).reshape(-1, channels, height, width)  # (B, C, h, w)
