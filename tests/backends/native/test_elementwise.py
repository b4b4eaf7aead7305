"""Groups of elementwise nodes against the same in double precision: values, sums and places of every kind."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.backends.native import functions, graph
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.codes import PAIRED_FUNCTIONS, PLAIN_FUNCTIONS
from mixcoder.backends.native.derivatives import sorted_nodes
from mixcoder.backends.native.elementwise import emit_fused
from mixcoder.backends.native.fusion import Fused, fuse
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.placing import Place, view
from mixcoder.backends.native.program import Program
from tests.backends.native.evaluate import evaluate
from tests.backends.native.test_fusion import grown, layer_norm, leaf, rms_norm, softmax
from tests.conftest import needs_compiler

pytestmark = needs_compiler

ARGUMENTS: dict[str, tuple[float, ...]] = {
    "pow": (1.7,),
    "leaky_relu": (0.2,),
    "elu": (1.3,),
    "clamp": (-0.5, 0.75),
    "hardtanh": (-1.0, math.inf),
}


class Memory:
    """Arrays in random places, and the steps that compute others."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.program = Program(torch.float32)
        self.tensors: dict[Node, Tensor] = {}
        self.places: dict[Node, Place] = {}

    def put(self, node: Node, values: Tensor | None = None, *, is_plain: bool = True) -> None:
        """Gives a node memory: plain, or its axes in any order with gaps between elements."""
        shape, rank = node.shape, node.rank
        order = [*range(rank)] if is_plain else torch.randperm(rank, generator=self.generator).tolist()
        gaps = [0] * rank if is_plain else torch.randint(0, 3, (rank,), generator=self.generator).tolist()
        sizes = [shape[axis] for axis in order]
        inside = tuple(slice(0, size) for size in sizes)
        wide = torch.full([size + gap for size, gap in zip(sizes, gaps, strict=True)], math.nan)
        back = sorted(range(rank), key=order.__getitem__)
        tensor = wide[inside].permute(back)
        if values is not None:
            tensor.copy_(values)
        self.tensors[node] = tensor
        self.places[node] = Place(tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))

    def run(self) -> None:
        operations = self.program.operations()
        kernels = load_kernels()
        kernels.mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)


def compute(
    results: Sequence[Node], leaves: Mapping[Node, Tensor], *, seed: int = 0, is_plain: bool = True
) -> dict[Node, Tensor]:
    """Returns results by groups; everything else than groups has to be a movement without a copy."""
    memory = Memory(seed)
    for node, values in leaves.items():
        memory.put(node, values, is_plain=is_plain)
    for step in fuse(sorted_nodes(results), results):
        if isinstance(step, Fused):
            for node in step.outputs:
                memory.put(node, is_plain=is_plain)
            emit_fused(memory.program, step, memory.places)
        elif step not in memory.places:
            place = view(step, memory.places[step.inputs[0]])
            assert place is not None
            memory.places[step] = place
    memory.run()
    return {node: memory.tensors[node] for node in results if node in memory.tensors}


def assert_right(
    results: Sequence[Node], leaves: Mapping[Node, Tensor], *, seed: int = 0, is_plain: bool = True
) -> None:
    computed = compute(results, leaves, seed=seed, is_plain=is_plain)
    exact = evaluate([*computed], leaves)
    for value, expected in zip(computed.values(), exact, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=2e-5, atol=2e-5, equal_nan=True)


def random(shape: Sequence[int], seed: int = 0) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


FUNCTION_NAMES = [*PLAIN_FUNCTIONS, *PAIRED_FUNCTIONS, *(f"{name}'" for name in PAIRED_FUNCTIONS)]


def test_there_is_code_for_each_function_of_graphs() -> None:
    assert {*FUNCTION_NAMES} == {*functions.FUNCTIONS}


@pytest.mark.parametrize("name", FUNCTION_NAMES)
def test_a_function_errs_by_few_units(name: str) -> None:
    x = leaf((4000,))
    values = torch.cat([torch.linspace(-30, 30, 2001), torch.randn(1990), torch.tensor([0.0, -0.0])])
    values = torch.cat([values, torch.tensor([0.5, -0.5, 1.0, -1.0, 0.75, 6.0, 1e-30])])
    arguments = ARGUMENTS.get(name.rstrip("'"), ())
    node = graph.unary(x, name, *arguments)
    result = compute([node], {x: values})[node]
    [exact] = evaluate([node], {x: values})
    torch.testing.assert_close(result.double(), exact, rtol=1e-6, atol=3e-7, equal_nan=True)


@pytest.mark.parametrize("name", [*PLAIN_FUNCTIONS, *PAIRED_FUNCTIONS])
def test_nan_stays_nan(name: str) -> None:
    x = leaf((17,))
    node = graph.unary(x, name, *ARGUMENTS.get(name, ()))
    assert compute([node], {x: torch.full((17,), math.nan)})[node].isnan().all()


def test_exponentials_at_the_ends_of_float32() -> None:
    x = leaf((6,))
    values = torch.tensor([-math.inf, -120.0, -87.0, 88.5, 89.0, math.inf])
    node = graph.unary(x, "exp")
    expected = values.double().exp().float()
    torch.testing.assert_close(compute([node], {x: values})[node], expected, rtol=3e-7, atol=1e-38)


