"""Gathers elementwise nodes into groups, each of which is computed in one pass over memory.

    nodes ─▶ steps: nodes, and groups of nodes (`Fused`) over arrays of one shape

A node joins the group of its latest computed input where it fits: all its other inputs are computed before
that group. Else it joins the first group that comes after all its inputs and reads one of them. So a
derivative that needs values of the forward pass alone is computed with them, and the gradient of a scale
together with that of its input. A group has

- nodes of its shape: add, mul, keep, affine and unary;
- sums and maxima of them. Those over the group's rows can be used again within it: (…, C) ─▶ (…, 1) ─▶
  arithmetic ─▶ expand to (…, C), as norms and softmax do. Others are results of the group;
- permutations of them, at no cost: the nodes after one are computed with their axes in another order.

Movements of what a group does not compute are no part of it: it reads them where they lie, with a stride of 0
along repeated axes. Some nodes are to stay apart, such as a sum whose product is added to what is in memory.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mixcoder.backends.native.codes import ADDRESSES
from mixcoder.backends.native.graph import ELEMENTWISE, MOVEMENTS, Node, Shape

OPERANDS = ADDRESSES - 1
"""The most arrays that a group reads and writes: one address is that of its instructions."""
_NODES = 64
"""The most nodes of a group, whose values have to lie in a processor's first-level cache together."""
_ROW_ELEMENTS = 8192
"""The most elements of a row whose sum is used within a group: 32 KiB."""

REDUCTIONS = ("sum", "maximum")
ALIASES = ("expand", "permute")
"""Movements within a group, which cost nothing."""

_Position = tuple[int, int]
"""(index of the node that began a step, index within what follows from that step at once)."""
_BEFORE: _Position = (-1, 0)
"""Of the leaves."""
_VIEWS_AFTER = 1 << 30


class Frame(NamedTuple):
    """How the axes of a node lie within those of its group.

    Attributes:
        axes: of the group, one for each axis of the node.
        reduced: axes of the group that the node has summed, ascending.
    """

    axes: Shape
    reduced: Shape = ()


Read = tuple[Node, Frame]
"""An input of a group, and the frame in which it is read."""


