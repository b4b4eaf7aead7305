"""A computation as a graph of few primitives: what is computed, not where in memory nor when.

    forward ─tracing.py─▶ nodes ─derivatives.py─▶ nodes of gradients ─lowering.py─▶ operations of a program

A node stands for an array of float32 of a known shape. There are no other operations than these, and the
derivative of each is made of them (derivatives.py): so a gradient is a graph again, and has gradients itself.

    operation    inputs  attributes            result
    images                                     the batch in [0, 1], (B, C, H, W)
    parameter            index                 one of the model's parameters
    constant             tensor                an array that training leaves as it is
    permute      x       axes                  axis i of the result is axis axes[i] of x
    reshape      x       shape                 the elements in the same order
    expand       x       shape                 axes of size 1 repeated
    slice        x       axis, start, stop     a part of one axis
    pad          x       axis, before, after   zeros at both ends of one axis
    cat          x, …    axis                  one after the other
    contiguous   x                             x itself, its elements to be stored in the order of its axes
    like         x, y                          x itself, its elements to be stored in the order of those of y
    stop         x                             x itself; has no gradient
    sum          x       axes                  these axes are then of size 1
    maximum      x       axis                  the largest element; has no gradient
    add, mul     a, b                          of equal shapes
    keep         x, m                          x where m is not 0, else 0; m has no gradient
    affine       x       factor, addend        x · factor + addend
    unary        x       name, arguments       a function of each element (functions.py)
    contract     a, b    labels                a product with sums over axes, as in einsum
    loss         x, y    name, scale           gradients of x; the loss itself goes to the step's result
    convolve     x, w    shapes of both, kind  z, a convolution of x by weights w (kinds.py)
    adjoint      z, w    shapes of x, w, kind  x, from the gradients of z
    correlate    z, x    shapes of x, w, kind  w, from the gradients of z

Equal nodes are made but once, as long as the first of their inputs lives.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

Shape = tuple[int, ...]

LEAVES = ("images", "parameter", "constant")
"""Operations whose memory belongs to the model or to the images."""
MOVEMENTS = ("permute", "reshape", "expand", "slice", "contiguous", "like", "stop")
"""Operations whose result may share the memory of their input."""
ELEMENTWISE = ("add", "mul", "keep", "affine", "unary")
"""Operations each element of whose result is computed from those in its place."""
PRODUCTS = ("contract", "convolve", "adjoint")
"""Operations that can add their result to what is there."""


@dataclass(frozen=True, eq=False)
class Node:
    """An array of float32 as the result of an operation.

    Attributes:
        operation: one of the table above.
        inputs: arrays that it is computed from.
        shape: of the array.
        attributes: of the operation, in the table's order.
        is_trained: whether it depends on a parameter.
        is_of_images: whether it depends on the images, and so on which images a batch has.
    """

    operation: str
    inputs: tuple[Node, ...]
    shape: Shape
    attributes: tuple[Any, ...] = ()
    is_trained: bool = False
    is_of_images: bool = False
    _made: dict[Hashable, Node] = field(default_factory=dict, repr=False)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"{self.operation}{list(self.shape)}{list(self.attributes) if self.attributes else ''}"


def make(operation: str, inputs: Sequence[Node], shape: Sequence[int], *attributes: Hashable) -> Node:
    """Returns the node of an operation: the one that was made before of the same inputs and attributes."""
    key = (operation, *(id(node) for node in inputs[1:]), *attributes)
    made = inputs[0]._made
    if key not in made:
        is_trained = any(node.is_trained for node in inputs)
        is_of_images = any(node.is_of_images for node in inputs)
        made[key] = Node(
            operation, tuple(inputs), tuple(map(int, shape)), attributes, is_trained, is_of_images
        )
    return made[key]


def steps_of(shape: Sequence[int]) -> Shape:
    """Returns the strides of an array whose elements lie in the order of its axes."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


# ── leaves ───────────────────────────────────────────────────────────────────────────────────────────


def images(shape: Sequence[int]) -> Node:
    """Returns the input of a network, (B, C, H, W)."""
    return Node("images", (), tuple(shape), is_of_images=True)


def parameter(shape: Sequence[int], index: int) -> Node:
    """Returns a parameter by its index among those that are trained."""
    return Node("parameter", (), tuple(shape), (index,), is_trained=True)


