"""Where the buffers of a list of operations lie: in as little memory as their lives allow.

    operations, virtual addresses ─▶ first and last use of each buffer ─▶ one block of memory, real addresses

A buffer takes the place of the one of its size that was given up last: it is still in the processor's cache.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_FIRST = 1 << 56
"""The least virtual address; no real one is as large."""
_APART = 1 << 48
_ALIGNMENT = 64
"""Bytes of a cache line."""


class Buffers:
    """Buffers that hold what operations write, from the first that names one to the last.

    Args:
        index: tells these from others that the same operations name.
    """

    def __init__(self, index: int) -> None:
        self._starts = [_FIRST + index * _APART]

    def new(self, size: int) -> int:
        """The virtual address of so many bytes, of which nothing is known before they are written."""
        start = self._starts[-1]
        self._starts.append(start + -(-size // _ALIGNMENT) * _ALIGNMENT)
        return start

    def place(self, addresses: np.ndarray, others: Sequence[np.ndarray]) -> Tensor:
        """Makes virtual addresses real ones, in place; the memory that they are in.

        Args:
            addresses: (operations, …) uint64 of a thread's operations, in their order.
            others: those of threads beside it. What these name too stays where it is to the end.
        """
        starts = np.array(self._starts, dtype=np.uint64)
        sizes = np.diff(starts).tolist()
        shared = set[int]().union(*(_named(starts, each) for each in others))
        used = [_named(starts, row) for row in addresses]
        offsets, size = _offsets([*used, shared], sizes)
        memory = torch.zeros(size, dtype=torch.uint8)
        moved_by = np.array(offsets, dtype=np.uint64) + np.uint64(memory.data_ptr()) - starts[:-1]
        for each in (addresses, *others):
            is_mine = _are_within(starts, each)
            each[is_mine] += moved_by[np.searchsorted(starts, each[is_mine], side="right") - 1]
        return memory


def _are_within(starts: np.ndarray, addresses: np.ndarray) -> np.ndarray:
    within: np.ndarray = (addresses >= starts[0]) & (addresses < starts[-1])
    return within


def _named(starts: np.ndarray, addresses: np.ndarray) -> set[int]:
    """Which of the buffers that begin at `starts` the addresses are in."""
    mine = addresses[_are_within(starts, addresses)]
    return {*(np.searchsorted(starts, mine, side="right") - 1).tolist()}


def _offsets(used: list[set[int]], sizes: list[int]) -> tuple[list[int], int]:
    """Where each buffer begins, and where the last ends, for the buffers that each operation uses."""
    last = {buffer: i for i, buffers in enumerate(used) for buffer in buffers}
    free: defaultdict[int, list[int]] = defaultdict(list)
    offsets, placed, end = [0] * len(sizes), set[int](), 0
    for i, buffers in enumerate(used):
        for buffer in buffers - placed:
            if not free[sizes[buffer]]:
                free[sizes[buffer]].append(end)
                end += sizes[buffer]
            offsets[buffer] = free[sizes[buffer]].pop()
        placed |= buffers
        for buffer in buffers:
            if last[buffer] == i:
                free[sizes[buffer]].append(offsets[buffer])
    return offsets, end
