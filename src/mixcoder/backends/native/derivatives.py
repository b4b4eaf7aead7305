"""Gradients of a graph as a graph: a walk from the outputs back, by one small function for each operation.

    gradients of a node ─its rule─▶ a gradient for each of its inputs ─add─▶ gradients of the input

The result is made of the same primitives, so it has gradients itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import reduce

from mixcoder.backends.native import graph
from mixcoder.backends.native.functions import derivative
from mixcoder.backends.native.graph import Node, split_labels
from mixcoder.backends.step import UnsupportedError

Rule = Callable[[Node, Node, int], Node | None]
"""Takes a node, the gradient of its result, and the index of an input; returns that input's gradient."""


def gradients(outputs: Sequence[Node], seeds: Sequence[Node], wrt: Sequence[Node]) -> list[Node | None]:
    """Returns the gradient of Σ <output, seed> for each node of `wrt`; None where it is 0 everywhere.

    Args:
        outputs: the nodes to derive.
        seeds: the gradient of each output, of its shape.
        wrt: leaves or nodes in between; nothing flows on through the inputs of those alone.

    Raises:
        UnsupportedError: a node on the way has no derivative.
    """
    parts: dict[Node, list[Node]] = {}
    for output, seed in zip(outputs, seeds, strict=True):
        parts.setdefault(output, []).append(seed)
    order = sorted_nodes(outputs)
    on_path = _dependents(order, wrt)
    found: dict[Node, Node] = {}
    for node in reversed(order):
        if node not in parts or node not in on_path:
            continue
        found[node] = _sum_of(parts[node])
        for index, source in enumerate(node.inputs):
            gradient = _RULES[node.operation](node, found[node], index) if source in on_path else None
            if gradient is not None:
                parts.setdefault(source, []).append(gradient)
    return [found.get(node) for node in wrt]


def sorted_nodes(outputs: Iterable[Node]) -> list[Node]:
    """Returns all nodes that outputs are computed from, each after its inputs, the outputs included."""
    order: dict[Node, None] = {}
    stack = [(node, False) for node in reversed(list(outputs))]
    while stack:
        node, has_inputs = stack.pop()
        if node in order:
            continue
        if has_inputs:
            order[node] = None
        else:
            stack.append((node, True))
            stack.extend((source, False) for source in reversed(node.inputs))
    return list(order)


def substitute(outputs: Sequence[Node], placeholder: Node, value: Node) -> list[Node]:
    """Returns outputs as they are computed where one node has another value, of the same shape."""
    made = {placeholder: value}
    for node in sorted_nodes(outputs):
        if node in made:
            continue
        inputs = [made[source] for source in node.inputs]
        is_same = all(new is old for new, old in zip(inputs, node.inputs, strict=True))
        made[node] = node if is_same else graph.make(node.operation, inputs, node.shape, *node.attributes)
    return [made[node] for node in outputs]


def _dependents(order: Sequence[Node], wrt: Collection[Node]) -> set[Node]:
    """Returns the nodes of `wrt` and those that depend on one of them."""
    found = set(wrt)
    for node in order:
        if any(source in found for source in node.inputs):
            found.add(node)
    return found


def _sum_of(parts: Sequence[Node]) -> Node:
    """Returns the sum of the parts of a gradient, the first one first: of a residual, that of its sum.

    Gradients of slices that lie side by side are put one after the other: to add them with zeros around takes
    several times as long.
    """
    others = [part for part in parts if part.operation != "pad"]
    axes = dict.fromkeys(part.attributes[0] for part in parts if part.operation == "pad")
    for axis in axes:
        pads = [part for part in parts if part.operation == "pad" and part.attributes[0] == axis]
        others += _joined_pads(sorted(pads, key=_start), axis)
    return reduce(graph.add, others)


def _start(pad: Node) -> int:
    return int(pad.attributes[1])


def _joined_pads(pads: Sequence[Node], axis: int) -> Iterator[Node]:
    """Yields arrays with zeros around them, those that lie side by side as one; they are in their order."""
    run: list[Node] = []
    for pad in [*pads, None]:
        is_next = pad is not None and (not run or _start(pad) == _stop(run[-1]))
        if not is_next:
            whole = graph.cat([part.inputs[0] for part in run], axis)
            yield graph.pad(whole, axis, _start(run[0]), run[-1].attributes[2])
            run = []
        if pad is not None:
            run.append(pad)


