"""Images of the training set that take the place of the validation set: `search_holdout`.

    training set ─┬─ N images, chosen by a fixed seed ─▶ validation
                  └─ the others ───────────────────────▶ train
    validation set ──────────────────────────────────── left for the end

What is chosen on these N images is not chosen on the validation set, which then judges it fairly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mixcoder.data.split import ImageData, ImageSplit, Split
from mixcoder.errors import ArgumentError, describe_type

HOLDOUT = "search_holdout"
_SEED = 0
"""Of the choice: the same for everybody and for every run, so that no result hangs on a lucky one."""


@runtime_checkable
class DivisibleSplit(Split, Protocol):
    """A split of training images that can be divided."""

    def hold_out(self, indices: Tensor) -> tuple[Self, ImageSplit]:
        """Returns the split without the images `indices` (N,) int64, and those as validation images."""


def held_out_indices(training_images: int, count: int) -> Tensor:
    """Returns which images are held out: (count,) int64, rising, a function of both numbers alone."""
    order = np.random.default_rng(_SEED).permutation(training_images)
    return torch.from_numpy(np.sort(order[:count]))


def hold_out(data: ImageData, count: int) -> ImageData:
    """Returns data that is validated on `count` images of the training set and trained on the others.

    Raises:
        ArgumentError: there are not more training images than that, or they cannot be divided.
    """
    if not isinstance(data.train, DivisibleSplit):
        kind = describe_type(data.train)
        raise ArgumentError(
            HOLDOUT,
            f"source {data.name} cannot hold out images: its training images are a {kind}, which has no "
            "method hold_out, unlike mixcoder.ImageSplit",
        )
    check_count(count, len(data.train))
    train, validation = data.train.hold_out(held_out_indices(len(data.train), count))
    return replace(data, train=train, validation=validation)


def check_count(count: int, training_images: int) -> None:
    """Checks that images are left to train on.

    Raises:
        ArgumentError: none would be.
    """
    if count >= training_images:
        raise ArgumentError(
            HOLDOUT, f"must be below {training_images:,}, the number of training images, not {count:,}"
        )
