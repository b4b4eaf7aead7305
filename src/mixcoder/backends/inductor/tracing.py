"""A computation written down as a graph of torch's own operations, for the compiler to take.

function, examples ─▶ make_fx: every operation that is done ─▶ equal ones merged ─▶ graph

To import this takes most of a second; a process that finds its graph compiled has no need of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass

from mixcoder.backends.inductor.decompositions import Decompositions


def traced(
    function: Callable[..., Any], examples: Sequence[Tensor], decompositions: Decompositions
) -> GraphModule:
    """The graph of what `function` does with tensors such as the examples.

    Raises:
        Exception: whatever the tracer raises, of a function whose operations follow from its numbers.
    """
    return _without_repetitions(make_fx(function, decomposition_table=decompositions)(*examples))


def _without_repetitions(graph: GraphModule) -> GraphModule:
    """The graph with each of several equal operations done once; as it is, where one changes its inputs."""
    operations = [node.target for node in graph.graph.nodes if isinstance(node.target, OpOverload)]
    if any(it._schema.is_mutable for it in operations):
        return graph
    random = {it.overloadpacket for it in operations if torch.Tag.nondeterministic_seeded in it.tags}
    merged = CSEPass(random)(graph)
    return merged.graph_module if merged else graph
