"""Images as training takes them: uint8 until a batch is made.

ImageData ─┬─ train ──────▶ Split: what batches are taken from (ImageSplit, CropSplit)
           └─ validation ─▶ ImageSplit: images (N, C, H, W) uint8, labels (N,)
TrainingBatches(split, batch_size, seed)[step] ──▶ (B, C, H, W) uint8
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mixcoder.device import resolve_device
from mixcoder.errors import ArgumentError, describe_type
from mixcoder.pixels.shape import ImageShape


@runtime_checkable
class Split(Protocol):
    """A split of images to take batches from; within a batch all have one shape.

    Attributes:
        draws: how many random numbers it takes to make an image of a batch, such as where to crop.
    """

    draws: ClassVar[int]

    def __len__(self) -> int:
        """Returns how many images there are."""

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W) of the images of a batch."""

    @property
    def device(self) -> torch.device:
        """Where `batch` wants its arguments."""

    @property
    def labels(self) -> Tensor | None:
        """(N,) int64, where there are any."""

    def to(self, device: torch.device) -> Self:
        """Returns the same split, its batches made for `device`."""

    def batch(self, indices: Tensor, draws: Tensor) -> Tensor:
        """Returns the images (B, C, H, W) uint8 at `indices` (B,), made with `draws` (B, k) in [0, 1)."""

    def identity(self) -> bytes:
        """Returns bytes that are the same for the same images alone."""


@dataclass(frozen=True)
class ImageSplit:
    """A split of images (N, C, H, W) uint8, N at least 1, and perhaps their labels (N,) int64.

    Raises:
        ArgumentError: they are others; says what would make them right.
    """

    draws: ClassVar[int] = 0

    images: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        _check_images(self.images)
        if self.labels is not None:
            _check_labels(self.labels, self.images)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def to(self, device: torch.device) -> ImageSplit:
        """Returns the same split on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return ImageSplit(self.images.to(device), labels)

    def batch(self, indices: Tensor, draws: Tensor) -> Tensor:
        """Returns the images (B, C, H, W) at `indices` (B,)."""
        return self.images.index_select(0, indices)

    def hold_out(self, indices: Tensor) -> tuple[ImageSplit, ImageSplit]:
        """Returns the images but those at `indices` (N,), and those; labels go along."""
        is_kept = torch.ones(len(self), dtype=torch.bool, device=self.device)
        is_kept[indices.to(self.device)] = False
        return self.chosen(is_kept), self.chosen(~is_kept)

    def chosen(self, is_chosen: Tensor) -> ImageSplit:
        """Returns the images where `is_chosen` (N,) bool is true; labels go along."""
        labels = None if self.labels is None else self.labels[is_chosen]
        return ImageSplit(self.images[is_chosen], labels)

    def identity(self) -> bytes:
        """Returns the shape and the pixels."""
        shape = str(tuple(self.images.shape)).encode()
        return shape + self.images.cpu().contiguous().numpy().tobytes()


@dataclass(frozen=True)
class ImageData:
    """A data set: what to train on and what to validate on, both of one image shape.

    Attributes:
        name: of the data source.
        train: what batches are taken from.
        validation: images as they are.
        left_out: files that could not be used, by name, and why.
        made_as: the name and the arguments that `load_data` made it of; None where it did not.

    Raises:
        ArgumentError: these are no splits, or they do not fit each other.
    """

    name: str
    train: Split
    validation: ImageSplit
    left_out: Mapping[str, str] = field(default_factory=dict)
    made_as: tuple[str, Mapping[str, Any]] | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError("name", f"must be a text, got {describe_type(self.name)}")
        for name, split, kind in (("train", self.train, Split), ("validation", self.validation, ImageSplit)):
            if not isinstance(split, kind):
                raise ArgumentError(
                    name,
                    f"must be a mixcoder.ImageSplit, got {describe_type(split)}; ImageSplit(images) is one",
                )
        _check_fit(self.train, self.validation)

    @property
    def image_shape(self) -> ImageShape:
        """(C, H, W)."""
        return self.train.image_shape

    def to(self, device: torch.device | str) -> ImageData:
        """Returns the same data for `device`.

        Raises:
            ArgumentError: there is no such device here.
        """
        device = resolve_device(device)
        moved = replace(self, train=self.train.to(device), validation=self.validation.to(device))
        return moved if self.made_as is None else moved.known_as(*self.made_as)

    def known_as(self, source: str, arguments: Mapping[str, Any]) -> ImageData:
        """Returns the same data, known to be what a data source makes of some arguments."""
        known = replace(self)
        object.__setattr__(known, "made_as", (source, dict(arguments)))
        return known

    def content_hash(self) -> str:
        """Returns the SHA-256 (hex) over all images: which data a result was made with."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation):
            digest.update(split.identity())
        return digest.hexdigest()


def _check_fit(train: Split, validation: ImageSplit) -> None:
    """Checks that there are training images, of the shape and device of the validation images."""
    if not len(train):
        raise ArgumentError("train", "holds no images")
    if train.image_shape != validation.image_shape:
        raise ArgumentError(
            "validation",
            f"its images are {validation.image_shape}, those to train on {train.image_shape}; "
            "all must be of one shape (C, H, W)",
        )
    if isinstance(train, ImageSplit) and train.device != validation.device:
        raise ArgumentError(
            "validation",
            f"its images are on {validation.device}, those to train on are on {train.device}; "
            "bring both to one device with split.to(device)",
        )


