"""Emits the convolutions of mixing layers without their biases, forward and backward.

Token mixing has the patches as channels and the field in each patch's vector; its `backward` adds to the
gradients of x, which is residual. A convolution over patches has the vectors as channels and the patches as
field; its `backward` returns the address of new gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from torch import nn

from mixcoder.backends.native.program import FLOAT_BYTES
from mixcoder.backends.native.shards import Network
from mixcoder.backends.native.toeplitz import Field, ToeplitzMatrices
from mixcoder.models.patch_convolutions import (
    ConvOverPatches1d,
    ConvOverPatches2d,
    TokenMixingConv1d,
    TokenMixingConv2d,
)

_TokenConv = TokenMixingConv1d | TokenMixingConv2d
_PatchConv = ConvOverPatches1d | ConvOverPatches2d


class TokenMixing(Protocol):
    """A convolution with the patches of x (P, B, C) as channels."""

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""

    def backward(self, dz: int, dx: int) -> None:
        """Emits the weights' gradients, and adds the gradients of x to those at `dx`."""


def token_mixing(net: Network, conv: _TokenConv) -> TokenMixing:
    """Returns the cheapest way to compute a convolution with the patches as channels."""
    if math.prod(conv.kernel_size) == 1:
        return PointwiseTokenMixing(net, conv)
    if isinstance(conv, nn.Conv2d):
        return PictureTokenMixing(net, conv)
    return LineTokenMixing(net, conv)


class PointwiseTokenMixing:
    """One tap: a gemm of (P, P) and (P, B·C)."""

    def __init__(self, net: Network, conv: _TokenConv) -> None:
        self._program, self._weights = net.program, net.weights(conv)
        self._patches, self._columns = net.patches, net.patch_elements

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""
        program, patches, columns = self._program, self._patches, self._columns
        self._x = x
        self._matrix = program.operand(self._weights.weight, patches**2)
        inputs = program.operand(x, patches * columns)
        z = program.buffer(patches * columns)
        program.gemm((self._matrix, inputs), z, (patches, columns, patches))
        return z

    def backward(self, dz: int, dx: int) -> None:
        """Emits the weights' gradients, and adds the gradients of x to those at `dx`."""
        program, patches, columns = self._program, self._patches, self._columns
        addresses = [dz, self._x, self._weights.weight_gradient]
        program.emit("correlate", [patches, patches, columns, columns, 1], addresses)
        operands = (self._matrix, program.operand(dz, patches * columns))
        program.gemm(operands, dx, (patches, columns, patches), "a", is_added=True)


class LineTokenMixing:
    """Some taps along each patch's vector, added up in registers."""

    def __init__(self, net: Network, conv: TokenMixingConv1d) -> None:
        (taps,) = conv.kernel_size
        self._program, self._weights = net.program, net.weights(conv)
        self._sizes = [net.patches, net.patches, net.batch, net.channels, taps]
        self._margin = taps // 2
        self._padded = net.batch * (net.channels + taps - 1)
        self._elements = net.rows * net.channels

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""
        program, patches = self._program, self._sizes[0]
        z, self._x = program.buffer(self._elements), program.zeros(("x", x), patches * self._padded)
        self._emit_pad(x, self._x)
        program.emit("convolve", [*self._sizes, False], [self._weights.weight, self._x, z])
        return z

    def backward(self, dz: int, dx: int) -> None:
        """Emits the weights' gradients, and adds the gradients of x to those at `dx`."""
        program, (patches, *_, taps) = self._program, self._sizes
        padded_dz = program.zeros(("gradients", *self._sizes), patches * self._padded)
        reversed_taps = program.buffer(taps * patches**2)
        self._emit_pad(dz, padded_dz)
        program.emit(
            "correlate",
            [patches, patches, self._padded - 2 * self._margin, self._padded, taps],
            [padded_dz + FLOAT_BYTES * self._margin, self._x, self._weights.weight_gradient],
        )
        program.emit("reverse_taps", [patches, patches, taps], [self._weights.weight, reversed_taps])
        program.emit("convolve", [*self._sizes, True], [reversed_taps, padded_dz, dx])

    def _emit_pad(self, x: int, out: int) -> None:
        patches, _, batch, channels, _ = self._sizes
        self._program.emit("pad", [patches * batch, channels, self._margin], [x, out])


