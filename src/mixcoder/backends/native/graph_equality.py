"""Whether two graphs compute the same, node by node."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from mixcoder.backends.native.derivatives import sorted_nodes
from mixcoder.backends.native.graph import Node


def compute_the_same(one: Node, other: Node, leaves: Mapping[Node, Node]) -> bool:
    """Returns whether two nodes are made of the same operations of equal constants and of matching leaves.

    Args:
        one: the result of a graph.
        other: the result of another.
        leaves: images and parameters of the first graph, and the leaf of the other that each stands for.
    """
    order, others = sorted_nodes([one]), sorted_nodes([other])
    if len(order) != len(others):
        return False
    partners = dict(leaves)
    for node, partner in zip(order, others, strict=True):
        if node.operation in ("images", "parameter"):
            is_same = leaves.get(node) is partner  # not one that was kept from an earlier forward
        else:
            inputs = tuple(partners[source] for source in node.inputs)
            is_same = _is_alike(node, partner) and inputs == partner.inputs
            partners[node] = partner
        if not is_same:
            return False
    return True


def _is_alike(node: Node, other: Node) -> bool:
    """Returns whether two nodes have the same operation, whatever their inputs are."""
    if (node.operation, node.shape) != (other.operation, other.shape):
        return False
    if node.operation != "constant":
        return node.attributes == other.attributes
    return torch.equal(node.attributes[0], other.attributes[0])
