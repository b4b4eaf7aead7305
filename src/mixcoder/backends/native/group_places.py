"""Chooses where the results of a fused group lie: in the order of what it reads, and there where it is free.

places of inputs ─▶ order of the group's axes in memory ─▶ places of outputs
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from mixcoder.backends.native.fusion import Frame, Fused, frame_of_input
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.lifetimes import Lifetimes
from mixcoder.backends.native.placement import Placement, root_of
from mixcoder.backends.native.placing import Place


def places_of_group(placement: Placement, lifetimes: Lifetimes, group: Fused) -> dict[Node, Place]:
    """Returns the places of all inputs and outputs of a group; those of outputs are noted."""
    places = {x: placement.place(x) for x in group.inputs}
    order = _order(group, places)
    for x, place in places.items():
        permuted = _by_axis(group, x, place)
        # A copy is faster than to read here and there.
        if permuted and order and permuted.strides[order[-1]] != 1:
            axes = _frames(group, x)[0].axes
            places[x] = placement.dense(x, [axes.index(axis) for axis in order])
    roots = Counter(root_of(x) for x in group.inputs)
    whole = ((x, _by_axis(group, x, places[x])) for x in group.inputs)
    free = [place for x, place in whole if place and roots[root_of(x)] == 1 and lifetimes.ends(x)]
    for node in group.outputs:
        places[node] = _result(placement, group, node, order, free)
        placement.put(node, places[node])
    return places


def _order(group: Fused, places: Mapping[Node, Place]) -> Sequence[int]:
    """Returns the axes of a group in the order in which most of its whole inputs lie."""
    permuted = [_by_axis(group, x, place) for x, place in places.items()]
    orders = Counter(place.order for place in permuted if place)
    return orders.most_common(1)[0][0] if orders else tuple(range(len(group.shape)))


def _by_axis(group: Fused, x: Node, place: Place) -> Place | None:
    """Returns the place of an input with the axes of its group; None where it is no whole one."""
    frame, *others = _frames(group, x)
    if others or frame.reduced or not place.is_dense:
        return None
    permuted = place.permuted([frame.axes.index(axis) for axis in range(len(group.shape))])
    return permuted if permuted.shape == group.shape else None


def _frames(group: Fused, x: Node) -> list[Frame]:
    """Returns the frames in which a group reads an input."""
    frames = (
        frame_of_input(node, i, group.frames)
        for node in group.nodes
        for i, read in enumerate(node.inputs)
        if read is x
    )
    return list(dict.fromkeys(frames))


def _result(placement: Placement, group: Fused, node: Node, order: Sequence[int], free: list[Place]) -> Place:
    """Returns the place of an output: where it is wanted, in the place of an input, or new memory."""
    frame = group.frames[node]
    if placement.wanted(node) is not None or frame.reduced:
        return placement.new(node)
    if free:
        return free.pop().permuted(frame.axes)
    return placement.new(node, [frame.axes.index(axis) for axis in order])
