"""Places the buffers of a list of operations in as little memory as their lifetimes allow.

    operations, virtual addresses ─▶ first and last use of each buffer ─▶ one block of memory, real addresses

A buffer takes the place of the one of its size that was freed last: it is still in the processor's cache.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

_FIRST = 1 << 56
"""The first virtual address, above all real ones."""
_ALIGNMENT = 64
"""Bytes of a cache line."""


class Buffers:
    """Buffers that live from the first operation that names them to the last."""

    def __init__(self) -> None:
        self._starts = [_FIRST]

    def new(self, size: int) -> int:
        """Returns the virtual address of `size` bytes, which hold anything before they are written."""
        start = self._starts[-1]
        self._starts.append(start + -(-size // _ALIGNMENT) * _ALIGNMENT)
        return start

    def place(self, addresses: np.ndarray) -> Tensor:
        """Makes virtual addresses (operations, …) uint64 real ones, in place; returns their memory."""
        starts = np.array(self._starts, dtype=np.uint64)
        is_virtual = addresses >= _FIRST
        buffers = np.searchsorted(starts, addresses, side="right") - 1
        used = [{*row[which].tolist()} for row, which in zip(buffers, is_virtual, strict=True)]
        offsets, size = _offsets(used, np.diff(starts).tolist())
        memory = torch.zeros(size, dtype=torch.uint8)
        moved_by = np.array(offsets, dtype=np.uint64) + np.uint64(memory.data_ptr()) - starts[:-1]
        addresses[is_virtual] += moved_by[buffers[is_virtual]]
        return memory


def _offsets(used: list[set[int]], sizes: list[int]) -> tuple[list[int], int]:
    """Returns the offset of each buffer and the size of all, from the buffers that each operation uses."""
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
