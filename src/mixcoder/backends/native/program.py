"""A list of operations for `kernels/`, as it is emitted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixcoder.backends.native.buffers import Buffers
from mixcoder.backends.native.codes import ADDRESSES, OPERATION, OPERATIONS, SIZES

FLOAT_BYTES = 4
_READ_BEYOND = 128
"""Elements that a convolution may read beyond the end of its input."""

GemmSizes = tuple[int, int, int]
"""(m, n, k) of c (m, n) = a (m, k) · b (k, n)."""


@dataclass(frozen=True)
class Batch:
    """Equal gemms, whose matrices lie at equal distances.

    Attributes:
        count: of gemms.
        strides: elements from a matrix of a, b and c to the next; 0 for an operand that all gemms share.
        row_strides: elements from a row of a, b and c, as they lie in memory, to the next; None where rows
            follow each other without a gap.
    """

    count: int
    strides: tuple[int, int, int]
    row_strides: tuple[int, int, int] | None = None


class Program:
    """Operations on float32 elements at addresses, and the memory that they work in.

    Args:
        precision: torch.float32 or torch.bfloat16, of the operands of gemms.

    Attributes:
        operand_bytes: of an element of an operand.
    """

    def __init__(self, precision: torch.dtype) -> None:
        self.operand_bytes = precision.itemsize
        self._is_bf16 = precision != torch.float32
        self._operations: list[tuple[int, list[int], float, list[int]]] = []
        self._buffers = Buffers()
        self._zeros: dict[Hashable, int] = {}
        self._memory: list[Tensor] = []

    def operations(self) -> np.ndarray:
        """Returns all emitted operations as an array of `OPERATION`."""
        operations = np.array(self._operations, dtype=OPERATION)
        self.keep(self._buffers.place(operations["p"]))
        return operations

    def buffer(self, elements: int, element_bytes: int = FLOAT_BYTES) -> int:
        """Returns the address of a new buffer, which lives until the last operation that names it."""
        return self._buffers.new((elements + _READ_BEYOND) * element_bytes)

    def zeros(self, name: Hashable, elements: int, element_bytes: int = FLOAT_BYTES) -> int:
        """Returns the address of zeroed memory, the same for all operations that ask for this name."""
        if name not in self._zeros:
            size = (elements + _READ_BEYOND) * element_bytes
            self._zeros[name] = self.keep(torch.zeros(size, dtype=torch.uint8))
        return self._zeros[name]

    def scratch(self, name: Hashable, size: int) -> int:
        """Returns the address of at least `size` bytes, which each operation may overwrite."""
        size = 1 << max(size, 1).bit_length()
        return self.zeros((name, size), size, 1)

    def keep(self, tensor: Tensor) -> int:
        """Returns the address of a tensor, which from now on lives as long as the program."""
        self._memory.append(tensor)
        return tensor.data_ptr()

    def emit(self, name: str, sizes: Sequence[int], addresses: Sequence[int], scale: float = 0.0) -> None:
        """Appends an operation by its name."""
        filled = [*map(int, sizes), *[0] * (SIZES - len(sizes))]
        places = [*addresses, *[0] * (ADDRESSES - len(addresses))]
        self._operations.append((OPERATIONS.index(name), filled, scale, places))

    def operand(self, x: int, elements: int) -> int:
        """Returns the address of x in the precision of gemms, which may be x itself."""
        if not self._is_bf16:
            return x
        out = self.buffer(elements, self.operand_bytes)
        self.copy_operand(x, elements, out)
        return out

    def copy_operand(self, x: int, elements: int, out: int) -> None:
        """Emits a copy of x in the precision of gemms."""
        if self._is_bf16:
            self.emit("to_bf16", [elements], [x, out])
        else:
            self.copy(x, elements, out)

    def transpose(self, x: int, shape: tuple[int, int, int, int]) -> int:
        """Returns the address of x (blocks, outer, inner, columns) as (blocks, inner, outer, columns)."""
        blocks, outer, inner, columns = shape
        out = self.buffer(blocks * outer * inner * columns)
        self.emit("transpose", shape, [x, out])
        return out

    def copy(self, x: int, elements: int, out: int) -> None:
        """Emits a copy of x."""
        self.emit("transpose", [1, 1, 1, elements], [x, out])

    def gemm(
        self,
        operands: tuple[int, int],
        c: int,
        sizes: GemmSizes,
        transposed: str = "",
        *,
        is_added: bool = False,
    ) -> None:
        """Emits c (m, n) = a (m, k) · b (k, n).

        Args:
            operands: addresses of a and b.
            c: address of the result.
            sizes: m, n and k.
            transposed: "a" where a lies in memory as (k, m), "b" where b lies there as (n, k).
            is_added: to what is at c, in place of overwriting it.
        """
        self.gemm_rows(operands, c, sizes, transposed, slice(0, sizes[0]), is_added=is_added)

    def gemm_rows(
        self,
        operands: tuple[int, int],
        c: int,
        sizes: GemmSizes,
        transposed: str,
        rows: slice,
        *,
        is_added: bool = False,
    ) -> None:
        """Emits `gemm` for some rows of its result alone, which lie at c."""
        (a, b), (m, n, k) = operands, sizes
        strides = [m if transposed == "a" else k, k if transposed == "b" else n, n]
        a += self.operand_bytes * rows.start * (1 if transposed == "a" else k)
        name = "gemm_bf16" if self._is_bf16 else "gemm"
        shape = [transposed == "a", transposed == "b", rows.stop - rows.start, n, k, *strides]
        self.emit(name, shape, [a, b, c], float(is_added))

    def gemm_batch(
        self,
        operands: tuple[int, int],
        c: int,
        sizes: GemmSizes,
        batch: Batch,
        transposed: str = "",
        *,
        beta: float = 0.0,
    ) -> None:
        """Emits c (m, n) = a (m, k) · b (k, n) + beta · c for each gemm of a batch.

        Args:
            operands: addresses of the first a and b.
            c: address of the first result.
            sizes: m, n and k.
            batch: count of the gemms, and where their matrices lie.
            transposed: "a", "b" or "ab": which lie in memory as (k, m) and (n, k).
            beta: of what is at c; with 0 it is overwritten, whatever it is.
        """
        m, n, k = sizes
        strides = batch.row_strides or (m if "a" in transposed else k, k if "b" in transposed else n, n)
        shape = ["a" in transposed, "b" in transposed, *sizes, *strides, batch.count, *batch.strides]
        self.emit("gemm_batch_bf16" if self._is_bf16 else "gemm_batch", shape, [*operands, c], beta)
