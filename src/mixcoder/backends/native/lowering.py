"""Turns the steps of a graph into operations of a program.

steps ─▶ for each: places of what it reads ─▶ operations ─▶ place of its result
"""

from __future__ import annotations

from mixcoder.backends.native.activation_kernels import emit_activation, emit_activation_backward
from mixcoder.backends.native.codes import LOSSES
from mixcoder.backends.native.elementwise import emit_fused
from mixcoder.backends.native.emitters import emitter_of
from mixcoder.backends.native.fusion import Fused, fuse
from mixcoder.backends.native.graph import MOVEMENTS, Node, inverse_axes
from mixcoder.backends.native.group_places import places_of_group
from mixcoder.backends.native.lifetimes import Lifetimes
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.network_graph import NetworkGraph
from mixcoder.backends.native.placement import Placement, is_leaf, root_of
from mixcoder.backends.native.placing import Place, UnsuitedResultError, dense_place
from mixcoder.backends.native.product_lowering import emit_contraction, emit_operands
from mixcoder.backends.native.shards import WeightGemm


class Lowering:
    """The emission of a graph's steps, one after the other.

    Args:
        graph: what is computed.
        placement: where arrays lie.
        loss: address for the loss of the shard.

    Attributes:
        weight_gemms: products that are left to the end of the step, of all shards.
    """

    def __init__(self, graph: NetworkGraph, placement: Placement, loss: int) -> None:
        self.weight_gemms: list[WeightGemm] = []
        self._graph, self._placement, self._loss = graph, placement, loss
        self._sum_of = {root_of(added.product): node for node, added in graph.sums.items()}
        self._done: set[Node] = set()
        self._lifetimes = Lifetimes(graph.steps, [node for node in graph.gradients if node is not None])

    def run(self) -> None:
        """Emits all steps."""
        for position, step in enumerate(self._graph.steps):
            self._lifetimes.position = position
            if isinstance(step, Fused):
                self._emit_group(step)
            elif not is_leaf(step) and step.operation not in MOVEMENTS:
                self._emit_node(step)

    def _emit_group(self, group: Fused) -> None:
        placement, lifetimes = self._placement, self._lifetimes
        if emit_activation(placement, lifetimes, group):
            return
        if emit_activation_backward(placement, lifetimes, group):
            return
        emit_fused(placement.program, group, places_of_group(placement, lifetimes, group))

    def _emit_node(self, node: Node) -> None:
        match node.operation:
            case "contract" if node in self._graph.deferred:
                self.weight_gemms.append(emit_operands(self._placement, node))
            case "contract" | "adjoint":
                self._emit_product(node)
            case "convolve":
                emitter_of(node).convolve(self._placement, node)
            case "correlate":
                emitter_of(node).correlate(self._placement, node)
            case "loss":
                self._emit_loss(node)
            case "pad":
                self._emit_pad(node)
            case "cat":
                self._emit_cat(node)
            case "add":
                self._emit_sum(node)

    def _emit_product(self, node: Node) -> None:
        """Emits a product, in place of an array that it is to be added to, where that is free."""
        addition = self._sum_of.get(node)
        target = self._target(addition, node) if addition else None
        if addition is None or target is None:
            self._emit_product_to(node, None)
            return
        try:
            self._emit_product_to(node, target)
        except UnsuitedResultError:
            self._emit_product_to(node, None)
        else:
            self._done.add(addition)

    def _emit_product_to(self, node: Node, added_to: Place | None) -> None:
        if node.operation == "contract":
            emit_contraction(self._placement, node, added_to)
        else:
            emitter_of(node).adjoint(self._placement, node, added_to)

    def _target(self, addition: Node, product: Node) -> Place | None:
        """Returns where the other addend lies, with the axes of the product; None where it is not free."""
        added = self._graph.sums[addition]
        if not self._lifetimes.is_free_for(addition, root_of(added.base)):
            return None
        place: Place | None = self._placement.place(added.base)
        node = added.product
        while node is not product and place is not None:
            moved, node = node, node.inputs[0]
            is_permuted = moved.operation == "permute"
            place = place.permuted(inverse_axes(moved)) if is_permuted else place.reshaped(node.shape)
        return place if place is not None and place.is_dense else None

    def _emit_sum(self, node: Node) -> None:
        if node in self._done:
            self._placement.put(node, self._placement.place(self._graph.sums[node].base))
            return
        for group in fuse([node], [node], []):
            assert isinstance(group, Fused)
            self._emit_group(group)

    def _emit_loss(self, node: Node) -> None:
        """Emits the loss, and its gradients in the place of the outputs where nothing else reads them."""
        outputs, targets = node.inputs
        name, scale = node.attributes
        placement, order = self._placement, self._placement.place(outputs).order
        x, y = placement.dense(outputs, order), placement.dense(targets, order)
        if not self._lifetimes.ends(outputs):
            copied = placement.fresh(node, order)
            emit_move(placement.program, x, copied)
            x = copied
        sizes = [node.size, LOSSES.index(name)]
        placement.program.emit("loss", sizes, [x.address, y.address, self._loss], scale)
        placement.put(node, x)

    def _emit_pad(self, node: Node) -> None:
        """Emits a copy between zeros, which are written but once."""
        (x,), (axis, before, _) = node.inputs, node.attributes
        placement = self._placement
        zeros = placement.program.zeros(("pad", node), node.size)
        result = dense_place(zeros, node.shape, placement.place(x).order)
        emit_move(placement.program, placement.place(x), result.part(axis, before, before + x.shape[axis]))
        placement.put(node, result)

    def _emit_cat(self, node: Node) -> None:
        """Emits copies side by side."""
        placement, (axis,), start = self._placement, node.attributes, 0
        result = placement.new(node, placement.place(node.inputs[0]).order)
        for x in node.inputs:
            stop = start + x.shape[axis]
            emit_move(placement.program, placement.place(x), result.part(axis, start, stop))
            start = stop
