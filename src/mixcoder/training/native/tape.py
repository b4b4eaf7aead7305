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
    "input", "product", "product_rounded", "round", "activate", "activate_back", "loss", "swap", "turn",
    "widen", "widen_rounded", "narrow", "pad", "reverse", "convolve", "correlate",
]  # fmt: skip
"""In the order of `Code` there; what each does with its numbers and addresses is said there too."""
NUMBER = 4
"""Bytes."""
_ROOM = 128
"""Numbers that a convolution may read beyond the end of its input."""


class Tape:
    """Operations on float32 numbers at addresses, and the memory that they work in.

    Args:
        precision: torch.float32 or torch.bfloat16, of the numbers that products multiply.

    Attributes:
        operand_bytes: of such a number.
    """

    def __init__(self, precision: torch.dtype) -> None:
        self.operand_bytes = precision.itemsize
        self._is_rounding = precision != torch.float32
        self._scratch: dict[int, int] = {}
        self._operations: list[tuple[int, list[int], float, int, list[int]]] = []
        self._memory: list[Tensor] = []

    def operations(self) -> np.ndarray:
        """All that was written, as an array of `OPERATION`."""
        return np.array(self._operations, dtype=OPERATION)

    def buffer(self, numbers: int) -> int:
        """The address of so many zeros, which live as long as this."""
        return self.keep(torch.zeros(numbers + _ROOM))

    def scratch(self, numbers: int) -> int:
        """The address of so many numbers, which last till the next call with as many."""
        if numbers not in self._scratch:
            self._scratch[numbers] = self.buffer(numbers)
        return self._scratch[numbers]

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor, which now lives as long as this."""
        self._memory.append(tensor)
        return tensor.data_ptr()

    def do(self, name: str, numbers: Sequence[int], addresses: Sequence[int], scale: float = 0.0) -> None:
        """Writes an operation by its name."""
        filled = [*map(int, numbers), *[0] * (9 - len(numbers))]
        places = [*addresses, *[0] * (5 - len(addresses))]
        self._operations.append((CODES.index(name), filled, scale, 0, places))

    def operand(self, x: int, numbers: int) -> int:
        """The address of the numbers at x as products take them, which may be x."""
        if not self._is_rounding:
            return x
        out = self.buffer(-(-numbers * self.operand_bytes // NUMBER))
        self.do("round", [numbers], [x, out])
        return out

    def wide(self, channels: int, width: int, kernel: tuple[int, int], reach: int, weight: int) -> int:
        """The address of the matrices of a convolution by rows, as products take them.

        Args:
            channels: as many before it as after.
            width: places of a row.
            kernel: height and width.
            reach: rows up and down that are met.
            weight: address of (channels, channels, height, width).
        """
        numbers = (2 * reach + 1) * (width * channels) ** 2
        out = self.buffer(-(-numbers * self.operand_bytes // NUMBER))
        name = "widen_rounded" if self._is_rounding else "widen"
        self.do(name, [channels, width, *kernel, reach], [weight, out])
        return out

    def swapped(self, x: int, blocks: int, outer: int, middle: int, inner: int, columns: int) -> int:
        """The address of x (blocks, outer, middle, inner, columns), its outer and inner places swapped."""
        out = self.buffer(blocks * outer * middle * inner * columns)
        self.do("swap", [blocks, outer, middle, inner, columns, False], [x, out])
        return out

    def turned(self, x: int, blocks: int, rows: int, columns: int) -> int:
        """The address of x (blocks, rows, columns) as (blocks, columns, rows)."""
        out = self.buffer(blocks * rows * columns)
        self.do("turn", [blocks, rows, columns], [x, out])
        return out

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
            a: address of an operand.
            b: of another.
            c: where the product goes.
            sizes: m, n and k.
            transposed: which of the two lies in memory the other way: "a" as (k, m), or "b" as (n, k).
            added: to what is at c, not in its place.
        """
        m, n, k = sizes
        strides = [m if transposed == "a" else k, k if transposed == "b" else n, n]
        name = "product_rounded" if self._is_rounding else "product"
        self.do(name, [transposed == "a", transposed == "b", m, n, k, *strides], [a, b, c], float(added))
