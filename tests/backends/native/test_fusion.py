"""Groups of elementwise nodes: which are computed together, and that every order of steps is possible."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.backends.native import graph
from mixcoder.backends.native.derivatives import sorted_nodes
from mixcoder.backends.native.fusion import OPERANDS, Fused, fuse
from mixcoder.backends.native.graph import Node

ROWS, SHAPE = (4, 6, 1), (4, 6, 16)


def leaf(shape: Sequence[int] = SHAPE, index: int = 0) -> Node:
    return graph.parameter(shape, index)


def groups(results: Sequence[Node]) -> list[Fused]:
    return [step for step in fuse(sorted_nodes(results), results) if isinstance(step, Fused)]


def rms_norm(x: Node) -> Node:
    mean = graph.affine(graph.total(graph.mul(x, x), [2]), 1 / 16, 1e-6)
    return graph.mul(x, graph.expand(graph.unary(mean, "rsqrt"), x.shape))


def softmax(x: Node) -> Node:
    largest = graph.expand(graph.maximum(x, 2), x.shape)
    powers = graph.unary(graph.add(x, graph.affine(largest, -1.0)), "exp")
    total = graph.unary(graph.total(powers, [2]), "reciprocal")
    return graph.mul(powers, graph.expand(total, x.shape))


def layer_norm(x: Node) -> Node:
    mean = graph.affine(graph.total(x, [2]), -1 / 16)
    centred = graph.add(x, graph.expand(mean, x.shape))
    variance = graph.affine(graph.total(graph.mul(centred, centred), [2]), 1 / 16, 1e-5)
    return graph.mul(centred, graph.expand(graph.unary(variance, "rsqrt"), x.shape))


def assert_possible(steps: Sequence[Node | Fused], nodes: Sequence[Node], kept: Collection[Node]) -> None:
    """Everything is computed once, after what it reads, and a group needs only what others computed."""
    computed: set[Node] = set()
    for step in steps:
        if isinstance(step, Node):
            assert {*step.inputs} <= computed
            assert step not in computed
            computed.add(step)
            continue
        inside = {*step.inputs}
        assert inside <= computed
        assert len(step.inputs) + len(step.outputs) <= OPERANDS
        for node in step.nodes:
            assert {*node.inputs} <= inside
            inside.add(node)
        assert not {*step.outputs} & computed
        assert {*step.outputs} <= {*step.nodes}
        computed |= {*step.outputs}
    assert {*kept} <= computed
    seen = [node for step in steps for node in (step.nodes if isinstance(step, Fused) else [step])]
    assert {*seen} == {*nodes}


@pytest.mark.parametrize("norm", [rms_norm, softmax, layer_norm])
def test_a_norm_is_one_group(norm: object) -> None:
    assert callable(norm)
    x = leaf()
    scale = graph.broadcast(leaf((16,), 1), SHAPE)
    result = graph.add(graph.mul(norm(x), scale), x)
    [group] = groups([result])
    assert group.inputs == (x, scale)
    assert group.outputs == (result,)
    assert (group.shape, group.rows) == (SHAPE, (2,))


def test_bias_activation_residual_and_derivative_are_one_group() -> None:
    x, weight, bias, gradient = leaf(), leaf((16, 16), 1), leaf((16,), 2), leaf(SHAPE, 3)
    z = graph.add(graph.contract(x, weight, "bpc,oc->bpo"), graph.broadcast(bias, SHAPE))
    result = graph.add(x, graph.unary(z, "gelu"))
    later = graph.contract(result, weight, "bpc,oc->bpo")
    backward = graph.mul(graph.add(gradient, later), graph.unary(z, "gelu'"))
    first, second = groups([result, backward])
    derivative = graph.unary(z, "gelu'")
    assert {*first.nodes} == {z, graph.unary(z, "gelu"), derivative, result}
    assert {*first.outputs} == {result, derivative}
    assert backward in second.nodes


def test_a_node_joins_a_group_that_reads_the_same() -> None:
    x, weight, gradient = leaf(), leaf((16, 16), 1), leaf(SHAPE, 2)
    z = graph.contract(x, weight, "bpc,oc->bpo")
    result = graph.add(x, graph.unary(z, "gelu"))
    later = graph.contract(result, graph.permute(weight, (1, 0)), "bpc,oc->bpo")
    backward = graph.mul(graph.add(gradient, graph.affine(later, 2.0)), graph.unary(z, "gelu'"))
    scale = graph.total(graph.mul(later, x), [0, 1])
    first, second = groups([result, backward, scale])
    assert graph.unary(z, "gelu'") in first.outputs
    assert {*second.outputs} == {backward, scale}


def test_some_nodes_stay_apart() -> None:
    gradient, x, weight = leaf(), leaf(SHAPE, 1), leaf((16, 16), 2)
    added = graph.add(gradient, graph.contract(x, weight, "bpc,oc->bpo"))
    scaled = graph.affine(added, 2.0)
    steps = fuse(sorted_nodes([scaled]), [scaled], apart=[added])
    assert added in steps
    assert [step.nodes for step in steps if isinstance(step, Fused)] == [(scaled,)]


def test_a_group_goes_on_behind_a_permutation() -> None:
    x, residual = leaf((4, 16, 6)), leaf(SHAPE, 1)
    activated = graph.unary(graph.affine(x, 2.0), "gelu")
    moved = graph.permute(activated, (0, 2, 1))
    result = graph.make("add", [residual, moved], SHAPE)
    [group] = groups([result])
    assert group.outputs == (result,)
    assert group.frames[result].axes == (0, 2, 1)
    [group] = groups([result, moved])
    assert group.outputs == (activated, result)


def test_a_sum_over_the_batch_is_used_by_another_group() -> None:
    x = leaf()
    gradient = graph.affine(graph.total(graph.mul(x, x), [0, 1]), 0.5)
    first, second = groups([gradient])
    assert first.outputs == gradient.inputs
    assert second.nodes == (gradient,)


def test_what_repeats_sums_elsewhere_is_a_step_too() -> None:
    x = leaf()
    result = rms_norm(x)
    repeated = result.inputs[1]
    steps = fuse(sorted_nodes([result, graph.pad(repeated, 0, 1, 1)]), [result])
    [group] = [step for step in steps if isinstance(step, Fused)]
    assert repeated in group.nodes
    assert repeated in steps
    assert repeated.inputs[0] in group.outputs


def test_a_group_of_many_operands_is_divided() -> None:
    total = leaf()
    for index in range(1, 40):
        total = graph.add(total, leaf(SHAPE, index))
    parts = groups([total])
    assert len(parts) == 3
    assert_possible(fuse(sorted_nodes([total]), [total]), sorted_nodes([total]), [total])


def grown(pool: list[Node], choice: int, first: int, second: int) -> Node:
    """Returns a node of random inputs."""
    a = pool[first % len(pool)]
    same = [node for node in pool if node.shape == a.shape]
    b = same[second % len(same)]
    match choice:
        case 0:
            return graph.add(a, b)
        case 1:
            return (graph.mul, graph.keep)[second % 2](a, b)
        case 2:
            return graph.unary(a, ("gelu", "gelu'", "exp")[second % 3])
        case 3:
            return graph.total(a, [second % a.rank])
        case 4:
            return graph.total(a, [axis for axis in range(a.rank) if axis != second % a.rank])
        case 5:
            axis = second % a.rank
            return graph.permute(a, [*range(axis + 1, a.rank), *range(axis + 1)])
        case 6:
            return graph.pad(a, 0, 0, 1) if a.size < 1000 else a
        case 7:
            wide = [node.shape for node in pool if node.rank == a.rank]
            shape = wide[second % len(wide)]
            fits = all(size in (1, other) for size, other in zip(a.shape, shape, strict=True))
            return graph.expand(a, shape) if fits else a
        case 8:
            return graph.reshape(a, (a.size,))
        case _:
            return graph.contract(a, b, "abc,abc->abc" if a.rank == 3 else "a,a->a")


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99), st.integers(0, 99)), max_size=40),
    st.lists(st.integers(0, 99), min_size=1, max_size=4),
)
def test_every_order_is_possible(choices: list[tuple[int, int, int]], results: list[int]) -> None:
    pool = [leaf((4, 3, 2)), leaf((4, 3, 2), 1), leaf((4, 3, 1), 2), leaf((1, 1, 2), 3)]
    for choice in choices:
        pool.append(grown(pool, *choice))
    kept = {pool[-1 - index % len(pool)] for index in results}
    nodes = sorted_nodes([*kept])
    assert_possible(fuse(nodes, kept), nodes, kept)
