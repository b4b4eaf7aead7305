"""Random graphs of primitives: their first and second gradients are those of autograd, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.derivatives import gradients, sorted_nodes, substitute
from mixcoder.backends.native.functions import FUNCTIONS, derivative
from mixcoder.backends.native.graph import Node
from mixcoder.backends.step import UnsupportedError
from tests.backends.native.evaluate import evaluate

SMOOTH = ("tanh", "sigmoid", "gelu", "gelu_tanh", "silu", "sin", "cos", "erf", "softplus")
MOST_ELEMENTS = 200


def permuted(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    return graph.permute(x, data.draw(st.permutations(range(x.rank))))


def reshaped(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    first = data.draw(st.sampled_from([n for n in range(1, x.size + 1) if x.size % n == 0]))
    return graph.reshape(x, (first, x.size // first))


def expanded(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    count = data.draw(st.integers(1, 3))
    return graph.broadcast(x, (count, *x.shape)) if x.size * count <= MOST_ELEMENTS else x


def sliced(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    axis = data.draw(st.integers(0, x.rank - 1))
    start = data.draw(st.integers(0, x.shape[axis] - 1))
    return graph.part(x, axis, start, data.draw(st.integers(start + 1, x.shape[axis])))


def padded(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    axis = data.draw(st.integers(0, x.rank - 1))
    before, after = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    return graph.pad(x, axis, before, after) if x.size <= MOST_ELEMENTS // 4 else x


def joined(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    others = [node for node in nodes if node.shape == x.shape and node.size <= MOST_ELEMENTS // 2]
    return (
        graph.cat([x, data.draw(st.sampled_from(others))], data.draw(st.integers(0, x.rank - 1)))
        if others
        else x
    )


def summed(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    return graph.total(x, data.draw(st.lists(st.integers(0, x.rank - 1), unique=True)))


def below_largest(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    largest = graph.maximum(x, data.draw(st.integers(0, x.rank - 1)))
    return graph.add(x, graph.expand(graph.affine(largest, -1), x.shape))


def combined(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    other = data.draw(st.sampled_from([node for node in nodes if node.shape == x.shape]))
    return data.draw(st.sampled_from([graph.add, graph.mul, graph.keep]))(x, other)


def scaled(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    return graph.affine(
        x, data.draw(st.sampled_from([-1.0, 0.5, 2.0])), data.draw(st.sampled_from([0.0, 1.0]))
    )


def mapped(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    return graph.unary(x, data.draw(st.sampled_from(SMOOTH)))


def positive(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    above = graph.affine(graph.mul(x, x), 1, 1)
    name: str = data.draw(st.sampled_from(["log", "sqrt", "rsqrt", "reciprocal", "pow"]))
    return graph.unary(above, name, 1.7) if name == "pow" else graph.unary(above, name)


def kept(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    return data.draw(st.sampled_from([graph.contiguous, graph.stop]))(x)


def contracted(data: DataObject, x: Node, nodes: Sequence[Node]) -> Node:
    """A product with an array that has some axes of x, in any order, some of them summed over."""
    other = data.draw(st.sampled_from([node for node in nodes if node.rank <= 3]))
    own = "abcde"[: x.rank]
    shared = {size: label for label, size in zip(own, x.shape, strict=True)}
    labels = [shared.pop(size, "vwxyz"[axis]) for axis, size in enumerate(other.shape)]
    free = [label for label in (*own, *labels) if (label in own) != (label in labels)]
    both = [label for label in own if label in labels and data.draw(st.booleans())]
    result = data.draw(st.permutations([*free, *both]))
    made = graph.contract(x, other, f"{own},{''.join(labels)}->{''.join(result)}")
    return made if made.size <= MOST_ELEMENTS else x


STEPS: list[Callable[[DataObject, Node, Sequence[Node]], Node]] = [
    *(
        permuted,
        reshaped,
        expanded,
        sliced,
        padded,
        joined,
        summed,
        below_largest,
        combined,
        combined,
        scaled,
    ),
    *(mapped, mapped, positive, kept, contracted, contracted),
]


@settings(max_examples=150)
@given(data=st.data())
def test_gradients_of_random_graphs(data: DataObject) -> None:
    leaves = [graph.parameter(shape, i) for i, shape in enumerate([(2, 3), (3, 4), (2, 3)])]
    nodes = list(leaves)
    for _ in range(data.draw(st.integers(1, 8))):
        x = data.draw(st.sampled_from(nodes[-3:]))
        if x.rank:
            nodes.append(data.draw(st.sampled_from(STEPS))(data, x, nodes))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10)))
    values = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64) * 0.7 for leaf in leaves]
    check_gradients(nodes[-1], leaves, values, generator)


def check_gradients(
    output: Node, leaves: Sequence[Node], values: Sequence[Tensor], generator: torch.Generator
) -> None:
    """Compares first and second gradients of a node with those of autograd through its evaluation."""
    tensors = [value.clone().requires_grad_() for value in values]
    known = dict(zip(leaves, tensors, strict=True))
    of_leaves = dict(zip(leaves, values, strict=True))
    [expected] = evaluate([output], known)
    nodes, results = [output], [expected]
    for _ in range(2):
        seeds = [torch.randn(x.shape, generator=generator) for x in results]
        total = sum((x * seed.double()).sum() for x, seed in zip(results, seeds, strict=True))
        found = gradients(nodes, [graph.constant(seed) for seed in seeds], leaves)
        if not isinstance(total, Tensor) or not total.requires_grad:
            assert all(node is None or not evaluate([node], of_leaves)[0].any() for node in found)
            return
        wanted = torch.autograd.grad(total, tensors, create_graph=True, materialize_grads=True)
        nodes, results = [], []
        for node, right in zip(found, wanted, strict=True):
            if node is None:
                assert not right.any()
                continue
            assert node.shape == tuple(right.shape)
            torch.testing.assert_close(evaluate([node], of_leaves)[0], right.detach(), rtol=1e-6, atol=1e-8)
            nodes.append(node)
            results.append(right)
        if not nodes:
            return


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_functions(name: str) -> None:
    arguments = {
        "clamp": [-0.5, 0.6],
        "hardtanh": [-0.5, 0.6],
        "leaky_relu": [0.2],
        "elu": [0.7],
        "pow": [2.5],
    }
    x = graph.parameter((41,), 0)
    node = graph.unary(x, name, *arguments.get(name.removesuffix("'"), []))
    points = torch.linspace(-3.01, 3.02, 41, dtype=torch.float64)
    if name in ("log", "sqrt", "rsqrt", "reciprocal", "pow"):
        points = points.abs() + 0.1
    slope, step = derivative(node), 1e-6
    above, below = (evaluate([node], {x: points + shift})[0] for shift in (step, -step))
    found = torch.zeros(41) if slope is None else evaluate([slope], {x: points})[0]
    torch.testing.assert_close(found.double(), (above - below) / (2 * step), rtol=1e-5, atol=1e-6)


def test_only_what_lies_between_is_walked() -> None:
    x, y = graph.parameter((3,), 0), graph.parameter((3,), 1)
    output = graph.add(graph.unary(x, "exp"), graph.unary(y, "exp"))
    found = gradients([output], [output], [x, graph.parameter((3,), 2)])
    assert found[1] is None
    assert found[0] is not None
    assert y in sorted_nodes([found[0]])  # through the seed alone
    middle = graph.unary(x, "exp")
    assert gradients([graph.affine(middle, 3)], [y], [middle]) == [graph.affine(y, 3)]


def test_the_residual_comes_first() -> None:
    x, weight, seed = (graph.parameter((2, 2), i) for i in range(3))
    output = graph.add(x, graph.contract(x, weight, "ab,cb->ac"))
    [gradient] = gradients([output], [seed], [x])
    assert gradient is not None
    assert gradient.operation == "add"
    assert gradient.inputs[0] is seed


def test_gradients_of_slices_side_by_side_are_joined() -> None:
    x = graph.parameter((2, 7), 0)
    ends = [(0, 2), (2, 5), (5, 7)]
    parts = [graph.part(x, 1, *end) for end in ends]
    seeds = [graph.parameter(part.shape, 1) for part in parts]
    assert gradients(parts, seeds, [x]) == [graph.cat(seeds, 1)]
    some = [graph.cat(seeds[:2], 1), seeds[2]]
    assert gradients(parts[:2], seeds[:2], [x]) == [graph.pad(some[0], 1, 0, 2)]
    apart = gradients(parts[::2], seeds[::2], [x])[0]
    assert apart is graph.add(graph.pad(seeds[0], 1, 0, 5), graph.pad(seeds[2], 1, 5, 0))


def test_gradients_of_slices_that_overlap_are_added() -> None:
    x = graph.parameter((7,), 0)
    values = torch.arange(7.0)
    parts = [graph.mul(part, part) for part in (graph.part(x, 0, 0, 4), graph.part(x, 0, 2, 7))]
    seeds = [graph.constant(torch.ones(part.shape)) for part in parts]
    [found] = gradients(parts, seeds, [x])
    assert found is not None
    expected = 2.0 * values * torch.tensor([1.0, 1, 2, 2, 1, 1, 1])
    torch.testing.assert_close(evaluate([found], {x: values})[0], expected.double())


def test_no_derivative_of_a_loss() -> None:
    x, y = graph.parameter((3,), 0), graph.images((3,))
    seed = graph.loss(x, y, "mse", 1.0)
    with pytest.raises(UnsupportedError, match="no derivative for loss"):
        gradients([seed], [x], [x])


def test_values_are_put_in_the_place_of_others() -> None:
    x, y, other = (graph.parameter((3,), i) for i in range(3))
    output = graph.mul(graph.unary(x, "exp"), other)
    [found] = substitute([output], x, y)
    assert found is graph.mul(graph.unary(y, "exp"), other)
    assert substitute([other], x, y) == [other]