@dataclass(frozen=True, eq=False)
class Fused:
    """A group of nodes that are computed together.

    Attributes:
        nodes: in an order in which they can be computed.
        inputs: arrays that the group reads, each once.
        outputs: nodes of the group that are used elsewhere.
        shape: of the arrays that the group goes over.
        rows: axes of that shape whose sums are used within the group; none, or few elements.
        frames: of the nodes, and of inputs that are permuted or repeated within the group.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    shape: Shape
    rows: Shape
    frames: Mapping[Node, Frame] = field(repr=False)


def fuse(nodes: Sequence[Node], kept: Collection[Node], apart: Collection[Node] = ()) -> list[Node | Fused]:
    """Returns the steps that compute nodes, in order.

    Args:
        nodes: all that are needed, each after its inputs.
        kept: nodes that are needed beside those that other nodes use.
        apart: nodes that are steps of their own.
    """
    uses = _Uses(nodes, kept)
    planner = _Planner(uses, apart)
    for node in nodes:
        planner.add(node)
    return planner.steps()


def reads_of(fused: Fused) -> list[Read]:
    """Returns what a group reads, each once; an input may be read in several frames."""
    inputs = {*fused.inputs}
    reads = {
        (node.inputs[i], frame_of_input(node, i, fused.frames)): None
        for node in fused.nodes
        for i in range(len(node.inputs))
        if node.inputs[i] in inputs
    }
    return [*reads]


def frame_of_input(node: Node, index: int, frames: Mapping[Node, Frame]) -> Frame:
    """Returns the frame in which a node of a group reads one of its inputs."""
    if node.operation in ALIASES:
        return frames[node.inputs[index]]
    if node.operation in REDUCTIONS:
        return Frame(frames[node].axes)
    return frames[node]


class _Uses:
    """Which nodes use a node, and whether it is needed beside that."""

    def __init__(self, nodes: Sequence[Node], kept: Collection[Node]) -> None:
        self.kept = {*kept}
        self._of: defaultdict[Node, list[Node]] = defaultdict(list)
        for node in nodes:
            for read in node.inputs:
                self._of[read].append(node)

    def is_needed_outside(self, node: Node, group: Collection[Node]) -> bool:
        return node in self.kept or any(use not in group for use in self._of[node])

    def is_used_within(self, node: Node, group: Collection[Node]) -> bool:
        return any(use in group for use in self._of[node])


@dataclass(eq=False)
class _Group:
    """A group that nodes may join."""

    shape: Shape
    rows: Shape = ()
    frames: dict[Node, Frame] = field(default_factory=dict)
    reads: dict[Node, Shape] = field(default_factory=dict)  # axes of what is read in the group's shape

    def frame_beside(self, node: Node) -> Frame | None:
        """Returns the frame of a node that has an input in common with this group."""
        for read in node.inputs:
            source, order = _source(read)
            if source in self.reads:
                frame = Frame(tuple(self.reads[source][axis] for axis in order))
                return _reduced(node, frame) if node.operation in REDUCTIONS else frame
        return None

    def frame_of(self, node: Node) -> Frame | None:
        """Returns the frame that a node would have in this group; None where it does not fit."""
        frames = [self.frames[read] for read in node.inputs if read in self.frames]
        frame = frames[0]
        match node.operation:
            case "permute":
                (axes,) = node.attributes
                return Frame(tuple(frame.axes[axis] for axis in axes), frame.reduced)
            case "expand":
                is_whole = node.shape == tuple(self.shape[axis] for axis in frame.axes)
                return Frame(frame.axes) if is_whole and self._may_use(frame.reduced) else None
            case "sum" | "maximum":
                return None if frame.reduced else _reduced(node, frame)
            case operation if operation in ELEMENTWISE:
                is_one = all(other == frame for other in frames)
                return frame if is_one and (not frame.reduced or self._may_use(frame.reduced)) else None
        return None

    def add(self, node: Node, frame: Frame) -> list[Node]:
        """Lets a node join; returns what the group reads for it in its own shape."""
        self.frames[node] = frame
        if node.operation in ELEMENTWISE and frame.reduced:
            self.rows = frame.reduced
        elif node.operation == "expand":
            self.rows = self.frames[node.inputs[0]].reduced
        if frame.reduced and node.operation not in REDUCTIONS:
            return []
        sources = []
        for read in node.inputs:
            if read not in self.frames:
                source, order = _source(read)
                back = sorted(range(len(order)), key=order.__getitem__)
                self.reads.setdefault(source, tuple(frame.axes[axis] for axis in back))
                sources.append(source)
        return sources

    def _may_use(self, reduced: Shape) -> bool:
        """Says whether sums over these axes may be used within the group; the first axis is the batch."""
        elements = math.prod(self.shape[axis] for axis in reduced)
        return self.rows == reduced or (not self.rows and 0 not in reduced and elements <= _ROW_ELEMENTS)


def _reduced(node: Node, frame: Frame) -> Frame:
    """Returns the frame of a sum or maximum of a node of a group's shape."""
    summed = [axis for axis, size in enumerate(node.shape) if size != node.inputs[0].shape[axis]]
    return Frame(frame.axes, tuple(sorted(frame.axes[axis] for axis in summed)))


def _source(read: Node) -> tuple[Node, Shape]:
    """Returns what an array is a permutation of, and the order of its axes there."""
    if read.operation == "permute":
        return read.inputs[0], read.attributes[0]
    return read, tuple(range(read.rank))


