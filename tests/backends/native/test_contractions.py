"""Contractions as products of matrices: any labels, operands anywhere in memory, as einsum has it."""

from __future__ import annotations

import ctypes
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.graph import split_labels
from mixcoder.backends.native.placement import Leaves, Placement
from mixcoder.backends.native.placing import Place
from mixcoder.backends.native.product_lowering import emit_contraction
from mixcoder.backends.native.program import Program
from mixcoder.backends.native.shards import Shard, Vectors
from tests.conftest import needs_compiler

pytestmark = needs_compiler
SIZES = [1, 2, 3, 5, 16, 18]


def somewhere(draw: st.DrawFn, shape: list[int]) -> tuple[Tensor, Place]:
    """Returns an array in a larger one, its axes in any order of memory, or repeated."""
    rank = len(shape)
    order = draw(st.permutations(range(rank)))
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 3]), min_size=rank, max_size=rank))
    steps, step = [0] * rank, 1
    for axis in reversed(order):
        steps[axis] = step
        step *= shape[axis] + gaps[axis]
    for axis in range(rank):
        if draw(st.integers(0, 9)) == 0:
            steps[axis] = 0
    array = torch.randn(step + 1).as_strided(shape, steps)
    return array, Place(array.data_ptr(), tuple(shape), tuple(steps))


@st.composite
def contractions(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """Labels of a contraction, and their sizes."""
    parts = draw(st.lists(st.sampled_from(["batch", "rows", "columns", "inner"]), min_size=1, max_size=5))
    labels = "abcde"[: len(parts)]
    of_a = [x for x, part in zip(labels, parts, strict=True) if part != "columns"]
    of_b = [x for x, part in zip(labels, parts, strict=True) if part != "rows"]
    result = [x for x, part in zip(labels, parts, strict=True) if part != "inner"]
    orders = ["".join(draw(st.permutations(x))) for x in (of_a, of_b, result)]
    sizes = {x: draw(st.sampled_from(SIZES)) for x in labels}
    return f"{orders[0]},{orders[1]}->{orders[2]}", sizes


@settings(max_examples=200)
@given(data=st.data())
def test_any_contraction_is_that_of_einsum(data: st.DataObject) -> None:
    labels, sizes = data.draw(contractions())
    of_a, of_b, _ = split_labels(labels)
    operands = [data.draw(st.composite(somewhere)([sizes[x] for x in of])) for of in (of_a, of_b)]
    nodes = [graph.parameter([sizes[x] for x in of], 0) for of in (of_a, of_b)]
    node = graph.contract(nodes[0], nodes[1], labels)
    program = Program(torch.float32)
    placement = Placement(program, Shard(0, 1, {}), Leaves(Vectors(0, 0, 0, 0), []), {}, {})
    for x, (_, place) in zip(nodes, operands, strict=True):
        placement.put(x, place)
    emit_contraction(placement, node, None)
    result = placement.place(node)
    kept = torch.full((math.prod(node.shape) + 1,), torch.nan)
    out = program.keep(kept)
    placement_of_result = Place(out, node.shape, result.strides)
    program.copy(result.address, node.size, out)
    operations = program.operations()
    load_kernels().mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)
    found = kept.as_strided(node.shape, placement_of_result.strides)
    expected = torch.einsum(labels, *(array.double() for array, _ in operands))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
