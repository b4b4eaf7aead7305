"""Rules of the convolutions of mixing layers, which have kernels of their own."""

from __future__ import annotations

import math
from typing import Any

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.kinds import OverPatches, TokenMixing
from mixcoder.backends.native.rules.matrix_products import product
from mixcoder.backends.native.rules.rule_table import rule
from mixcoder.models.patch_convolutions import mix_over_patches, mix_tokens


@rule(mix_tokens)
def _mix_tokens(conv: Any, x: Node, weight: Node, bias: Node | None) -> Node:
    if math.prod(conv.kernel_size) == 1:
        mixed = product(graph.reshape(weight, weight.shape[:2]), x, "qp,bpc->bqc")
    else:
        mixed = graph.convolve(x, weight, TokenMixing(tuple(conv.kernel_size), tuple(conv.size)))
    return mixed if bias is None else graph.add(mixed, _over_axis(bias, mixed, 1))


@rule(mix_over_patches)
def _mix_over_patches(conv: Any, x: Node, weight: Node, bias: Node | None) -> Node:
    mixed = graph.convolve(x, weight, OverPatches(tuple(conv.kernel_size), tuple(conv.size)))
    return mixed if bias is None else graph.add(mixed, _over_axis(bias, mixed, 2))


def _over_axis(bias: Node, x: Node, axis: int) -> Node:
    """Returns a vector, repeated over all axes of x but one."""
    shape = [size if i == axis else 1 for i, size in enumerate(x.shape)]
    return graph.expand(graph.reshape(bias, shape), x.shape)
