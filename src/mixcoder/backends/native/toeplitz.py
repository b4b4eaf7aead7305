"""Emits the Toeplitz matrices of a convolution: a map from rows of its field to rows."""

from __future__ import annotations

from typing import NamedTuple

from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.step import UnsupportedError
from mixcoder.backends.threads import CACHE_LINE

_LARGEST_MATRICES = 2**21
"""Elements of a convolution's matrices, above which they are too many to be made at each step (8 MiB)."""


class Field(NamedTuple):
    """Places that a convolution goes over, and its channels; in memory (height, B, width·channels)."""

    height: int
    width: int
    channels: int


class ToeplitzMatrices:
    """The taps of a convolution that reach its field, as a matrix for each shift dy by rows.

        weights (out, in, height, width) ─▶ taps (count, out, in) ─▶ matrix of a dy (width·out, width·in)

    Args:
        program: to emit to.
        field: that it goes over.
        kernel: (height, width).

    Attributes:
        reach: the largest dy.
        side: of a matrix.
        has_unreached_taps: whether some taps of the kernel fall on padding alone.

    Raises:
        UnsupportedError: the matrices would be mostly zeros.
    """

    def __init__(self, program: Program, field: Field, kernel: tuple[int, int]) -> None:
        height, width = kernel
        self.reach, reach_x = min(height // 2, field.height - 1), min(width // 2, field.width - 1)
        self.side = field.width * field.channels
        if (2 * self.reach + 1) * self.side**2 > _LARGEST_MATRICES:
            raise UnsupportedError("convolutions whose matrices are mostly zeros")
        self._program, self._kernel_width = program, width
        self._first_tap = FLOAT_BYTES * (height * width // 2 - self.reach * width - reach_x)
        pairs = field.channels**2
        # Taps from the first to the last that reach, with some that do not.
        count = 2 * (self.reach * width + reach_x) + 1
        # At strides of a power of two, taps evict each other from the cache.
        self._stride = pairs + CACHE_LINE
        self._load_sizes = [1, 1, pairs, count, 0, 0, height * width, 0, 0, self._stride]
        self._store_sizes = [1, 1, count, pairs, 0, 0, self._stride, 0, 0, height * width]
        self._matrix_sizes = [field.channels, field.width, reach_x, self._stride]
        self._elements = count * self._stride
        self._has_one_column = field.width == 1  # then a matrix is a tap
        self._gradients = program.zeros(("gradients", *self._load_sizes), self._elements)
        reached = (2 * self.reach + 1, 2 * reach_x + 1)
        self.has_unreached_taps = reached != kernel

    def load(self, weights: int) -> int:
        """Emits the copy of weights at an address as taps; returns their address as operands."""
        taps = self._program.buffer(self._elements)
        self._program.emit("permute", self._load_sizes, [weights + self._first_tap, taps])
        return self._program.operand(taps, self._elements)

    def matrix(self, loaded: int, dy: int) -> int:
        """Returns the address of a shift's matrix as an operand, which lasts until the next is asked for.

        Args:
            loaded: address of the taps, from `load`.
            dy: the shift.
        """
        element_bytes = self._program.operand_bytes
        taps = loaded + element_bytes * self._first_element(dy)
        if self._has_one_column:
            return taps
        name = (*self._matrix_sizes, element_bytes)
        matrix = self._program.zeros(name, self.side**2, element_bytes)
        self._program.emit("toeplitz", name, [taps, matrix])
        return matrix

    def gradient_buffer(self, dy: int) -> int:
        """Returns the address for the gradients of a shift's matrix."""
        return self._tap_gradients(dy) if self._has_one_column else self._program.buffer(self.side**2)

    def add_gradient(self, dy: int, gradients: int) -> None:
        """Emits the adjoint, from the gradients of a shift's matrix to those of its taps."""
        if not self._has_one_column:
            self._program.emit("toeplitz_adjoint", self._matrix_sizes, [gradients, self._tap_gradients(dy)])

    def store_gradients(self, weights: int) -> None:
        """Emits the copy of the gradients of taps to those of the weights, but for unreached taps."""
        self._program.emit("permute", self._store_sizes, [self._gradients, weights + self._first_tap])

    def _tap_gradients(self, dy: int) -> int:
        return self._gradients + FLOAT_BYTES * self._first_element(dy)

    def _first_element(self, dy: int) -> int:
        """Returns how many elements stand before the taps of a shift."""
        return self._stride * (dy + self.reach) * self._kernel_width
