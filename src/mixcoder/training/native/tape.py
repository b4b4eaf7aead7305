"""A list of operations for `kernels.cpp`, as it is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

OPERATION = np.dtype(
    [("code", "i4"), ("n", "i4", 9), ("scale", "f4"), ("unused", "i4"), ("p", "u8", 5)], align=True
)
"""As `Operation` there."""
CODES = [
    "input", "product", "activate", "activate_back", "spread", "gather", "loss", "pad", "reverse",
    "split_taps", "join_taps", "convolve", "correlate", "swap",
]  # fmt: skip
"""In the order of `Code` there; what each does with its numbers and addresses is said there too."""
NUMBER = 4
"""Bytes."""
_ROOM = 128
"""Numbers that a convolution may read beyond the end of its input."""


class Tape:
    """Operations on float32 numbers at addresses, and the memory that they work in."""

    def __init__(self) -> None:
        self._operations: list[tuple[int, list[int], float, int, list[int]]] = []
        self._memory: list[Tensor] = []

    def operations(self) -> np.ndarray:
        """All that was written, as an array of `OPERATION`."""
        return np.array(self._operations, dtype=OPERATION)

    def buffer(self, numbers: int) -> int:
        """The address of so many zeros, which live as long as this."""
        return self.keep(torch.zeros(numbers + _ROOM))

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor, which now lives as long as this."""
        self._memory.append(tensor)
        return tensor.data_ptr()

    def do(self, name: str, numbers: Sequence[int], addresses: Sequence[int], scale: float = 0.0) -> None:
        """Writes an operation by its name."""
        filled = [*map(int, numbers), *[0] * (9 - len(numbers))]
        places = [*addresses, *[0] * (5 - len(addresses))]
        self._operations.append((CODES.index(name), filled, scale, 0, places))

    def product(
        self,
        a: int,
        b: int,
        c: int,
        sizes: tuple[int, int, int],
        *,
        transposed: str = "",
        added: bool = False,
    ) -> None:
        """Writes c (m, n) = a (m, k) · b (k, n), for sizes (m, n, k).

        Args:
            a: address, as the others.
            b: another.
            c: where the product goes.
            sizes: m, n and k.
            transposed: which of the two lies in memory the other way: "a" as (k, m), or "b" as (n, k).
            added: to what is at c, not in its place.
        """
        m, n, k = sizes
        strides = [m if transposed == "a" else k, k if transposed == "b" else n, n]
        self.do("product", [transposed == "a", transposed == "b", m, n, k, *strides], [a, b, c], float(added))
