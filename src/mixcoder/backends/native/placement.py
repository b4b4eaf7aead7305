"""Where the arrays of a graph lie, while the operations of one shard are emitted.

node ─▶ Place: of its result, of a part of another, or of a copy where a movement needs one
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mixcoder.backends.native.graph import LEAVES, MOVEMENTS, Node, steps_of
from mixcoder.backends.native.image_loading import ImageLoader
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.placing import Place, UnsuitedResultError, dense_place, order_for_reshape, view
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.shards import Shard, Vectors


@dataclass(frozen=True)
class Leaves:
    """Where a graph's parameters lie.

    Attributes:
        vectors: of all parameters.
        values: address of each parameter by its index.
    """

    vectors: Vectors
    values: Sequence[int]

    def value(self, node: Node) -> Place:
        """Returns the place of a parameter."""
        return Place(self.values[node.attributes[0]], node.shape, steps_of(node.shape))

    def gradient(self, node: Node) -> Place:
        """Returns the place of a parameter's gradients."""
        return self._in(self.vectors.gradients, node, FLOAT_BYTES)

    def operand(self, node: Node, element_bytes: int) -> int:
        """Returns the address of a parameter in the precision of products."""
        return self._in(self.vectors.operands, node, element_bytes).address

    def _in(self, vector: int, node: Node, element_bytes: int) -> Place:
        elements = (self.value(node).address - self.vectors.values) // FLOAT_BYTES
        return Place(vector + element_bytes * elements, node.shape, steps_of(node.shape))


