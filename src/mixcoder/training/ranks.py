"""The processes that train one run together, each a rank; mostly one process alone.

    batch (B, C, H, W) ─┬▶ rank 0: its shard ─▶ gradients (N,) ─┐
                        └▶ rank 1: its shard ─▶ gradients (N,) ─┴▶ weighted sum ─▶ the same update in all

A loss is the mean over the images of a batch, so that the weighted sum of the shards' gradients is the
gradient of the batch, whatever the number of ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from mixcoder.backends.step import Reduction


class Ranks:
    """A process that trains alone: the whole batch is its shard, and nobody else has to agree.

    `ProcessGroup` overrides what several processes do together.

    Attributes:
        index: of this rank.
        count: of all ranks.
        count_here: of those on this machine.
    """

    index: int = 0
    count: int = 1
    count_here: int = 1

    @property
    def is_first(self) -> bool:
        """Returns whether this is the rank that writes files and prints."""
        return self.index == 0

    def shard(self, length: int) -> slice:
        """Returns this rank's place in a batch of `length` images; shards differ by one image at most."""
        size, larger_shards = divmod(length, self.count)
        start = size * self.index + min(self.index, larger_shards)
        return slice(start, start + size + (self.index < larger_shards))

    def together(self) -> AbstractContextManager[None]:
        """Context after which all ranks go on, or none: an error in one of them ends them all.

        Ranks must not speak with each other within it.

        Raises:
            ReportedError: another rank has failed, and raises the error itself.
        """
        return nullcontext()

    def any(self, flag: bool) -> bool:
        """Returns whether the flag of any rank is set."""
        return flag

    def is_same(self, text: str) -> bool:
        """Returns whether this rank's text is that of the first."""
        return True

    def total(self, value: float) -> float:
        """Returns the sum of the values of all ranks."""
        return value

    def weighted_sum(self, values: Tensor, weight: float) -> Tensor:
        """Returns the sum of all ranks' values, on the CPU, each times its rank's weight."""
        return values

    def reduction(self, weight: float) -> Reduction | None:
        """Returns what makes gradients of a shard those of its batch; None where the shard is all of it.

        Args:
            weight: this rank's part of the images of a batch.
        """
        return None

    def from_first(self, value: int) -> int:
        """Returns the value of the first rank."""
        return value

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites tensors by those of the first rank, which have the same shapes."""

    def seed(self, seed: int, step: int) -> None:
        """Seeds torch's random state for the steps from `step` on, otherwise on each rank.

        So a run of several ranks resumes exactly from the checkpoint of the first. One process alone
        restores its random state from the checkpoint, and goes on with it.
        """


ALONE = Ranks()


def is_under_torchrun() -> bool:
    """Returns whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ
