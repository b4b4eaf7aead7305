"""Checks that each output image depends on its own input image alone: then a batch can be computed in shards.

In the elements of a node one after the other, as (before, B, after), the image of an element follows from its
distance from the next image: `after`. No reshape changes it, and each other operation moves it with an axis.

    images (B, C, H, W) ─▶ distance C·H·W ─ operation by operation ─▶ outputs: the same distance, or an error
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mixcoder.backends.native import graph
from mixcoder.backends.native.derivatives import sorted_nodes
from mixcoder.backends.native.graph import Node
from mixcoder.backends.step import UnsupportedError

_ALONG_AXES = {"slice", "pad", "cat", "sum", "maximum"}
"""Operations that mix the elements along the axes that their first attribute states."""


class _ImageAxis(NamedTuple):
    """Where the images of a batch are in an array.

    Attributes:
        position: of the axis.
        distance: along this axis from an element to that of the next image.
    """

    position: int
    distance: int


def check_images_apart(images: Node, outputs: Node) -> None:
    """Checks that no output depends on the input of another image of the batch; of a batch of one, nothing.

    Args:
        images: (B, C, H, W), a leaf.
        outputs: (B, C, H, W), computed from them.

    Raises:
        UnsupportedError: one does.
    """
    batch = images.shape[0]
    axes: dict[Node, _ImageAxis] = {}
    for node in sorted_nodes([outputs]) if batch > 1 else ():
        if node is images:
            axes[node] = _ImageAxis(0, 1)
        elif any(source in axes for source in node.inputs):
            axes[node] = _axis_after(node, [axes.get(source) for source in node.inputs], batch)
    if axes.get(outputs, _ImageAxis(0, 1)) != _ImageAxis(0, 1):
        raise _mixed(outputs)


def _axis_after(node: Node, axes: Sequence[_ImageAxis | None], batch: int) -> _ImageAxis:
    """Returns where the images are in a node, from where they are in its inputs."""
    match node.operation:
        case "reshape":
            return _after_reshape(node, axes[0] or _ImageAxis(0, 1), batch)
        case "permute":
            axis = axes[0] or _ImageAxis(0, 1)
            return _ImageAxis(node.attributes[0].index(axis.position), axis.distance)
        case "contract":
            return _after_contract(node, axes)
        case "like" if axes[0] is None:
            raise _mixed(node)  # so that no distance would be known
    known = {axis for axis in (axes[:1] if node.operation == "like" else axes) if axis is not None}
    if len(known) != 1:
        raise _mixed(node)
    [axis] = known
    if node.operation in _ALONG_AXES and axis.position in _stated_axes(node):
        raise _mixed(node)
    is_convolution = node.operation in ("convolve", "adjoint")
    if node.operation == "correlate" or (
        is_convolution and (axis != _ImageAxis(0, 1) or axes[1] is not None)
    ):
        raise _mixed(node)
    return axis


def _stated_axes(node: Node) -> Sequence[int]:
    axes = node.attributes[0]
    return [axes] if isinstance(axes, int) else axes


def _after_contract(node: Node, axes: Sequence[_ImageAxis | None]) -> _ImageAxis:
    *of_operands, of_result = graph.split_labels(node.attributes[0])
    known = {
        (labels[axis.position], axis.distance)
        for labels, axis in zip(of_operands, axes, strict=True)
        if axis is not None
    }
    label, distance = next(iter(known))
    if len(known) > 1 or label not in of_result:
        raise _mixed(node)
    return _ImageAxis(of_result.index(label), distance)


def _after_reshape(node: Node, axis: _ImageAxis, batch: int) -> _ImageAxis:
    """Returns the one axis after a reshape in which all images are."""
    before = node.inputs[0].shape
    distance = axis.distance * graph.steps_of(before)[axis.position]
    for index, (size, step) in enumerate(zip(node.shape, graph.steps_of(node.shape), strict=True)):
        if distance % step == 0 and (step * size) % (distance * batch) == 0:
            return _ImageAxis(index, distance // step)
    raise _mixed(node)


def _mixed(node: Node) -> UnsupportedError:
    return UnsupportedError(f"images of a batch are not computed one by one (a {node.operation} joins them)")
