"""Emits the convolutions of mixing layers without their biases: x (B, P, C) by weights, and both derivatives.

Token mixing has the patches as channels and the field in each patch's vector; a convolution over patches has
the vectors as channels and the patches as field. Both read and write arrays as (P, B, C) in memory. Along a
line, taps of token mixing are added up in registers; a picture is taken row by row, as (height, B,
width·channels): all taps from one row to another are one matrix, and all pairs of such rows one gemm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mixcoder.backends.native.graph import Node, Shape
from mixcoder.backends.native.kinds import ConvolutionEmitter, OverPatches, TokenMixing
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.placement import Placement
from mixcoder.backends.native.placing import Place, UnsuitedResultError, dense_place
from mixcoder.backends.native.program import FLOAT_BYTES
from mixcoder.backends.native.toeplitz import Field, ToeplitzMatrices

PATCH_MAJOR = (1, 0, 2)
"""Axes of (B, P, C) in the order of memory."""


def token_mixing(kind: TokenMixing) -> ConvolutionEmitter:
    """Returns the emitter of a convolution with the patches as channels."""
    return LineTokenMixing(kind) if len(kind.kernel) == 1 else PictureTokenMixing(kind)


class LineTokenMixing:
    """Some taps along each patch's vector, added up in registers."""

    def __init__(self, kind: TokenMixing) -> None:
        (self._taps,) = kind.kernel
        self._margin = self._taps // 2

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z."""
        x, weight = node.inputs
        patches, batch, channels = _patch_major_sizes(node)
        addresses = [placement.dense(weight).address, self._padded(placement, x)]
        z = placement.new(node, PATCH_MAJOR)
        sizes = [patches, patches, batch, channels, self._taps, False]
        placement.program.emit("convolve", sizes, [*addresses, z.address])

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x."""
        z, weight = node.inputs
        patches, batch, channels = _patch_major_sizes(node)
        program, padded = placement.program, self._padded_gradients(placement, z)
        reversed_taps = program.buffer(self._taps * patches**2)
        sizes = [patches, patches, self._taps]
        program.emit("reverse_taps", sizes, [placement.dense(weight).address, reversed_taps])
        out = placement.result(node, PATCH_MAJOR, added_to)
        sizes = [patches, patches, batch, channels, self._taps, added_to is not None]
        program.emit("convolve", sizes, [reversed_taps, padded, out.address])

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights."""
        z, x = node.inputs
        patches, batch, channels = _patch_major_sizes(x)
        length = batch * (channels + self._taps - 1)
        padded = self._padded_gradients(placement, z) + FLOAT_BYTES * self._margin
        sizes = [patches, patches, length - 2 * self._margin, length, self._taps]
        addresses = [padded, self._padded(placement, x), placement.new(node).address]
        placement.program.emit("correlate", sizes, addresses)

    def _padded(self, placement: Placement, x: Node) -> int:
        """Returns the address of x with margins, which stays for the whole step."""
        name = ("padded", x)
        if name not in placement.memo:
            placement.memo[name] = placement.program.zeros(name, self._padded_elements(x))
            self._emit_pad(placement, x, placement.memo[name])
        return placement.memo[name]

    def _padded_gradients(self, placement: Placement, z: Node) -> int:
        """Returns the address of z with margins, in memory that other layers use too, one after the other."""
        name = ("padded gradients", z.shape, self._taps)
        out = placement.program.zeros(name, self._padded_elements(z))
        if placement.occupants.get(name) is not z:
            self._emit_pad(placement, z, out)
            placement.occupants[name] = z
        return out

    def _padded_elements(self, x: Node) -> int:
        patches, batch, channels = _patch_major_sizes(x)
        return patches * batch * (channels + self._taps - 1)

    def _emit_pad(self, placement: Placement, x: Node, out: int) -> None:
        patches, batch, channels = _patch_major_sizes(x)
        address = placement.dense(x, PATCH_MAJOR).address
        placement.program.emit("pad", [patches * batch, channels, self._margin], [address, out])


class PictureTokenMixing:
    """Taps in two dimensions in each patch's vector, seen as a picture of height x width."""

    def __init__(self, kind: TokenMixing) -> None:
        self._kernel, self._size = kind.kernel, kind.field

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z."""
        x, weight = node.inputs
        out = self._rows(placement, node).convolve(weight, (x, self._as_field(placement, x)))
        z = placement.new(node, PATCH_MAJOR)
        placement.program.emit("permute", [*self._from_field(node), False], [out, z.address])

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x."""
        z, weight = node.inputs
        gradients = self._rows(placement, node).adjoint(weight, (z, self._as_field(placement, z)))
        out = placement.result(node, PATCH_MAJOR, added_to)
        sizes = [*self._from_field(node), added_to is not None]
        placement.program.emit("permute", sizes, [gradients, out.address])

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights."""
        fields = [(x, self._as_field(placement, x)) for x in node.inputs]
        self._rows(placement, node.inputs[1]).correlate(node, fields)

    def _rows(self, placement: Placement, x: Node) -> RowConvolution:
        patches, batch, _ = _patch_major_sizes(x)
        return RowConvolution(placement, Field(*_pair(self._size), patches), batch, _pair(self._kernel))

    def _as_field(self, placement: Placement, x: Node) -> int:
        """Returns the address of x as (height, B, width, P), which all that reads it shares."""
        name = ("field", x, self._size)
        if name not in placement.memo:
            (height, width), (patches, batch, _) = self._size, _patch_major_sizes(x)
            vectors, field = self._strides(x)
            address = placement.dense(x, PATCH_MAJOR).address
            placement.memo[name] = placement.program.buffer(x.size)
            sizes = [batch, height, patches, width, *vectors, *field]
            placement.program.emit("permute", sizes, [address, placement.memo[name]])
        return placement.memo[name]

    def _from_field(self, x: Node) -> list[int]:
        (height, width), (patches, batch, _) = self._size, _patch_major_sizes(x)
        vectors, field = self._strides(x)
        return [batch, height, width, patches, *field, *vectors]

    def _strides(self, x: Node) -> tuple[list[int], list[int]]:
        """Returns the strides of B, H and P in (P, B, H, W), and those of B, H and W in (H, B, W, P)."""
        (_, width), (patches, batch, channels) = self._size, _patch_major_sizes(x)
        vectors = [channels, width, batch * channels]
        return vectors, [width * patches, batch * width * patches, patches]


class PatchConvolution:
    """A convolution over the patches of x (B, P, C), with the C elements of a vector as channels."""

    def __init__(self, kind: OverPatches) -> None:
        self._kernel, self._grid = _pair(kind.kernel), _pair(kind.field)
        self._is_line = len(kind.field) == 1

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z."""
        x, weight = node.inputs
        rows = self._rows(placement, node)
        self._put(placement, node, rows.convolve(weight, (x, self._as_field(placement, x))))

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x."""
        if added_to is not None:
            raise UnsuitedResultError
        z, weight = node.inputs
        rows = self._rows(placement, node)
        self._put(placement, node, rows.adjoint(weight, (z, self._as_field(placement, z))))

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights."""
        fields = [(x, self._as_field(placement, x)) for x in node.inputs]
        self._rows(placement, node.inputs[1]).correlate(node, fields)

    def _rows(self, placement: Placement, x: Node) -> RowConvolution:
        _, batch, channels = _patch_major_sizes(x)
        return RowConvolution(placement, Field(*self._grid, channels), batch, self._kernel)

    def _as_field(self, placement: Placement, x: Node) -> int:
        """Returns the address of x as (rows, B, columns, C), which all that reads it shares."""
        address = placement.dense(x, PATCH_MAJOR).address
        if self._is_line:
            return address
        name = ("field", x, self._grid)
        if name not in placement.memo:
            (height, width), (_, batch, channels) = self._grid, _patch_major_sizes(x)
            placement.memo[name] = placement.program.transpose(address, (height, width, batch, channels))
        return placement.memo[name]

    def _put(self, placement: Placement, node: Node, out: int) -> None:
        """Notes where a result lies, which is now as (rows, B, columns, C)."""
        if not self._is_line:
            (height, width), (_, batch, channels) = self._grid, _patch_major_sizes(node)
            out = placement.program.transpose(out, (height, batch, width, channels))
        placement.put(node, dense_place(out, node.shape, PATCH_MAJOR))


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
    """A convolution in a field (height, B, width·channels): a gemm for each shift by rows.

    Args:
        placement: of what it emits.
        field: that it goes over.
        batch: B, images.
        kernel: (height, width).
    """

    def __init__(self, placement: Placement, field: Field, batch: int, kernel: tuple[int, int]) -> None:
        self._placement, self._program = placement, placement.program
        self._field, self._kernel = field, kernel
        self._matrices = ToeplitzMatrices(self._program, field, kernel)
        row, reach = batch * self._matrices.side, self._matrices.reach
        self._elements = field.height * row
        self._shifts = [
            _Shift(dy, (field.height - abs(dy)) * batch, row * max(dy, 0), row * max(-dy, 0))
            for dy in sorted(range(-reach, reach + 1), key=abs)  # 0 is first: its gemm overwrites all
        ]

    def convolve(self, weight: Node, x: tuple[Node, int]) -> int:
        """Emits z from x, a node and the address of its field; returns the address of z."""
        side, taps, inputs = self._matrices.side, self._loaded(weight), self._operand(*x)
        z = self._program.buffer(self._elements)
        for shift in self._shifts:
            a, out = self._moved(inputs, shift.x_start), z + FLOAT_BYTES * shift.z_start
            operands, sizes = (a, self._matrices.matrix(taps, shift.dy)), (shift.rows, side, side)
            self._program.gemm(operands, out, sizes, "b", is_added=shift.dy != 0)
        return z

    def adjoint(self, weight: Node, z: tuple[Node, int]) -> int:
        """Emits the gradients of x from those of z; returns their address."""
        side, taps, gradients = self._matrices.side, self._loaded(weight), self._operand(*z)
        x = self._program.buffer(self._elements)
        for shift in self._shifts:
            a, out = self._moved(gradients, shift.z_start), x + FLOAT_BYTES * shift.x_start
            operands, sizes = (a, self._matrices.matrix(taps, shift.dy)), (shift.rows, side, side)
            self._program.gemm(operands, out, sizes, is_added=shift.dy != 0)
        return x

    def correlate(self, node: Node, fields: Sequence[tuple[Node, int]]) -> None:
        """Emits the gradients of the weights, a node, from those of z and from x."""
        side, (gradients, inputs) = self._matrices.side, (self._operand(*field) for field in fields)
        for shift in self._shifts:
            a, b = self._moved(gradients, shift.z_start), self._moved(inputs, shift.x_start)
            of_matrix = self._matrices.gradient_buffer(shift.dy)
            self._program.gemm((a, b), of_matrix, (side, side, shift.rows), "a")
            self._matrices.add_gradient(shift.dy, of_matrix)
        self._matrices.store_gradients(self._weights(node).address)

    def _weights(self, node: Node) -> Place:
        """Returns the place for the gradients of the weights, zeros where no tap reaches the field."""
        place = self._placement.new(node)
        if self._matrices.has_unreached_taps and not self._placement.is_final(node):
            zero = Place(self._program.zeros("zero", 1), node.shape, (0,) * node.rank)
            emit_move(self._program, zero, place)
        return place

    def _loaded(self, weight: Node) -> int:
        """Returns the address of a weight's taps, loaded once in a step."""
        name = ("taps", weight, self._field, self._kernel)
        if name not in self._placement.memo:
            self._placement.memo[name] = self._matrices.load(self._placement.dense(weight).address)
        return self._placement.memo[name]

    def _operand(self, node: Node, field: int) -> int:
        """Returns the address of a node's field in the precision of products."""
        name = ("operand of field", node, self._field)
        if name not in self._placement.memo:
            self._placement.memo[name] = self._program.operand(field, self._elements)
        return self._placement.memo[name]

    def _moved(self, start: int, elements: int) -> int:
        return start + self._program.operand_bytes * elements


def _pair(size: Shape) -> tuple[int, int]:
    """Returns a size in two dimensions; a line goes down."""
    return (size[0], size[1]) if len(size) == 2 else (size[0], 1)


def _patch_major_sizes(x: Node) -> tuple[int, int, int]:
    """Returns P, B and C of x (B, P, C)."""
    batch, patches, channels = x.shape
    return patches, batch, channels
