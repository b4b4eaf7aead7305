"""The kinds of convolutions that have operations of their own, and what an emitter of them does.

    kind ─emitters.py─▶ convolve, adjoint, correlate: each emits the operations of a node

A kind describes a convolution; equal kinds compute the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mixcoder.backends.native.graph import Node, Shape
from mixcoder.backends.native.placement import Placement
from mixcoder.backends.native.placing import Place


@dataclass(frozen=True)
class TokenMixing:
    """A convolution of x (B, P, C) with the patches as channels: weights (P, P, *kernel), field C.

    Attributes:
        kernel: taps along each axis of the field, odd.
        field: (C,), or (height, width) with height · width = C.
    """

    kernel: Shape
    field: Shape

    def result_shape(self, x: Shape, weight: Shape) -> Shape:
        """Returns the shape of z, which is that of x."""
        return x


@dataclass(frozen=True)
class OverPatches:
    """A convolution of x (B, P, C) over the patches: weights (C, C, *kernel), field P.

    Attributes:
        kernel: taps along each axis of the field, odd.
        field: (P,), or (rows, columns) of the grid of patches.
    """

    kernel: Shape
    field: Shape

    def result_shape(self, x: Shape, weight: Shape) -> Shape:
        """Returns the shape of z, which is that of x."""
        return x


@dataclass(frozen=True)
class Depthwise:
    """A convolution of x (B, C, *field) in which each channel has its own kernel: weights (C, 1, *kernel).

    Attributes:
        kernel: taps along each axis of the field.
        field: sizes of x.
        result: sizes of z.
        stride: positions of x from one position of z to the next.
        padding: zeros before the field.
        dilation: positions of x from one tap to the next.
    """

    kernel: Shape
    field: Shape
    result: Shape
    stride: Shape
    padding: Shape
    dilation: Shape

    def result_shape(self, x: Shape, weight: Shape) -> Shape:
        """Returns the shape of z."""
        return (*x[:2], *self.result)


@dataclass(frozen=True)
class OverField:
    """A convolution of x (B, C, H, W) of stride 1: weights (O, C / groups, kernel height, kernel width).

    Attributes:
        before: zeros above and to the left of the field, or rows and columns left out where below 0.
        after: the same, below it and to the right.
        groups: parts of the channels, each with weights of its own for its part of the O results.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    groups: int = 1

    def result_shape(self, x: Shape, weight: Shape) -> Shape:
        """Returns the shape of z, (B, O, height, width)."""
        sizes = zip(x[2:], weight[2:], self.before, self.after, strict=True)
        return (x[0], weight[0], *(size + first + last - taps + 1 for size, taps, first, last in sizes))


class ConvolutionEmitter(Protocol):
    """Emits the operations of a kind of convolution, and notes where each result lies."""

    def convolve(self, placement: Placement, node: Node) -> None:
        """Emits z from x and weights."""

    def adjoint(self, placement: Placement, node: Node, added_to: Place | None) -> None:
        """Emits the gradients of x from those of z and the weights, or adds them to an array.

        Raises:
            UnsuitedResultError: they cannot be added to an array that lies so.
        """

    def correlate(self, placement: Placement, node: Node) -> None:
        """Emits the gradients of the weights from those of z and x."""
