"""Gemms of programs against the same in double precision: every case of transposes, sizes and strides."""

from __future__ import annotations

import ctypes
import itertools
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.program import Batch, Program
from tests.conftest import needs_compiler

pytestmark = needs_compiler

PRECISIONS = [torch.float32, torch.bfloat16]


@dataclass(frozen=True)
class Case:
    """A batch of gemms, with gaps between rows and between matrices."""

    precision: torch.dtype
    sizes: tuple[int, int, int]
    transposed: str = ""
    beta: float = 0.0
    count: int = 1
    gap: int = 0


def run(program: Program, precision: torch.dtype) -> None:
    operations = program.operations()
    load_kernels(precision).mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)


def matrices(shape: tuple[int, int, int], gap: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns random matrices (count, rows, columns) as a view of memory that is NaN between them.

    The memory ends with the last element.
    """
    count, rows, columns = shape
    distance = rows * (columns + gap) + gap
    elements = (count - 1) * distance + (rows - 1) * (columns + gap) + columns
    memory = torch.full((elements,), float("nan"), dtype=dtype)
    view = memory.as_strided(shape, (distance, columns + gap, 1))
    return view.copy_(torch.rand(shape) * 2 - 1)


def count_nan_in_memory(x: Tensor) -> int:
    """Returns how many elements of the whole memory behind a view are NaN."""
    elements = x.untyped_storage().nbytes() // x.element_size()
    return int(x.as_strided((elements,), (1,), 0).isnan().sum())


def as_factors(a: Tensor, b: Tensor, transposed: str) -> tuple[Tensor, Tensor]:
    """Returns a (…, m, k) and b (…, k, n) in double precision."""
    return (a.mT if "a" in transposed else a).double(), (b.mT if "b" in transposed else b).double()


def assert_exact(case: Case) -> None:
    """A result errs by no more than the rounding of its sums, and nothing between results is written."""
    torch.manual_seed(0)
    m, n, k = case.sizes
    a_shape = (k, m) if "a" in case.transposed else (m, k)
    b_shape = (n, k) if "b" in case.transposed else (k, n)
    a, b = (matrices((case.count, *shape), case.gap, case.precision) for shape in (a_shape, b_shape))
    c = matrices((case.count, m, n), case.gap)
    if not case.beta:
        c.fill_(float("nan"))  # is overwritten, whatever it is
    before = case.beta * c.nan_to_num().double()
    a64, b64 = as_factors(a, b, case.transposed)
    bound = (k + 2) * 2.0**-23 * (a64.abs() @ b64.abs() + before.abs())
    gaps = count_nan_in_memory(c) - int(c.isnan().sum())
    strides, row_strides = ((a.stride(i), b.stride(i), c.stride(i)) for i in range(2))
    program = Program(case.precision)
    operands, batch = (a.data_ptr(), b.data_ptr()), Batch(case.count, strides, row_strides)
    program.gemm_batch(operands, c.data_ptr(), case.sizes, batch, case.transposed, beta=case.beta)
    run(program, case.precision)
    assert ((c.double() - (a64 @ b64 + before)).abs() <= bound).all(), case
    assert count_nan_in_memory(c) == gaps


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_every_case(precision: torch.dtype, transposed: str, beta: float) -> None:
    for sizes in itertools.product([1, 17, 64], [1, 16, 65], [1, 16, 31]):
        assert_exact(Case(precision, sizes, transposed, beta, count=2))


@settings(max_examples=200)
@given(
    precision=st.sampled_from(PRECISIONS),
    sizes=st.tuples(*[st.integers(1, 70)] * 3),
    transposed=st.sampled_from(["", "a", "b", "ab"]),
    beta=st.sampled_from([0.0, 1.0, 0.3]),
    count=st.integers(1, 3),
    gap=st.sampled_from([0, 1, 3, 16]),
)
def test_any_sizes_and_strides(
    precision: torch.dtype,
    sizes: tuple[int, int, int],
    transposed: str,
    beta: float,
    count: int,
    gap: int,
) -> None:
    assert_exact(Case(precision, sizes, transposed, beta, count, gap))