class _Planner:
    """Finds a step for one node after the other."""

    def __init__(self, uses: _Uses, apart: Collection[Node]) -> None:
        self._uses, self._apart = uses, apart
        self._positions: dict[Node, _Position] = {}
        self._groups: dict[_Position, _Group] = {}
        self._readers: defaultdict[Node, list[_Position]] = defaultdict(list)

    def add(self, node: Node) -> None:
        """Lets a node join a group, begin one, or be a step of its own."""
        latest = max((self._positions.get(read, _BEFORE) for read in node.inputs), default=_BEFORE)
        group = self._groups.get(latest)
        index = len(self._positions)
        if not node.inputs:
            self._positions[node] = _BEFORE
        elif node in self._apart:
            self._positions[node] = (index, 0)
        elif group and (frame := group.frame_of(node)):
            self._join(node, latest, frame)
        elif node.operation in (*ELEMENTWISE, *REDUCTIONS):
            self._join_reader(node, latest, (index, 0))
        elif node.operation in MOVEMENTS:
            self._positions[node] = (latest[0], _VIEWS_AFTER)
        else:
            self._positions[node] = (index, 0)

    def steps(self) -> list[Node | Fused]:
        """Returns all steps in order."""
        placed: list[tuple[_Position, Node | Fused]] = []
        for node, position in self._positions.items():
            if position not in self._groups:
                placed.append((position, node))
        for position, group in self._groups.items():
            placed += _parts(group, position, self._uses)
        return [step for _, step in sorted(placed, key=_position)]

    def _join_reader(self, node: Node, latest: _Position, position: _Position) -> None:
        """Lets a node join the first group after its inputs that reads one of them, or begin a new group."""
        readers = {reader for read in node.inputs for reader in self._readers[_source(read)[0]]}
        for reader in sorted(reader for reader in readers if reader > latest):
            frame = self._groups[reader].frame_beside(node)
            if frame is not None:
                self._join(node, reader, frame)
                return
        self._groups[position] = _Group(node.inputs[0].shape)
        frame = Frame(tuple(range(node.rank)))
        self._join(node, position, _reduced(node, frame) if node.operation in REDUCTIONS else frame)

    def _join(self, node: Node, position: _Position, frame: Frame) -> None:
        for source in self._groups[position].add(node, frame):
            self._readers[source].append(position)
        self._positions[node] = position


def _position(placed: tuple[_Position, Node | Fused]) -> _Position:
    return placed[0]


def _parts(group: _Group, position: _Position, uses: _Uses) -> list[tuple[_Position, Node | Fused]]:
    """Returns the steps of a group: few enough operands each, and its movements that are used elsewhere."""
    placed: list[tuple[_Position, Node | Fused]] = []
    left, part = [*group.frames], 0
    while left:
        count = min(len(left), _NODES)
        fused = _fused(group, left[:count], uses)
        while len(reads_of(fused)) + len(fused.outputs) > OPERANDS:
            count -= 1
            fused = _fused(group, left[:count], uses)
        if fused.nodes:
            placed.append(((position[0], part), fused))
        taken = {*left[:count]}
        views = [node for node in left[:count] if node.operation in ALIASES]
        placed += [
            ((position[0], part + 1), node) for node in views if uses.is_needed_outside(node, {*fused.nodes})
        ]
        left, part = [node for node in left if node not in taken], part + 2
    return placed


def _fused(group: _Group, nodes: Sequence[Node], uses: _Uses) -> Fused:
    """Returns nodes of a group, without the movements that none of them uses."""
    members = dict.fromkeys(nodes)
    for node in reversed(nodes):
        if node.operation in ALIASES and not uses.is_used_within(node, members):
            del members[node]
    needed: dict[Node, None] = {}
    for node in reversed(members):
        is_needed = node in needed or uses.is_needed_outside(node, members)
        if is_needed and node.operation in ALIASES:
            needed.update(dict.fromkeys(read for read in node.inputs if read in members))
        elif is_needed:
            needed[node] = None
    outputs = tuple(node for node in members if node in needed and node.operation not in ALIASES)
    inputs = dict.fromkeys(read for node in members for read in node.inputs if read not in members)
    return Fused(tuple(members), tuple(inputs), outputs, group.shape, group.rows, group.frames)