def test_what_a_mask_does_not_keep_is_zero() -> None:
    x, mask = leaf((3, 19)), leaf((3, 19), 1)
    kept = (random((3, 19), 1) > 0).float()
    values = torch.where(kept > 0, random((3, 19)), torch.tensor([math.inf, -math.inf, math.nan]).view(3, 1))
    node = graph.keep(x, mask)
    result = compute([node], {x: values, mask: kept})[node]
    assert torch.equal(result, torch.where(kept > 0, values, 0.0))


@pytest.mark.parametrize("norm", [rms_norm, softmax, layer_norm])
@pytest.mark.parametrize("shape", [(4, 6, 16), (3, 50, 16), (2, 3, 16)])
@pytest.mark.parametrize("is_plain", [True, False])
def test_norms(norm: Callable[[Node], Node], shape: tuple[int, int, int], is_plain: bool) -> None:
    x, scale, bias = leaf(shape), leaf((16,), 1), leaf((16,), 2)
    result = graph.add(graph.mul(norm(x), graph.broadcast(scale, shape)), graph.broadcast(bias, shape))
    leaves = {x: random(shape), scale: random((16,), 1), bias: random((16,), 2)}
    for seed in range(5):
        assert_right([result], leaves, seed=seed, is_plain=is_plain)


def test_a_function_and_its_derivative() -> None:
    x, gradient = leaf((7, 100)), leaf((7, 100), 1)
    z = graph.affine(x, 1.5, 0.1)
    value, backward = graph.unary(z, "gelu"), graph.mul(gradient, graph.unary(z, "gelu'"))
    bias = graph.total(backward, [0])
    assert_right([value, backward, bias], {x: random((7, 100)), gradient: random((7, 100), 1)})


def test_a_result_may_lie_where_an_input_lies() -> None:
    x, y = leaf((5, 33)), leaf((5, 33), 1)
    first = graph.add(x, y)
    second = graph.mul(x, first)
    memory = Memory()
    memory.put(x, random((5, 33)))
    memory.put(y, random((5, 33), 1))
    memory.places[first], memory.places[second] = memory.places[x], memory.places[y]
    exact = evaluate([first, second], {x: memory.tensors[x], y: memory.tensors[y]})
    [group] = [
        step for step in fuse(sorted_nodes([first, second]), [first, second]) if isinstance(step, Fused)
    ]
    emit_fused(memory.program, group, memory.places)
    memory.run()
    torch.testing.assert_close(memory.tensors[x].double(), exact[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(memory.tensors[y].double(), exact[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_long_sums_err_by_a_millionth(axes: tuple[int, ...]) -> None:
    x = leaf((4000, 17))
    node = graph.total(x, axes)
    values = torch.rand(4000, 17) + 0.5
    result = compute([node], {x: values})[node]
    torch.testing.assert_close(result.double(), values.double().sum(axes, keepdim=True), rtol=1e-6, atol=0)


def test_the_largest_keeps_nan() -> None:
    x = leaf((4, 40))
    values = random((4, 40))
    values[1, 38] = math.nan
    for axis in (0, 1):
        node = graph.maximum(x, axis)
        torch.testing.assert_close(
            compute([node], {x: values})[node], values.amax(axis, True), equal_nan=True
        )


def grown_of_movements_without_copies(pool: list[Node], choice: tuple[int, int, int]) -> Node:
    kind, first, second = choice
    if kind == 2:
        a = pool[first % len(pool)]
        return graph.unary(a, ("gelu", "gelu'", "tanh")[second % 3])
    if kind == 6:
        a = pool[first % len(pool)]
        return graph.maximum(a, second % a.rank)
    return grown(pool, kind, first, second)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 99), st.integers(0, 99)), max_size=25),
    st.lists(st.integers(0, 99), min_size=1, max_size=4),
    st.tuples(st.integers(1, 5), st.sampled_from([1, 2, 6, 40]), st.sampled_from([1, 3, 16, 19, 600])),
    st.integers(0, 99),
    st.booleans(),
)
def test_random_groups(
    choices: list[tuple[int, int, int]],
    results: list[int],
    shape: tuple[int, int, int],
    seed: int,
    is_plain: bool,
) -> None:
    a, b, c = shape
    pool = [leaf(shape), leaf(shape, 1), leaf((a, b, 1), 2), leaf((1, 1, c), 3), leaf((1, b, 1), 4)]
    leaves = {node: random(node.shape, i).div(4) for i, node in enumerate(pool)}
    for choice in choices:
        node = grown_of_movements_without_copies(pool, choice)
        scale = 1 / math.sqrt(max(1, node.inputs[0].size // node.size)) if node.inputs else 1.0
        node = graph.affine(node, scale * 0.5)
        if node.operation not in ("permute", "expand"):
            pool.append(node)
    kept = [*dict.fromkeys(pool[-1 - index % len(pool)] for index in results)]
    assert_right(kept, leaves, seed=seed, is_plain=is_plain)