def _stop(pad: Node) -> int:
    axis, _, after = pad.attributes
    return int(pad.shape[axis] - after)


# ── a rule for each operation: the gradients g of its result to those of its inputs ──────────────────


def _none(node: Node, g: Node, index: int) -> None:
    return None


def _unsupported(node: Node, g: Node, index: int) -> Node:
    raise UnsupportedError(f"no derivative for {node.operation}")


def _permute(node: Node, g: Node, index: int) -> Node:
    (axes,) = node.attributes
    return graph.permute(g, [axes.index(axis) for axis in range(g.rank)])


def _reshape(node: Node, g: Node, index: int) -> Node:
    (x,) = node.inputs
    return graph.like(graph.reshape(g, x.shape), x)


def _expand(node: Node, g: Node, index: int) -> Node:
    before = node.inputs[0].shape
    return graph.total(g, [axis for axis in range(g.rank) if before[axis] != g.shape[axis]])


def _slice(node: Node, g: Node, index: int) -> Node:
    axis, start, stop = _numbers(node)
    return graph.pad(g, axis, start, node.inputs[0].shape[axis] - stop)


def _pad(node: Node, g: Node, index: int) -> Node:
    axis, before, after = _numbers(node)
    return graph.part(g, axis, before, g.shape[axis] - after)


def _cat(node: Node, g: Node, index: int) -> Node:
    (axis,) = _numbers(node)
    start = sum(part.shape[axis] for part in node.inputs[:index])
    return graph.part(g, axis, start, start + node.inputs[index].shape[axis])


def _same(node: Node, g: Node, index: int) -> Node:
    return g


def _like(node: Node, g: Node, index: int) -> Node | None:
    return g if index == 0 else None


def _contiguous(node: Node, g: Node, index: int) -> Node:
    return graph.like(g, node.inputs[0])


def _sum(node: Node, g: Node, index: int) -> Node:
    return graph.expand(g, node.inputs[0].shape)


def _mul(node: Node, g: Node, index: int) -> Node | None:
    a, b = node.inputs
    if a is b:
        return graph.affine(graph.mul(g, a), 2) if index == 0 else None
    return graph.mul(g, node.inputs[1 - index])


def _keep(node: Node, g: Node, index: int) -> Node | None:
    return graph.keep(g, node.inputs[1]) if index == 0 else None


def _affine(node: Node, g: Node, index: int) -> Node:
    return graph.affine(g, float(node.attributes[0]))


def _unary(node: Node, g: Node, index: int) -> Node | None:
    slope = derivative(node)
    return None if slope is None else graph.mul(g, slope)


def _contract(node: Node, g: Node, index: int) -> Node:
    (labels,) = node.attributes
    *of_operands, of_result = split_labels(str(labels))
    other, own = of_operands[1 - index], of_operands[index]
    return graph.contract(g, node.inputs[1 - index], f"{of_result},{other}->{own}")


def _convolve(node: Node, g: Node, index: int) -> Node:
    (x, weight), (*_, kind) = node.inputs, node.attributes
    if index == 0:
        return graph.adjoint(g, weight, x.shape, kind)
    return graph.correlate(g, x, weight.shape, kind)


def _adjoint(node: Node, g: Node, index: int) -> Node:
    (z, weight), (*_, kind) = node.inputs, node.attributes
    if index == 0:
        return graph.convolve(g, weight, kind)
    return graph.correlate(z, g, weight.shape, kind)


def _correlate(node: Node, g: Node, index: int) -> Node:
    (z, x), (*_, kind) = node.inputs, node.attributes
    if index == 0:
        return graph.convolve(x, g, kind)
    return graph.adjoint(z, g, x.shape, kind)


def _numbers(node: Node) -> list[int]:
    return [int(attribute) for attribute in node.attributes]


_RULES: dict[str, Rule] = {
    "permute": _permute,
    "reshape": _reshape,
    "expand": _expand,
    "slice": _slice,
    "pad": _pad,
    "cat": _cat,
    "contiguous": _contiguous,
    "like": _like,
    "stop": _none,
    "sum": _sum,
    "maximum": _none,
    "add": _same,
    "mul": _mul,
    "keep": _keep,
    "affine": _affine,
    "unary": _unary,
    "contract": _contract,
    "loss": _unsupported,
    "convolve": _convolve,
    "adjoint": _adjoint,
    "correlate": _correlate,
}
