"""Gemms of programs against the same in double precision: every case of transposes, sizes and strides."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.backends.native import products
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.products import Processor
from mixcoder.backends.native.program import Batch, Program
from tests.conftest import needs_compiler

pytestmark = needs_compiler

PRECISIONS = list(products.PRECISIONS)


@dataclass(frozen=True)
class Case:
    """A batch of gemms, with gaps between rows and between matrices."""

    precision: torch.dtype
    sizes: tuple[int, int, int]
    transposed: str = ""
    beta: float = 0.0
    count: int = 1
    gap: int = 0


def run(program: Program) -> None:
    operations = program.operations()
    load_kernels().mixcoder_run(ctypes.c_void_p(operations.ctypes.data), len(operations), None)


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
    run(program)
    assert ((c.double() - (a64 @ b64 + before)).abs() <= bound).all(), case
    assert count_nan_in_memory(c) == gaps


@pytest.fixture(params=["blas", "own"])
def _gemms(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernels call the BLAS, or their own gemms, whatever the choice on this processor."""
    is_own = request.param == "own"
    kernels = load_kernels()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(products, "is_own_faster", lambda precision, processor: is_own)
        products.set_gemms(kernels)
    yield
    products.set_gemms(kernels)


@pytest.mark.usefixtures("_gemms")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_every_case(precision: torch.dtype, transposed: str, beta: float) -> None:
    for sizes in itertools.product([1, 17, 64], [1, 16, 65], [1, 16, 31]):
        assert_exact(Case(precision, sizes, transposed, beta, count=2))


@pytest.mark.usefixtures("_gemms")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_sizes_above_all_blocks(precision: torch.dtype, transposed: str) -> None:
    """More rows, columns and steps than a block has, and rows so far apart that panels are packed."""
    assert_exact(Case(precision, (150, 300, 301), transposed, 1.0))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b"])
def test_rows_of_a_result(precision: torch.dtype, transposed: str) -> None:
    """As large weights have them, whose gradients several threads compute."""
    torch.manual_seed(0)
    m, n, k = 50, 40, 33
    a = torch.randn((k, m) if transposed == "a" else (m, k)).to(precision)
    b = torch.randn((n, k) if transposed == "b" else (k, n)).to(precision)
    whole, rows = torch.zeros(m, n), torch.zeros(19, n)
    program = Program(precision)
    operands = (a.data_ptr(), b.data_ptr())
    program.gemm(operands, whole.data_ptr(), (m, n, k), transposed)
    program.gemm_rows(operands, rows.data_ptr(), (m, n, k), transposed, slice(24, 43))
    run(program)
    torch.testing.assert_close(rows, whole[24:43], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        whole.double(), torch.matmul(*as_factors(a, b, transposed)), rtol=1e-5, atol=1e-5
    )


class Protected:
    """Memory of which the last byte lies before a page that cannot be read: who reads beyond dies.

    Args:
        size: in bytes.
    """

    def __init__(self, size: int) -> None:
        pages = -(-size // mmap.PAGESIZE)
        self._memory = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        end = self._start + pages * mmap.PAGESIZE
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
        self.address = end - size

    def holding(self, x: Tensor) -> int:
        """Returns the address of a copy of x."""
        ctypes.memmove(self.address, x.data_ptr(), x.numel() * x.element_size())
        return self.address


@pytest.mark.usefixtures("_gemms")
@pytest.mark.skipif(os.name != "posix", reason="needs mprotect")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_nothing_beyond_a_matrix_is_read(precision: torch.dtype, transposed: str) -> None:
    """Operands lie in the user's own parameters, too."""
    for m, n, k in [(1, 1, 1), (7, 9, 5), (64, 49, 63), (13, 32, 8), (5, 65, 33)]:
        operands = [torch.ones(m * k).to(precision), torch.ones(k * n).to(precision)]
        held = [Protected(x.numel() * x.element_size()) for x in operands]
        c = Protected(4 * m * n)
        result = (ctypes.c_float * (m * n)).from_address(c.address)
        a, b = (memory.holding(x) for memory, x in zip(held, operands, strict=True))
        program = Program(precision)
        program.gemm_batch((a, b), c.address, (m, n, k), Batch(1, (0, 0, 0)), transposed, beta=1.0)
        run(program)
        assert set(result) == {k}


def test_conversion_to_bfloat16_is_torch_s() -> None:
    """Rounded to the nearest, ties to even; also NaN and infinity, within vectors and behind them."""
    torch.manual_seed(0)
    special = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 3.4e38, -3.4e38, 1.00390625, 1.01171875]
    for count in (9, 40, 77, 1000):
        x = torch.randn(count) * 10.0 ** torch.randint(-30, 30, (count,))
        x[:9] = x[-9:] = torch.tensor(special)
        out = torch.zeros(count, dtype=torch.bfloat16)
        program = Program(torch.bfloat16)
        program.copy_operand(x.data_ptr(), count, out.data_ptr())
        run(program)
        torch.testing.assert_close(out, x.bfloat16(), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("transposed", ["", "a", "b"])
def test_own_gemms_give_the_same_bits_wherever_matrices_lie(precision: torch.dtype, transposed: str) -> None:
    """A run that is resumed, or is one of a sweep, has its buffers elsewhere."""
    torch.manual_seed(0)
    m, n, k = 65, 70, 131
    values, results = torch.randn(2, 70 * 131), []
    kernels = load_kernels()
    kernels.mixcoder_set_blas(None, None)
    for offset in (0, 1, 7):
        memory = torch.zeros(2, 70 * 131 + offset, dtype=precision)
        a, b = (row[offset:].copy_(x) for row, x in zip(memory, values, strict=True))
        c = torch.zeros(m * n + offset)[offset:]
        program = Program(precision)
        program.gemm((a.data_ptr(), b.data_ptr()), c.data_ptr(), (m, n, k), transposed)
        run(program)
        results.append(c.clone())
    products.set_gemms(kernels)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_reaches_exactly_what_it_is_a_factor_of(precision: torch.dtype) -> None:
    """Zeros that fill up a vector or a pair times NaN would be NaN."""
    for k in (1, 7, 8):
        a, b, c = torch.ones(5, k), torch.ones(k, 49), torch.zeros(5, 49)
        a[2, k - 1] = b[0, 48] = float("nan")
        a, b = a.to(precision), b.to(precision)
        program = Program(precision)
        program.gemm((a.data_ptr(), b.data_ptr()), c.data_ptr(), (5, 49, k))
        run(program)
        assert torch.equal(c.isnan(), a.isnan().any(1)[:, None] | b.isnan().any(0))


@pytest.mark.usefixtures("_gemms")
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize(
    ("processor", "own"),
    [
        (Processor(is_rival=False, has_tiles=True), []),
        (Processor(is_rival=False, has_tiles=False), [torch.bfloat16]),
        (Processor(is_rival=True, has_tiles=False), PRECISIONS),
        (Processor(is_rival=True, has_tiles=True), [torch.float32]),
    ],
)
def test_the_choice_of_gemms(processor: Processor, own: list[torch.dtype]) -> None:
    assert [precision for precision in PRECISIONS if not products.find_blas(precision, processor)] == own


def test_without_a_blas_the_kernels_own_gemms_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(precision: torch.dtype) -> None:
        raise AttributeError(f"no gemm of {precision}")

    monkeypatch.setattr(products, "blas_gemm", missing)
    of_intel = Processor(is_rival=False, has_tiles=True)
    assert not any(products.find_blas(precision, of_intel) for precision in PRECISIONS)