def constant(tensor: Tensor) -> Node:
    """Returns an array that no training step changes; it is read where the tensor lies."""
    return Node("constant", (), tuple(tensor.shape), (tensor,))


# ── movement ─────────────────────────────────────────────────────────────────────────────────────────


def permute(x: Node, axes: Sequence[int]) -> Node:
    """Returns x with its axes in another order."""
    axes = tuple(axes)
    if x.operation == "permute":
        (before,) = x.attributes
        return permute(x.inputs[0], [before[axis] for axis in axes])
    if axes == tuple(range(x.rank)):
        return x
    return make("permute", [x], [x.shape[axis] for axis in axes], axes)


def reshape(x: Node, shape: Sequence[int]) -> Node:
    """Returns the elements of x, in the order of its axes, in another shape."""
    shape = tuple(shape)
    assert math.prod(shape) == x.size, (x, shape)
    if x.operation == "reshape":
        return reshape(x.inputs[0], shape)
    return x if shape == x.shape else make("reshape", [x], shape, shape)


def expand(x: Node, shape: Sequence[int]) -> Node:
    """Returns x with its axes of size 1 repeated to a shape of as many axes."""
    shape = tuple(shape)
    assert len(shape) == x.rank, (x, shape)
    if x.operation == "expand":
        return expand(x.inputs[0], shape)
    return x if shape == x.shape else make("expand", [x], shape, shape)


def broadcast(x: Node, shape: Sequence[int]) -> Node:
    """Returns x in a shape of as many axes or more, which come first, as arithmetic broadcasts it."""
    return expand(reshape(x, (1,) * (len(shape) - x.rank) + x.shape), shape)


def part(x: Node, axis: int, start: int, stop: int) -> Node:
    """Returns the elements from start to stop of one axis."""
    if (start, stop) == (0, x.shape[axis]):
        return x
    shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
    return make("slice", [x], shape, axis, start, stop)


def pad(x: Node, axis: int, before: int, after: int) -> Node:
    """Returns x with zeros at both ends of one axis."""
    if before == after == 0:
        return x
    shape = (*x.shape[:axis], before + x.shape[axis] + after, *x.shape[axis + 1 :])
    return make("pad", [x], shape, axis, before, after)