class Placement:
    """The places of a graph's arrays, found or made as operations are emitted.

    Args:
        program: to emit to.
        shard: of the batch.
        leaves: parameters of the graph.
        wanted: places where the results of some nodes are to lie, such as gradients of parameters.
        slots: names of the nodes whose operands lie beside those of other shards.
        finals: nodes that are gradients of a parameter and nothing else.

    Attributes:
        memo: addresses of what several operations share, such as padded copies, by name.
        occupants: nodes whose copies lie in memory that several nodes use, one after the other, by name.
    """

    def __init__(
        self,
        program: Program,
        shard: Shard,
        leaves: Leaves,
        wanted: Mapping[Node, Place],
        slots: Mapping[Node, Hashable],
        finals: Collection[Node] = (),
    ) -> None:
        self.program = program
        self.shard = shard
        self.memo: dict[Hashable, int] = {}
        self.occupants: dict[Hashable, Node] = {}
        self._leaves, self._wanted, self._slots, self._finals = leaves, wanted, slots, finals
        self._places: dict[Node, Place] = {}
        self._images = ImageLoader(program)

    def place(self, node: Node) -> Place:
        """Returns where a node lies; a movement that steps in memory cannot express is copied now.

        Raises:
            UnsupportedError: pixels are read in an order that cannot be loaded.
        """
        if node not in self._places:
            self._places[node] = self._found(node)
        return self._places[node]

    def put(self, node: Node, place: Place) -> None:
        """Notes where a node's result lies."""
        self._places[node] = place

    def new(self, node: Node, order: Sequence[int] | None = None) -> Place:
        """Returns the place for a result in an order of its axes: where it is wanted, or new memory."""
        order = range(node.rank) if order is None else order
        wanted = self._wanted.get(node)
        if wanted is None or not wanted.permuted(order).is_contiguous:
            wanted = self.fresh(node, order)
        self.put(node, wanted)
        return wanted

    def result(self, node: Node, order: Sequence[int], added_to: Place | None) -> Place:
        """Returns the place for a result in an order of its axes, which may be one that it is added to.

        Raises:
            UnsuitedResultError: it lies in another order there.
        """
        if added_to is None:
            return self.new(node, order)
        if not added_to.permuted(order).is_contiguous:
            raise UnsuitedResultError
        self.put(node, added_to)
        return added_to

    def fresh(self, node: Node, order: Sequence[int]) -> Place:
        """Returns new memory for a node's elements, in an order of its axes."""
        return dense_place(self.program.buffer(node.size), node.shape, order)

    def wanted(self, node: Node) -> Place | None:
        """Returns where a node's result is to lie; None where it may lie anywhere."""
        return self._wanted.get(node)

    def is_final(self, node: Node) -> bool:
        """Returns whether a node lies at a parameter's gradients, and its elements are written there alone.

        What it leaves out there stays zero.
        """
        return node in self._finals and self.place(node) == self._wanted.get(node)

    def dense(self, node: Node, order: Sequence[int] | None = None) -> Place:
        """Returns a place of a node, or of a copy, whose elements lie in an order of its axes."""
        order = tuple(range(node.rank) if order is None else order)
        if root_of(node).operation == "images":
            return self._images.load(node, order)
        place = self.place(node)
        if place.permuted(order).is_contiguous:
            return place
        name = ("dense", node, order)
        target = dense_place(self.memo.get(name) or self.program.buffer(node.size), node.shape, order)
        if name not in self.memo:
            emit_move(self.program, place, target)
            self.memo[name] = target.address
        return target

    def all_slots(self, node: Node) -> int:
        """Returns the address of an operand of all shards, side by side."""
        return self.shard.all_slots(self._slots[node])

    def weight_of_gradient(self, place: Place) -> int:
        """Returns the address of the parameter whose gradients lie at a place."""
        return self._leaves.vectors.values + place.address - self._leaves.vectors.gradients

    def operand(self, node: Node, place: Place) -> int:
        """Returns the address of a node that lies at a place, in the precision of products.

        What lies densely is converted as a whole, once for all products that read it.
        """
        root = root_of(node)
        program = self.program
        if node in self._slots and place.is_contiguous:
            return self._slot(node, place)
        if program.operand_bytes == FLOAT_BYTES:
            return place.address
        if root.operation == "parameter":
            moved = (place.address - self._leaves.value(root).address) // FLOAT_BYTES
            if 0 <= moved < root.size:  # no copy of it
                return self._leaves.operand(root, program.operand_bytes) + program.operand_bytes * moved
        start, elements = _extent(place)
        name = ("operand", root, start, elements)
        if name not in self.memo:
            self.memo[name] = program.operand(start, elements)
        return self.memo[name] + program.operand_bytes * ((place.address - start) // FLOAT_BYTES)

    def _slot(self, node: Node, place: Place) -> int:
        """Returns the address of an operand beside those of other shards, for the end of the step."""
        name = ("slot", node)
        if name not in self.memo:
            out = self.shard.own_slot(self._slots[node], node.size * self.program.operand_bytes)
            self.program.copy_operand(place.address, node.size, out)
            self.memo[name] = out
        return self.memo[name]

    def _found(self, node: Node) -> Place:
        match node.operation:
            case "parameter":
                return self._leaves.value(node)
            case "constant":
                return self._constant(node)
            case "like":
                return self._like(node)
        if root_of(node).operation == "images":
            return self._images.load(node, range(node.rank))
        assert node.operation in MOVEMENTS, node
        return view(node, self.place(node.inputs[0])) or self._moved(node)

    def _moved(self, node: Node) -> Place:
        """Returns the place of a movement of a copy, whose elements lie in an order that allows it."""
        [x], order = node.inputs, None
        if node.operation == "reshape":
            order = order_for_reshape(self.place(x), node.shape)
        moved = view(node, self.dense(x, order))
        assert moved is not None, node
        return moved

    def _like(self, node: Node) -> Place:
        x, model = node.inputs
        order = self.place(model).order
        return self.dense(x, order) if self.place(model).is_dense else self.place(x)

    def _constant(self, node: Node) -> Place:
        tensor: torch.Tensor = node.attributes[0]
        kept = tensor.detach().to(torch.float32).contiguous()
        return Place(self.program.keep(kept), node.shape, steps_of(node.shape))


def root_of(node: Node) -> Node:
    """Returns the node whose memory a movement may share."""
    while node.operation in MOVEMENTS:
        node = node.inputs[0]
    return node


def is_leaf(node: Node) -> bool:
    """Returns whether a node's memory belongs to the model or to the images."""
    return node.operation in LEAVES


def users_of(nodes: Collection[Node]) -> dict[Node, list[Node]]:
    """Returns, for each node, those that read its memory, also by way of movements."""
    users: dict[Node, list[Node]] = {}
    for node in nodes:
        if node.operation not in MOVEMENTS:
            for x in node.inputs:
                users.setdefault(root_of(x), []).append(node)
    return users


def _extent(place: Place) -> tuple[int, int]:
    """Returns the address of a place's first element, and the elements from there to its last."""
    steps = zip(place.shape, place.strides, strict=True)
    return place.address, 1 + sum((size - 1) * step for size, step in steps)