def _check_images(images: object) -> None:
    """Checks that images are (N, C, H, W) uint8 and hold pixels.

    Raises:
        ArgumentError: says what would make them right.
    """
    if not isinstance(images, Tensor):
        array = "torch.from_numpy(images.astype('uint8')) makes one of an array of 0 … 255"
        raise ArgumentError("", f"images must be a torch.Tensor, got {describe_type(images)}; {array}")
    if images.dtype != torch.uint8:
        raise ArgumentError(
            "", f"images must be uint8 in 0 … 255, got {images.dtype}; {_to_bytes_hint(images)}"
        )
    shape = tuple(images.shape)
    if images.ndim != 4 or _is_channels_last(images.shape):
        hint = "images[:, None]" if images.ndim == 3 else "images.permute(0, 3, 1, 2)"
        hint = f"; did you mean {hint}?" if images.ndim in (3, 4) else ""
        raise ArgumentError("", f"images must have shape (N, C, H, W), got {shape}{hint}")
    if not images.numel():
        raise ArgumentError("", f"images hold no pixels: their shape is {shape}")
    if images.layout != torch.strided or images.is_meta:
        raise ArgumentError(
            "", f"images must be dense pixels in memory, got {images.layout} on {images.device}"
        )


def _to_bytes_hint(images: Tensor) -> str:
    """Returns what makes uint8 in 0 … 255 of other numbers, as they are usually meant."""
    if images.is_floating_point():
        return "(images * 255).round().to(torch.uint8)"
    if images.dtype == torch.bool:
        return "images.to(torch.uint8) * 255"
    return "bring them to 0 … 255, then images.to(torch.uint8)"


def _is_channels_last(shape: torch.Size) -> bool:
    """Returns whether (N, H, W, C) is likelier than (N, C, H, W): colours, or one grey value, come last."""
    _, height, width, channels = shape
    return channels in (1, 3) and height > 4 and width > 4 and (channels == 3 or height == width)


def _check_labels(labels: object, images: Tensor) -> None:
    """Checks that labels are (N,) int64, as many as the images.

    Raises:
        ArgumentError: says what would make them right.
    """
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        made = "labels.long()" if isinstance(labels, Tensor) else "torch.tensor(list(labels))"
        raise ArgumentError("", f"labels must be int64 (N,), got {describe_type(labels)}; {made}")
    if tuple(labels.shape) != (len(images),):
        raise ArgumentError("", f"labels must have shape ({len(images)},), got {tuple(labels.shape)}")
    if labels.device != images.device:
        raise ArgumentError("", f"labels are on {labels.device}, their images on {images.device}")


def to_float(images: Tensor) -> Tensor:
    """Returns uint8 images in 0 … 255 as float32 in [0, 1], same shape."""
    return images.float() / 255


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """Returns the order (count,) int64 of an epoch's images: a function of seed and epoch alone."""
    return torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(count))


def epoch_draws(count: int, draws: int, seed: int, epoch: int) -> Tensor:
    """Returns random numbers (count, draws) float64 in [0, 1) for the images of an epoch, in its order.

    As the order, they are a function of seed and epoch alone.
    """
    return torch.from_numpy(np.random.default_rng([seed, epoch, 1]).random((count, draws)))


class TrainingBatches:
    """The endless stream of training batches, addressed by step.

    Epoch follows epoch without a gap and every batch is full, so that batch `step` holds the images
    `step * batch_size` to `(step + 1) * batch_size` of the stream: nothing but the step is needed to go
    on where a run stopped.

    Args:
        split: what batches are taken from.
        batch_size: images of a batch.
        seed: of the order and the draws.
        shard: the place in a batch of the images that are made; the others are left to other processes.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, shard: slice | None = None) -> None:
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.shard = shard or slice(0, batch_size)
        self._epochs: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, step: int) -> Tensor:
        """Returns the shard of batch number `step`: (B, C, H, W) uint8."""
        first = step * self.batch_size
        return self.split.batch(*self._choice(first + self.shard.start, first + self.shard.stop))

    def indices(self, step: int) -> Tensor:
        """Returns which images batch `step` holds: (B,) int64, on the device of the split."""
        first = step * self.batch_size
        return self._choice(first, first + self.batch_size)[0]

    def _choice(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Returns the indices (B,) and the draws (B, k) of the images `start` to `stop` of the stream."""
        count = len(self.split)
        pieces = []
        while start < stop:
            epoch, offset = divmod(start, count)
            order, draws = self._epoch(epoch)
            place = slice(offset, offset + stop - start)
            pieces.append((order[place], draws[place]))
            start += len(pieces[-1][0])
        if len(pieces) == 1:
            return pieces[0]
        orders, draws_of = zip(*pieces, strict=True)
        return torch.cat(orders), torch.cat(draws_of)

    def _epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        if epoch not in self._epochs:
            count, device = len(self.split), self.split.device
            order = epoch_order(count, self.seed, epoch).to(device)
            draws = epoch_draws(count, self.split.draws, self.seed, epoch).to(device)
            self._epochs = {epoch: (order, draws)}
        return self._epochs[epoch]