def cat(parts: Sequence[Node], axis: int) -> Node:
    """Returns arrays one after the other along one axis."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    length = sum(x.shape[axis] for x in parts)
    return make("cat", parts, (*first.shape[:axis], length, *first.shape[axis + 1 :]), axis)


def contiguous(x: Node) -> Node:
    """Returns x, to be stored in the order of its axes."""
    return x if x.operation == "contiguous" else make("contiguous", [x], x.shape)


def like(x: Node, model: Node) -> Node:
    """Returns x, to be stored in the order of the elements of a model of its shape."""
    if model.operation in LEAVES:
        return x  # lies where it is wanted in any case
    if model.operation == "permute":
        return permute(like(permute(x, inverse_axes(model)), model.inputs[0]), model.attributes[0])
    return make("like", [x, model], x.shape)


def inverse_axes(x: Node) -> tuple[int, ...]:
    """Returns the axes that undo a permutation."""
    (axes,) = x.attributes
    return tuple(sorted(range(x.rank), key=axes.__getitem__))


def stop(x: Node) -> Node:
    """Returns x as an array that has no gradient."""
    return x if x.operation in ("stop", "constant") else make("stop", [x], x.shape)


# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────────
# A movement of an operand becomes one of the result: so chains of arithmetic stay together.


def total(x: Node, axes: Sequence[int]) -> Node:
    """Returns the sums over axes, which are then of size 1."""
    if x.operation == "permute":
        order = x.attributes[0]
        return permute(total(x.inputs[0], [order[axis] for axis in axes]), order)
    kept = tuple(axis for axis in sorted(axes) if x.shape[axis] != 1)
    shape = [1 if axis in kept else size for axis, size in enumerate(x.shape)]
    return make("sum", [x], shape, kept) if kept else x


def maximum(x: Node, axis: int) -> Node:
    """Returns the largest elements along an axis, which is then of size 1; they have no gradient."""
    return make("maximum", [x], [1 if i == axis else size for i, size in enumerate(x.shape)], axis)


def add(a: Node, b: Node) -> Node:
    """Returns the sum of two arrays of one shape."""
    return _elementwise("add", a, b)


def mul(a: Node, b: Node) -> Node:
    """Returns the product, element by element, of two arrays of one shape."""
    return _elementwise("mul", a, b)


def keep(x: Node, mask: Node) -> Node:
    """Returns x where a mask of its shape is not 0, and 0 elsewhere; the mask has no gradient."""
    return _elementwise("keep", x, mask)


def affine(x: Node, factor: float, addend: float = 0.0) -> Node:
    """Returns x · factor + addend."""
    if x.operation in _FREE:
        return _moved_like(x, affine(x.inputs[0], factor, addend))
    if x.operation == "affine":
        before, added = x.attributes
        return affine(x.inputs[0], before * factor, added * factor + addend)
    if (factor, addend) == (1.0, 0.0):
        return x
    return make("affine", [x], x.shape, float(factor), float(addend))


def unary(x: Node, name: str, *arguments: float) -> Node:
    """Returns a function of each element."""
    if x.operation in _FREE:
        return _moved_like(x, unary(x.inputs[0], name, *arguments))
    return make("unary", [x], x.shape, name, *arguments)


_FREE = {"permute", "reshape", "expand"}


def _moved_like(moved: Node, x: Node) -> Node:
    """Returns x after the movement that made another node."""
    match moved.operation:
        case "permute":
            return permute(x, moved.attributes[0])
        case "reshape":
            return reshape(x, moved.shape)
    return expand(x, moved.shape)


def _elementwise(operation: str, a: Node, b: Node) -> Node:
    """Returns an operation of two arrays, its axes in the order of the operand that was computed last."""
    assert a.shape == b.shape, (a, b)
    bases = [x.inputs[0] if x.operation == "permute" else x for x in (b, a)]
    arithmetic = [x for x, base in zip((b, a), bases, strict=True) if base.operation in ELEMENTWISE]
    first = arithmetic[0] if arithmetic else a
    if first.operation != "permute":
        return make(operation, [a, b], a.shape)
    back = inverse_axes(first)
    inner = permute(a, back), permute(b, back)
    return permute(make(operation, inner, inner[0].shape), first.attributes[0])


def contract(a: Node, b: Node, labels: str) -> Node:
    """Returns a product with sums, in the notation of einsum: `labels` such as "bpc,oc->bpo".

    Every label of an operand stands in the other operand or in the result.
    """
    of_a, of_b, of_result = split_labels(labels)
    sizes = dict(zip(of_a + of_b, a.shape + b.shape, strict=True))
    assert all(label in of_b + of_result for label in of_a), labels
    assert all(label in of_a + of_result for label in of_b), labels
    return make("contract", [a, b], [sizes[label] for label in of_result], labels)


def split_labels(labels: str) -> tuple[str, str, str]:
    """Returns the labels of a, of b and of the result of "a,b->result"."""
    operands, _, result = labels.partition("->")
    a, _, b = operands.partition(",")
    return a, b, result


def loss(outputs: Node, targets: Node, name: str, scale: float) -> Node:
    """Returns the gradients of `outputs`: scale times the derivative of the loss of each element."""
    return make("loss", [outputs, targets], outputs.shape, name, scale)


# ── convolutions ─────────────────────────────────────────────────────────────────────────────────────


class ConvolutionKind(Protocol):
    """How a convolution goes over its input: hashable, and equal where it is the same.

    The three operations of a kind are one trilinear form, <z, convolve(x, w)>: each is the derivative of
    the others.
    """

    def __hash__(self) -> int: ...

    def result_shape(self, x: Shape, weight: Shape) -> Shape:
        """Returns the shape of z."""


def convolve(x: Node, weight: Node, kind: ConvolutionKind) -> Node:
    """Returns z, the convolution of x by a weight."""
    return make(
        "convolve", [x, weight], kind.result_shape(x.shape, weight.shape), x.shape, weight.shape, kind
    )


def adjoint(z: Node, weight: Node, shape: Shape, kind: ConvolutionKind) -> Node:
    """Returns the gradients of x, of this shape, from those of z."""
    return make("adjoint", [z, weight], shape, shape, weight.shape, kind)


def correlate(z: Node, x: Node, shape: Shape, kind: ConvolutionKind) -> Node:
    """Returns the gradients of the weight, of this shape, from those of z."""
    return make("correlate", [z, x], shape, x.shape, shape, kind)
