"""Copies between arrays in all orders, and which operation does each."""

from __future__ import annotations

import ctypes

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.codes import OPERATIONS
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.placing import Place
from mixcoder.backends.native.program import Program
from tests.conftest import needs_compiler

pytestmark = needs_compiler


def place_of(x: Tensor) -> Place:
    return Place(x.data_ptr(), tuple(x.shape), tuple(x.stride()))


def run(program: Program) -> list[str]:
    """Runs a program; returns the names of its operations with their sizes."""
    operations = program.operations()
    load_kernels().mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)
    return [
        f"{OPERATIONS[operation['code']]} {' '.join(map(str, operation['n'].tolist()))}"
        for operation in operations
    ]


def moved(source: Tensor, target: Tensor, *, is_added: bool = False) -> str:
    """Copies by one operation; returns it."""
    program = Program(torch.float32)
    emit_move(program, place_of(source), place_of(target), is_added=is_added)
    [operation] = run(program)
    return operation


def test_transposes_are_what_they_were() -> None:
    by_patch, by_image = torch.rand(7, 5, 3), torch.zeros(5, 7, 3)
    assert moved(by_patch.transpose(0, 1), by_image).split()[:5] == ["transpose", "1", "7", "5", "3"]
    assert torch.equal(by_image, by_patch.transpose(0, 1))
    blocks = torch.zeros(2, 5, 7, 3)
    source = torch.rand(2, 7, 5, 3)
    assert moved(source.transpose(1, 2), blocks).split()[:5] == ["transpose", "2", "7", "5", "3"]
    assert torch.equal(blocks, source.transpose(1, 2))


@pytest.mark.parametrize(
    ("shape", "axes", "is_added", "operation"),
    [
        ((4, 5, 6), (0, 1, 2), False, "transpose"),
        ((4, 5, 6), (0, 1, 2), True, "add"),
        ((4, 5, 6), (0, 2, 1), False, "permute"),
        ((4, 5, 6), (0, 2, 1), True, "permute"),
        ((4, 5, 6), (1, 0, 2), True, "move"),
        ((2, 3, 4, 5, 6), (2, 0, 4, 1, 3), False, "move"),
    ],
)
def test_the_fastest_operation(
    shape: tuple[int, ...], axes: tuple[int, ...], is_added: bool, operation: str
) -> None:
    source = torch.rand(shape).permute(axes)
    target = torch.rand(source.shape)
    expected = source + target if is_added else source
    assert moved(source, target, is_added=is_added).split()[0] == operation
    assert torch.equal(target, expected)


def laid_out(shape: list[int], order: list[int], gaps: list[int]) -> Tensor:
    """Returns zeros whose axes lie in memory in an order, with gaps between them that are NaN."""
    sizes = [shape[axis] for axis in order]
    wide = torch.full([size + gap for size, gap in zip(sizes, gaps, strict=True)], float("nan"))
    back = sorted(range(len(shape)), key=order.__getitem__)
    return wide[tuple(slice(0, size) for size in sizes)].permute(back).zero_()


def nan_around(x: Tensor) -> int:
    elements = x.untyped_storage().nbytes() // 4
    return int(x.as_strided((elements,), (1,), 0).isnan().sum())


@given(st.data(), st.integers(1, 6), st.booleans())
def test_random_places(data: st.DataObject, rank: int, is_added: bool) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 9, 17]), min_size=rank, max_size=rank))
    while torch.Size(shape).numel() > 20_000:
        shape[shape.index(max(shape))] = 1
    source, target = (
        laid_out(
            shape,
            data.draw(st.permutations(range(rank))),
            data.draw(st.lists(st.integers(0, 2), min_size=rank, max_size=rank)),
        )
        for _ in range(2)
    )
    source.copy_(torch.rand(shape))
    target.copy_(torch.rand(shape))
    if data.draw(st.booleans()):
        axis = data.draw(st.integers(0, rank - 1))
        source = source.narrow(axis, 0, 1).expand(shape)
    expected, around = (source + target if is_added else source.clone()), nan_around(target)
    moved(source, target, is_added=is_added)
    assert torch.equal(target, expected)
    assert nan_around(target) == around