class PictureTokenMixing:
    """Taps in two dimensions in each patch's vector, seen as a picture of height x width."""

    def __init__(self, net: Network, conv: TokenMixingConv2d) -> None:
        height, width = conv.size
        self._program, self._elements = net.program, net.rows * net.channels
        self._rows = RowConvolution(net, conv, Field(height, width, net.patches))
        vectors = [
            net.channels,
            width,
            net.patch_elements,
        ]  # strides of B, H and P in (P, B, H, W)
        field = [
            width * net.patches,
            net.batch * width * net.patches,
            net.patches,
        ]  # in (H, B, W, P)
        self._to_field = [net.batch, height, net.patches, width, *vectors, *field]
        self._from_field = [net.batch, height, width, net.patches, *field, *vectors]

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""
        out = self._rows.forward(self._as_field(x))
        z = self._program.buffer(self._elements)
        self._program.emit("permute", self._from_field, [out, z])
        return z

    def backward(self, dz: int, dx: int) -> None:
        """Emits the weights' gradients, and adds the gradients of x to those at `dx`."""
        gradients = self._rows.backward(self._as_field(dz))
        self._program.emit("permute", [*self._from_field, True], [gradients, dx])

    def _as_field(self, x: int) -> int:
        out = self._program.buffer(self._elements)
        self._program.emit("permute", self._to_field, [x, out])
        return out


class PatchConvolution:
    """A convolution over the patches of x (P, B, C), with the C elements of a vector as channels."""

    def __init__(self, net: Network, conv: _PatchConv) -> None:
        self._program, self._is_line = net.program, len(conv.size) == 1
        height, width = conv.size if len(conv.size) == 2 else (net.patches, 1)
        self._rows = RowConvolution(net, conv, Field(height, width, net.channels))
        self._to_field = height, width, net.batch, net.channels
        self._from_field = height, net.batch, width, net.channels

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""
        if self._is_line:
            return self._rows.forward(x)
        z = self._rows.forward(self._program.transpose(x, self._to_field))
        return self._program.transpose(z, self._from_field)

    def backward(self, dz: int) -> int:
        """Emits the gradients of the weights and of x; returns the address of those of x."""
        if self._is_line:
            return self._rows.backward(dz)
        dx = self._rows.backward(self._program.transpose(dz, self._to_field))
        return self._program.transpose(dx, self._from_field)


class _Shift(NamedTuple):
    """A shift by rows of a field.

    Attributes:
        dy: from the output's row to the input's.
        rows: rows of outputs that have such an input, times images.
        x_start: elements before the first such input.
        z_start: elements before the first such output.
    """

    dy: int
    rows: int
    x_start: int
    z_start: int


class RowConvolution:
    """A convolution in a field (height, B, width·channels): a gemm for each shift by rows."""

    def __init__(self, net: Network, conv: _TokenConv | _PatchConv, field: Field) -> None:
        height, width = (*conv.kernel_size, 1)[:2]
        self._program = net.program
        self._matrices = ToeplitzMatrices(net.program, net.weights(conv), field, (height, width))
        row = net.batch * self._matrices.side
        self._elements = field.height * row
        reach = self._matrices.reach
        self._shifts = [
            _Shift(dy, (field.height - abs(dy)) * net.batch, row * max(dy, 0), row * max(-dy, 0))
            for dy in sorted(range(-reach, reach + 1), key=abs)  # 0 is first: its gemm overwrites all of z
        ]

    def forward(self, x: int) -> int:
        """Emits the convolution of x."""
        program, side = self._program, self._matrices.side
        self._matrices.load()
        self._inputs, z = program.operand(x, self._elements), program.buffer(self._elements)
        for shift in self._shifts:
            a, out = self._operand(self._inputs, shift.x_start), z + FLOAT_BYTES * shift.z_start
            operands, sizes = (a, self._matrices.matrix(shift.dy)), (shift.rows, side, side)
            program.gemm(operands, out, sizes, "b", is_added=shift.dy != 0)
        return z

    def backward(self, dz: int) -> int:
        """Emits the gradients of the weights and of x; returns the address of those of x."""
        program, side = self._program, self._matrices.side
        gradients, dx = program.operand(dz, self._elements), program.buffer(self._elements)
        for shift in self._shifts:
            a, gradient = self._operand(self._inputs, shift.x_start), self._operand(gradients, shift.z_start)
            of_matrix = self._matrices.gradient_buffer(shift.dy)
            program.gemm((gradient, a), of_matrix, (side, side, shift.rows), "a")
            self._matrices.add_gradient(shift.dy, of_matrix)
            out, matrix = dx + FLOAT_BYTES * shift.x_start, self._matrices.matrix(shift.dy)
            program.gemm((gradient, matrix), out, (shift.rows, side, side), is_added=shift.dy != 0)
        self._matrices.store_gradients()
        return dx

    def _operand(self, start: int, elements: int) -> int:
        return start + self._program.operand_bytes * elements
