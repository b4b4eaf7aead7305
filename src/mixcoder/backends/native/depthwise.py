"""Emits convolutions in which each channel has its own kernel: x (B, C, *field) by weights (C, 1, *kernel).

Arrays lie as (*field, B, C) in memory, weights as (*kernel, C). A plan lists for each position of a result
the positions and taps that make it; the adjoint has the same terms, listed by the positions of x.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from mixcoder.backends.native.graph import Node, steps_of
from mixcoder.backends.native.kinds import Depthwise
from mixcoder.backends.native.placement import Placement
from mixcoder.backends.native.placing import Place, dense_place


class _Term(NamedTuple):
    """A product that a convolution adds up: an element of x times a tap, for an element of z."""

    z: int
    x: int
    tap: int


class DepthwiseConvolution:
    """The operations of a kind."""

    def __init__(self, kind: Depthwise) -> None:
        axes = range(2, 2 + len(kind.kernel))
        self._order, self._order_of_weights = (*axes, 0, 1), (1, *axes, 0)
        self._kind = kind

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z."""
        x, weight = node.inputs
        self._emit(placement, _terms(self._kind), (x, weight), placement.new(node, self._order))

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x."""
        z, weight = node.inputs
        terms = [(term.x, term.z, term.tap) for term in _terms(self._kind)]
        out = placement.result(node, self._order, added_to)
        self._emit(placement, terms, (z, weight), out, is_added=added_to is not None)

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights."""
        z, x = node.inputs
        addresses = [placement.dense(read, self._order).address for read in (z, x)]
        out = dense_place(placement.program.buffer(node.size), node.shape, self._order_of_weights)
        plan = self._plan(placement, _terms(self._kind), z)
        placement.program.emit("depthwise_correlate", [], [plan, *addresses, out.address])
        placement.put(node, out)

    def _emit(
        self,
        placement: Placement,
        terms: Sequence[tuple[int, int, int]],
        read: tuple[Node, Node],
        out: Place,
        *,
        is_added: bool = False,
    ) -> None:
        """Emits sums for each position that comes first in a term."""
        source, weight = read
        weights = placement.dense(weight, self._order_of_weights).address
        address = placement.dense(source, self._order).address
        plan = self._plan(placement, terms, out)
        placement.program.emit("depthwise", [is_added], [plan, weights, address, out.address])

    def _plan(self, placement: Placement, terms: Sequence[tuple[int, int, int]], target: Node | Place) -> int:
        """Returns the address of what the kernel goes through: for each position of the target, its terms."""
        batch, channels, *field = target.shape
        positions = math.prod(field)
        counts = [0] * positions
        for position, _, _ in terms:
            counts[position] += 1
        starts = itertools.accumulate(counts, initial=0)
        pairs = itertools.chain.from_iterable((read, tap) for _, read, tap in sorted(terms))
        sizes = [positions, batch, channels, math.prod(self._kind.kernel)]
        return placement.program.keep(torch.tensor([*sizes, *starts, *pairs], dtype=torch.int32))


def _terms(kind: Depthwise) -> list[_Term]:
    """Returns the products of all positions."""
    axes = [_terms_of_axis(kind, axis) for axis in range(len(kind.kernel))]
    steps = [steps_of(sizes) for sizes in (kind.result, kind.field, kind.kernel)]
    found = []
    for terms in itertools.product(*axes):
        of_each = zip(zip(*terms, strict=True), steps, strict=True)
        found.append(_Term(*(_position(index, step) for index, step in of_each)))
    return found


def _position(index: Sequence[int], steps: Sequence[int]) -> int:
    return sum(i * step for i, step in zip(index, steps, strict=True))


def _terms_of_axis(kind: Depthwise, axis: int) -> list[_Term]:
    """Returns the products along one axis of the field."""
    terms = []
    for z, tap in itertools.product(range(kind.result[axis]), range(kind.kernel[axis])):
        x = z * kind.stride[axis] - kind.padding[axis] + tap * kind.dilation[axis]
        if 0 <= x < kind.field[axis]:
            terms.append(_Term(z, x, tap))
    return terms
