"""Images as the trainer takes them: uint8 until a batch is made.

ImageData ── train, validation ──▶ ImageSplit: images (N, C, H, W) uint8, labels (N,)
TrainingBatches(split, batch_size, seed)[step] ──▶ (B, C, H, W) float in [0, 1]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixcoder.models.autoencoder import ImageShape


@dataclass(frozen=True)
class ImageSplit:
    """Images (N, C, H, W) uint8 and, where there are any, their labels (N,) int64."""

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> ImageSplit:
        """The same split on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return ImageSplit(self.images.to(device), labels)


@dataclass(frozen=True)
class ImageData:
    """A data set: what to train on and what to validate on, both of one image shape."""

    name: str
    train: ImageSplit
    validation: ImageSplit

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    def to(self, device: torch.device) -> ImageData:
        """The same data on `device`."""
        return ImageData(self.name, self.train.to(device), self.validation.to(device))

    def content_hash(self) -> str:
        """SHA-256 (hex) over the shapes and bytes of all images: which data a result was made with."""
        digest = hashlib.sha256()
        for images in (self.train.images, self.validation.images):
            digest.update(str(tuple(images.shape)).encode())
            digest.update(images.cpu().contiguous().numpy().data.cast("B"))
        return digest.hexdigest()


def to_float(images: Tensor) -> Tensor:
    """uint8 images in 0 … 255 as float32 in [0, 1], same shape."""
    return images.float().div_(255)


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order (count,) int64 in which an epoch visits its images: a function of seed and epoch alone."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


class TrainingBatches:
    """The endless stream of training batches, addressed by step.

    Epoch follows epoch without a gap and every batch is full, so that batch `step` holds the images
    `step * batch_size` to `(step + 1) * batch_size` of the stream: nothing but the step is needed to go
    on where a run stopped.
    """

    def __init__(self, split: ImageSplit, batch_size: int, seed: int) -> None:
        self.images = split.images
        self.batch_size = batch_size
        self.seed = seed
        self._orders: dict[int, Tensor] = {}

    def __getitem__(self, step: int) -> Tensor:
        """Batch number `step`: (B, C, H, W) float32 in [0, 1]."""
        return to_float(self.images.index_select(0, self.indices(step)))

    def indices(self, step: int) -> Tensor:
        """Which images batch `step` holds: (B,) int64, on the device of the images."""
        start, count = step * self.batch_size, len(self.images)
        parts = []
        while (missing := (step + 1) * self.batch_size - start) > 0:
            epoch, offset = divmod(start, count)
            parts.append(self._order(epoch)[offset : offset + missing])
            start += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            order = epoch_order(len(self.images), self.seed, epoch).to(self.images.device)
            self._orders = {epoch: order}
        return self._orders[epoch]
