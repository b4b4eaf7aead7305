"""Emits convolutions over fields: x (B, C, H, W) by weights (O, C / groups, *kernel), and both derivatives.

Arrays lie in memory as (H, W, C, B), the images side by side: so a window of a field is a matrix as it lies,
whatever the channels. Where each channel has its own kernel, (H, W, B, C) is as good.

    x, taps ─convolve_field─▶ z     z, reversed taps ─convolve_field─▶ x     z, x ─correlate_field─▶ weights
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mixcoder.backends.native.codes import VECTOR
from mixcoder.backends.native.graph import Node, Shape
from mixcoder.backends.native.kinds import OverField
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.placement import Placement, is_leaf, root_of
from mixcoder.backends.native.placing import Place, dense_place
from mixcoder.backends.native.program import FLOAT_BYTES

_IMAGES_LAST, _CHANNELS_LAST = (2, 3, 1, 0), (2, 3, 0, 1)
"""Axes of (B, C, H, W) in the order of memory."""


class _Pass(NamedTuple):
    """A pass of a kernel over a field: forward, or backward with the roles of x and z exchanged.

    Attributes:
        source: the shape of what it reads, (B, C, H, W).
        result: the shape of what it computes.
        kernel: height and width.
        start: how far the first tap lies before the first element of the source, down and to the right.
    """

    source: Shape
    result: Shape
    kernel: Shape
    start: tuple[int, int]


def _forward(node: Node, kind: OverField) -> _Pass:
    x, weight = node.inputs
    return _Pass(x.shape, node.shape, weight.shape[2:], kind.before)


def _backward(node: Node, kind: OverField) -> _Pass:
    z, weight = node.inputs
    height, width = weight.shape[2:]
    start = (height - 1 - kind.before[0], width - 1 - kind.before[1])
    return _Pass(z.shape, node.shape, (height, width), start)


class FieldConvolution:
    """A convolution whose windows are matrices."""

    def __init__(self, kind: OverField) -> None:
        self._kind = kind

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z."""
        self._emit(placement, node, _forward(node, self._kind), is_reversed=False, added_to=None)

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x."""
        self._emit(placement, node, _backward(node, self._kind), is_reversed=True, added_to=added_to)

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights."""
        z, x = node.inputs
        is_paired = _is_bf16(placement) and x.shape[0] % 2 == 0
        places = [placement.dense(y, _CHANNELS_LAST) for y in (z, x)]
        addresses = [place.address for place in places]
        if is_paired:
            pairs = zip((z, x), places, strict=True)
            addresses = [_paired(placement, y, place, _CHANNELS_LAST) for y, place in pairs]
        sums = placement.program.scratch("correlation", FLOAT_BYTES * node.size)
        sizes = self._sizes(_Pass(x.shape, z.shape, node.shape[2:], self._kind.before))
        name = "correlate_field_bf16" if is_paired else "correlate_field"
        placement.program.emit(name, sizes, [*addresses, sums, placement.new(node).address])

    def _emit(
        self, placement: Placement, node: Node, moved: _Pass, *, is_reversed: bool, added_to: Place | None
    ) -> None:
        source, weight = node.inputs
        channels = moved.source[1] // self._kind.groups
        is_paired = _is_bf16(placement) and channels % 2 == 0
        x = _read(placement, source, _IMAGES_LAST)
        cells = _paired(placement, source, x, _IMAGES_LAST) if is_paired else x.address
        taps = self._taps(placement, weight, is_reversed=is_reversed, is_paired=is_paired)
        result = placement.result(node, _IMAGES_LAST, added_to)
        name = "convolve_field_bf16" if is_paired else "convolve_field"
        addresses = [taps, cells, result.address]
        placement.program.emit(name, self._sizes(moved), addresses, float(added_to is not None))

    def _sizes(self, moved: _Pass) -> list[int]:
        batch, channels, *field = moved.source
        _, outputs, *results = moved.result
        shapes = [batch, *field, channels, *results, outputs, *moved.kernel]
        return [*shapes, *moved.start, self._kind.groups]

    def _taps(self, placement: Placement, weight: Node, *, is_reversed: bool, is_paired: bool) -> int:
        """Returns the address of weights (O, taps, C / groups); reversed: (C, taps, O / groups)."""
        name = ("taps", weight, self._kind.groups, is_reversed, is_paired)
        if name not in placement.memo:
            outputs, channels, height, width = weight.shape
            groups, taps = self._kind.groups, height * width
            place = placement.dense(weight).reshaped((groups, outputs // groups, channels, taps))
            assert place is not None
            place = _reversed_taps(place).permuted((0, 2, 1, 3)) if is_reversed else place
            place, program = place.permuted((0, 1, 3, 2)), placement.program
            ordered = dense_place(program.buffer(weight.size), place.shape, range(4))
            emit_move(program, place, ordered)
            address = ordered.address
            placement.memo[name] = program.operand(address, weight.size) if is_paired else address
        return placement.memo[name]


def _is_bf16(placement: Placement) -> bool:
    return placement.program.operand_bytes != FLOAT_BYTES


def _paired(placement: Placement, node: Node, place: Place, order: Sequence[int]) -> int:
    """Returns the address of an array in bfloat16, the elements of two rows side by side."""
    name, columns = ("paired", node, *order), place.shape[order[-1]]
    if name not in placement.memo:
        pairs, stride = node.size // columns // 2, -(-columns // VECTOR) * VECTOR
        placement.memo[name] = placement.program.buffer(pairs * stride)
        placement.program.emit("pair_rows", [pairs, columns], [place.address, placement.memo[name]])
    return placement.memo[name]


def _reversed_taps(place: Place) -> Place:
    """Returns the same elements, the last axis from its end to its start."""
    *steps, step = place.strides
    last = place.address + FLOAT_BYTES * step * (place.shape[-1] - 1)
    return Place(last, place.shape, (*steps, -step))


def _read(placement: Placement, x: Node, order: Sequence[int]) -> Place:
    """Returns the place of x, or of a copy, in an order of its axes; a kernel may read beyond its end."""
    place = placement.dense(x, order)
    if not is_leaf(root_of(x)) or root_of(x).operation == "images":
        return place
    copied = placement.fresh(x, order)
    emit_move(placement.program, place, copied)
    return copied
