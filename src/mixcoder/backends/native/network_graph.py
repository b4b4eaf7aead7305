"""The graph of a training step up to its gradients, and the order in which it is computed.

model ─trace─▶ outputs ─▶ loss ─▶ gradients of the parameters ─▶ nodes in order ─fuse─▶ steps
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mixcoder.backends.native import graph
from mixcoder.backends.native.derivatives import gradients, sorted_nodes
from mixcoder.backends.native.fusion import Fused, fuse
from mixcoder.backends.native.graph import MOVEMENTS, PRODUCTS, Node
from mixcoder.backends.native.placement import Leaves, is_leaf, root_of, users_of
from mixcoder.backends.native.placing import Place
from mixcoder.backends.native.tracing import trace
from mixcoder.backends.step import UnsupportedError
from mixcoder.models.autoencoder import Autoencoder

_LARGE = 2**16
"""Elements of a weight, from which its gradients are not stored, nor added up over shards (256 KiB)."""


@dataclass(frozen=True)
class NetworkGraph:
    """What a shard of a batch computes, in order.

    Attributes:
        steps: nodes and fused groups, each after what it reads.
        parameters: the leaves, in the model's order.
        gradients: of each parameter; None where the loss does not depend on it.
        sums: nodes that add a product to another node, which nothing reads after the product.
        deferred: gradients of large weights, as contractions that are left to the end of the step.
        slots: names of the arrays that these read.
        finals: nodes that are the gradient of one parameter, and are used for nothing else.
    """

    steps: Sequence[Node | Fused]
    parameters: Sequence[Node]
    gradients: Sequence[Node | None]
    sums: Mapping[Node, Sum]
    deferred: Collection[Node]
    slots: Mapping[Node, int]
    finals: Collection[Node]

    def product_parameters(self) -> list[Node]:
        """Returns the parameters that contractions read."""
        contracted = [step for step in self.steps if isinstance(step, Node) and step.operation == "contract"]
        read = {root_of(x) for node in contracted for x in node.inputs}
        return [node for node in self.parameters if node in read]

    def is_deferred(self, gradient: Node) -> bool:
        """Returns whether a gradient is left to the end of the step."""
        return _under_movements(gradient) in self.deferred

    def wanted(self, leaves: Leaves) -> dict[Node, Place]:
        """Returns where nodes are to lie, so that the gradients of parameters lie at their places."""
        wanted: dict[Node, Place] = {}
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            if gradient is not None:
                self._want(wanted, gradient, leaves.gradient(parameter))
        return wanted

    def _want(self, wanted: dict[Node, Place], node: Node, place: Place) -> None:
        """Notes a wanted place for a node, and for what it is a movement of, or a sum in place."""
        while node.operation in ("permute", "reshape"):
            axes = graph.inverse_axes(node) if node.operation == "permute" else None
            moved = place.permuted(axes) if axes else place.reshaped(node.inputs[0].shape)
            if moved is None:
                return
            node, place = node.inputs[0], moved
        wanted.setdefault(node, place)
        if node in self.sums:
            self._want(wanted, self.sums[node].base, place)


@dataclass(frozen=True)
class Sum:
    """A product that can be added in place.

    Attributes:
        base: that it is added to.
        product: the other addend, perhaps with its axes in another order.
    """

    base: Node
    product: Node


def network_graph(model: Autoencoder, batch_size: int, loss: str, images_of_batch: int) -> NetworkGraph:
    """Returns the graph of a shard of `batch_size` images, of a batch of `images_of_batch`.

    Raises:
        UnsupportedError: there is no rule for a part of the model.
    """
    traced = trace(model, (batch_size, *model.image_shape))
    outputs, targets = _before_movements(traced.outputs, traced.images)
    scale = 1 / (images_of_batch * math.prod(model.image_shape))
    seed = graph.loss(outputs, targets, loss, scale)
    found = gradients([outputs], [seed], traced.parameters)
    order = sorted_nodes([seed, *(node for node in reversed(found) if node is not None)])
    if any(node.size == 0 for node in order):
        raise UnsupportedError("an array without elements")
    kept = [seed, *(node for node in found if node is not None)]
    sums = dict(_sums(order, [root_of(node) for node in kept[1:]]))
    finals = _finals(found, order)
    deferred = [node for node in finals if _may_wait(node)]
    operands = {x: None for node in deferred for x in node.inputs}
    slots = {x: i for i, x in enumerate(operands)}
    return NetworkGraph(fuse(order, kept, sums), traced.parameters, found, sums, {*deferred}, slots, finals)


def _finals(gradients: Sequence[Node | None], order: Sequence[Node]) -> set[Node]:
    """Returns the nodes that are the gradient of one parameter, and are used for nothing else."""
    users = users_of(order)
    counts = Counter(map(_under_movements, gradients))
    return {node for node, count in counts.items() if node is not None and count == 1 and node not in users}


def _under_movements(node: Node | None) -> Node | None:
    while node is not None and node.operation in ("permute", "reshape"):
        node = node.inputs[0]
    return node


def _may_wait(node: Node) -> bool:
    """Returns whether a gradient is one product over all images, and so large that it pays to wait."""
    if node.operation != "contract" or node.size < _LARGE:
        return False
    of_a, of_b, of_result = graph.split_labels(node.attributes[0])
    is_over_rows = of_a[:-1] == of_b[:-1] and {*of_result} == {of_a[-1], of_b[-1]}
    return is_over_rows and len(of_result) == 2


def _before_movements(outputs: Node, targets: Node) -> tuple[Node, Node]:
    """Returns outputs before their last movements, and the targets after the reverse of these.

    A loss is a sum over elements: it may take both in any order.
    """
    if outputs.shape != targets.shape:
        raise UnsupportedError(f"reconstructions {list(outputs.shape)} of images {list(targets.shape)}")
    while outputs.operation in ("permute", "reshape", "contiguous"):
        if outputs.operation == "permute":
            targets = graph.permute(targets, graph.inverse_axes(outputs))
        elif outputs.operation == "reshape":
            targets = graph.reshape(targets, outputs.inputs[0].shape)
        outputs = outputs.inputs[0]
    return outputs, targets


def _sums(order: Sequence[Node], kept: Collection[Node]) -> Iterator[tuple[Node, Sum]]:
    """Yields the additions whose product may be added to the other addend, in its memory.

    Neither is one of the nodes that are kept.
    """
    position = {node: i for i, node in enumerate(order)}
    users = users_of(order)
    for node in order:
        if node.operation != "add":
            continue
        for base, product in (node.inputs, node.inputs[::-1]):
            if root_of(base) in kept or root_of(product) in kept:
                continue
            if _may_be_added(node, Sum(base, product), users, position):
                yield node, Sum(base, product)
                break


def _may_be_added(
    node: Node, addends: Sum, users: Mapping[Node, Collection[Node]], position: Mapping[Node, int]
) -> bool:
    base, product = root_of(addends.base), root_of(addends.product)
    if product.operation not in PRODUCTS or is_leaf(base) or list(users[product]) != [node]:
        return False
    if not _is_moved(addends.product) or position[base] > position[product]:
        return False
    reads_base = base in {root_of(x) for x in product.inputs}
    return not reads_base and all(user is node or position[user] < position[product] for user in users[base])


def _is_moved(node: Node) -> bool:
    """Returns whether a node is a result, or one with its axes in another order or shape."""
    return node.operation not in MOVEMENTS or (
        node.operation in ("permute", "reshape") and _is_moved(node.inputs[0])
    )
