"""A list of operations for `kernels.cpp`, as it is written."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from mixcoder.backends.native.buffers import Buffers

_NUMBERS, _ADDRESSES = 12, 5
OPERATION = np.dtype(
    [("code", "i4"), ("n", "i4", _NUMBERS), ("scale", "f4"), ("p", "u8", _ADDRESSES)], align=True
)
"""As `Operation` there."""
CODES = [
    "input", "product", "product_rounded", "round", "activate", "activate_back", "loss", "swap",
    "turn", "widen", "narrow", "pad", "reverse", "convolve", "correlate",
    "add", "meet", "adamw",
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
        self._operations: list[tuple[int, list[int], float, list[int]]] = []
        self._buffers = Buffers()
        self._zeros: dict[Hashable, int] = {}
        self._memory: list[Tensor] = []

    def operations(self) -> np.ndarray:
        """All that was written, as an array of `OPERATION`."""
        operations = np.array(self._operations, dtype=OPERATION)
        self.keep(self._buffers.place(operations["p"]))
        return operations

    def buffer(self, numbers: int, number_bytes: int = NUMBER) -> int:
        """The address of so many numbers, till the last operation that names it."""
        return self._buffers.new((numbers + _ROOM) * number_bytes)

    def zeros(self, name: Hashable, numbers: int, number_bytes: int = NUMBER) -> int:
        """The address of so many zeros, of all operations that ask for it by this name."""
        if name not in self._zeros:
            self._zeros[name] = self.keep(torch.zeros((numbers + _ROOM) * number_bytes, dtype=torch.uint8))
        return self._zeros[name]

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor, which now lives as long as this."""
        self._memory.append(tensor)
        return tensor.data_ptr()

    def do(self, name: str, numbers: Sequence[int], addresses: Sequence[int], scale: float = 0.0) -> None:
        """Writes an operation by its name."""
        filled = [*map(int, numbers), *[0] * (_NUMBERS - len(numbers))]
        places = [*addresses, *[0] * (_ADDRESSES - len(addresses))]
        self._operations.append((CODES.index(name), filled, scale, places))

    def operand(self, x: int, numbers: int) -> int:
        """The address of the numbers at x as products take them, which may be x."""
        if not self._is_rounding:
            return x
        out = self.buffer(numbers, self.operand_bytes)
        self.copy_operand(x, numbers, out)
        return out

    def copy_operand(self, x: int, numbers: int, out: int) -> None:
        """Writes the numbers at x, as products take them, to another place."""
        if self._is_rounding:
            self.do("round", [numbers], [x, out])
        else:
            self.copy(x, numbers, out)

    def swapped(self, x: int, blocks: int, outer: int, inner: int, columns: int) -> int:
        """The address of x (blocks, outer, inner, columns) as (blocks, inner, outer, columns)."""
        out = self.buffer(blocks * outer * inner * columns)
        self.do("swap", [blocks, outer, inner, columns], [x, out])
        return out

    def copy(self, x: int, numbers: int, out: int) -> None:
        """Writes the numbers at x to another place."""
        self.do("swap", [1, 1, 1, numbers], [x, out])

    def product(
        self,
        a: int,
        b: int,
        c: int,
        sizes: tuple[int, int, int],
        *,
        transposed: str = "",
        added: bool = False,
        rows: slice = slice(None),
    ) -> None:
        """Writes c (m, n) = a (m, k) · b (k, n), for sizes (m, n, k).

        Args:
            a: address of an operand.
            b: of another.
            c: where the product goes, or the rows of it that are written.
            sizes: m, n and k.
            transposed: which of the two lies in memory the other way: "a" as (k, m), or "b" as (n, k).
            added: to what is at c, not in its place.
            rows: which alone are to be written.
        """
        m, n, k = sizes
        strides = [m if transposed == "a" else k, k if transposed == "b" else n, n]
        first, end, _ = rows.indices(m)
        a += self.operand_bytes * first * (1 if transposed == "a" else k)
        name = "product_rounded" if self._is_rounding else "product"
        numbers = [transposed == "a", transposed == "b", end - first, n, k, *strides]
        self.do(name, numbers, [a, b, c], float(added))
