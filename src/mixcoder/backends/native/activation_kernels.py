"""Emits groups of nodes for which there is one kernel: an activation after a product, and its gradients.

z + bias ─▶ activation ─▶ + residual     z is overwritten by the derivatives, which the backward pass reads
gradients · derivatives ─▶ sums          derivatives are overwritten by the gradients of z
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mixcoder.backends.native.codes import ACTIVATIONS
from mixcoder.backends.native.fusion import Fused
from mixcoder.backends.native.graph import PRODUCTS, Node, steps_of
from mixcoder.backends.native.lifetimes import Lifetimes
from mixcoder.backends.native.placement import Placement, root_of
from mixcoder.backends.native.placing import Place
from mixcoder.models.activations import ACTIVATIONS as ACTIVATION_NAMES

_ARGUMENTS = {"leaky_relu": (0.01,), "elu": (1.0,)}
_CODES = {
    (name, *_ARGUMENTS.get(name, ())): ACTIVATIONS.index(ACTIVATION_NAMES[name])
    for name in ACTIVATION_NAMES
    if ACTIVATION_NAMES[name] in ACTIVATIONS
}
"""The kernel's number of each activation that has one, by the attributes of its node."""


class _Rows(NamedTuple):
    """An array as rows and columns, with a vector that has an element for each column, or for each row.

    Attributes:
        rows: of the array.
        columns: of the array.
        is_of_rows: whether the vector is.
        more: arrays of as many rows and columns that follow, for the same vector.
    """

    rows: int
    columns: int
    is_of_rows: bool
    more: int = 0


class _Forward(NamedTuple):
    """Nodes of a group that computes activation(z + bias) + residual.

    Attributes:
        z: the product.
        bias: as it is added.
        code: number of the activation; 0 for none.
        residual: None where nothing is added.
        value: the result.
        derivative: None where there is none.
    """

    z: Node
    bias: Node
    code: int
    residual: Node | None
    value: Node
    derivative: Node | None


def emit_activation(placement: Placement, lifetimes: Lifetimes, group: Fused) -> bool:
    """Emits a group as an activation after a product; returns False where it is another."""
    found = _forward(group)
    if found is None or not lifetimes.ends(found.z) or _shares_memory(found):
        return False
    z, bias = placement.place(found.z), placement.place(found.bias)
    rows = _rows(z, bias) if z.is_dense else None
    residual = placement.place(found.residual) if found.residual else None
    if rows is None or (residual is not None and residual.strides != z.strides):
        return False
    value = placement.new(found.value, z.order) if found.code else z
    if value.strides != z.strides:
        return False
    addresses = [z.address, bias.address, residual.address if residual else 0, value.address]
    *sizes, more = rows
    placement.program.emit("activate", [*sizes, found.code, more], addresses)
    placement.put(found.value, value)
    if found.derivative:
        placement.put(found.derivative, z)
    return True


def _shares_memory(found: _Forward) -> bool:
    """Returns whether z, which is overwritten, is read elsewhere as bias or residual."""
    z = root_of(found.z)
    others = [found.bias] if found.residual in (None, found.z) else [found.bias, found.residual]
    return any(root_of(other) is z for other in others if other is not None)


def emit_activation_backward(placement: Placement, lifetimes: Lifetimes, group: Fused) -> bool:
    """Emits a group as the gradients of an activation and of a bias; returns False where it is another."""
    match group.nodes:
        case (Node(operation="sum") as total,) if not group.rows:
            gradient, derivative = total.inputs[0], None
        case (Node(operation="mul") as product, Node(operation="sum") as total) if product in total.inputs:
            derivative = next((x for x in product.inputs if _is_derivative(x)), None)
            if derivative is None or not lifetimes.ends(derivative):
                return False
            gradient = product.inputs[product.inputs[0] is derivative]
        case _:
            return False
    place = placement.place(gradient)
    of = placement.place(derivative) if derivative else place
    rows = _rows_of_sum(place, total) if place.is_dense else None
    if rows is None or of.strides != place.strides:
        return False
    out = placement.new(total)
    addresses = [place.address, of.address if derivative else 0, out.address]
    placement.program.emit("activate_backward", rows, addresses)
    if derivative:
        placement.put(group.nodes[0], of)
    return True


def _forward(group: Fused) -> _Forward | None:
    biased, *others = group.nodes
    if biased.operation != "add" or group.rows:
        return None
    z = next((x for x in biased.inputs if root_of(x).operation in PRODUCTS), None)
    if z is None:
        return None
    bias = biased.inputs[biased.inputs[0] is z]
    value, derivative, added = biased, None, None
    for node in others:
        match node:
            case Node(operation="unary", inputs=(x,)) if x is biased:
                if node.attributes in _CODES and value is biased:
                    value = node
                elif _is_derivative(node) and derivative is None:
                    derivative = node
                else:
                    return None
            case Node(operation="add") if added is None and node.inputs.count(value) == 1:
                added = node
            case _:
                return None
    if derivative is not None and _of_derivative(derivative) != value.attributes:
        return None
    residual = added.inputs[added.inputs[0] is value] if added else None
    result = added or value
    if residual in group.nodes or {*group.outputs} != {result, derivative} - {None}:
        return None
    code = _CODES[value.attributes] if value is not biased else 0
    return _Forward(z, bias, code, residual, result, derivative)


def _is_derivative(node: Node) -> bool:
    return node.operation == "unary" and node.attributes[0].endswith("'")


def _of_derivative(node: Node) -> tuple[object, ...]:
    """Returns the attributes of the function whose derivative a node is."""
    name, *arguments = node.attributes
    return (name.removesuffix("'"), *arguments)


def _rows(z: Place, vector: Place) -> _Rows | None:
    """Returns rows and columns of z for a vector that is repeated over all other axes, or None."""
    order = z.order
    return _split([z.shape[axis] for axis in order], [vector.strides[axis] for axis in order])


def _rows_of_sum(place: Place, total: Node) -> _Rows | None:
    """Returns rows and columns of an array for the sums over all other axes."""
    (summed,) = total.attributes
    order = place.order
    kept = [axis for axis in order if axis not in summed and place.shape[axis] > 1]
    if kept != sorted(kept):  # the sums lie in the order of their axes
        return None
    steps = dict(zip(kept, steps_of([place.shape[axis] for axis in kept]), strict=True))
    return _split([place.shape[axis] for axis in order], [steps.get(axis, 0) for axis in order])


def _split(shape: Sequence[int], steps: Sequence[int]) -> _Rows | None:
    """Returns rows and columns, from sizes and a vector's strides along axes in the order of memory."""
    axes = [(size, step) for size, step in zip(shape, steps, strict=True) if size > 1]
    elements = math.prod(size for size, _ in axes)
    own = [i for i, (_, step) in enumerate(axes) if step]
    if not own:
        return None
    size, is_joined = 1, True
    for i in reversed(own):
        is_joined &= axes[i][1] == size
        size *= axes[i][0]
    if not is_joined or own != list(range(own[0], own[-1] + 1)):
        return None
    if own[-1] == len(axes) - 1:
        return _Rows(elements // size, size, False)
    outer = math.prod(count for count, _ in axes[: own[0]])
    return _Rows(size, elements // (outer * size), True, outer - 1)
