"""Shapes that are known without asking torch are those that torch finds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload

from mixcoder.models.dispatch import _SHAPES, compute
from tests.conftest import slow

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for path in (ROOT / "experiments").rglob("*.yml") if "expected:" in path.read_text("utf-8")
)

aten = torch.ops.aten
ARGUMENTS: dict[OpOverload, list[tuple[Any, ...]]] = {
    aten.mse_loss.default: [(torch.rand(2, 3), torch.rand(2, 3))],
    aten.mse_loss_backward.default: [(torch.rand(()), torch.rand(2, 3), torch.rand(2, 3), 1)],
    aten.addmm.default: [(torch.rand(4), torch.rand(2, 3), torch.rand(3, 4))],
    aten.cat.default: [([torch.rand(2, 3), torch.rand(5, 3)],), ([torch.rand(2, 3), torch.rand(2, 1)], -1)],
    aten.threshold_backward.default: [(torch.rand(2, 3), torch.rand(2, 3), 0)],
    aten.hardtanh_backward.default: [(torch.rand(2, 3), torch.rand(2, 3), 0, 6)],
    **{operation: [(torch.rand(2, 3),)] for operation in (aten.gelu.default, aten.silu.default)},
    **{operation: [(torch.rand(2, 3),)] for operation in (aten.relu.default, aten.hardtanh.default)},
    **{operation: [(torch.rand(2, 3),)] for operation in (aten.sigmoid.default, aten.tanh.default)},
    **{
        operation: [(torch.rand(2, 3), torch.rand(2, 3))]
        for operation in (
            *(aten.gelu_backward.default, aten.silu_backward.default),
            *(aten.sigmoid_backward.default, aten.tanh_backward.default),
        )
    },
    **{
        operation: [(torch.rand(4, 1, 3), torch.rand(2, 1)), (torch.rand(2, 3), 255), (torch.rand(()), 2.0)]
        for operation in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
    },
}
GROUPED = torch.rand(2, 4, 9, 8), torch.rand(6, 2, 3, 5), torch.rand(6)
ARGUMENTS |= {
    aten.mm.default: [(torch.rand(2, 3), torch.rand(3, 4))],
    aten.bmm.default: [(torch.rand(5, 2, 3), torch.rand(5, 3, 4))],
    aten.convolution.default: [
        (torch.rand(2, 3, 9), torch.rand(4, 3, 5), None, [2], [1], [1], False, [0], 1),
        (
            torch.rand(2, 4, 9, 8),
            torch.rand(6, 2, 3, 5),
            torch.rand(6),
            [1, 2],
            [1, 0],
            [2, 1],
            False,
            [0, 0],
            2,
        ),
        (torch.rand(2, 4, 5, 6), torch.rand(4, 3, 3, 4), None, [2, 3], [1, 0], [1, 2], True, [1, 2], 2),
    ],
    **{
        operation: [
            (torch.rand(2, 3, 4), [1], True),
            (torch.rand(2, 3, 4), [0, -1]),
            (torch.rand(2, 3), None),
            (torch.rand(2, 3), None, True),
        ]
        for operation in (aten.mean.dim, aten.sum.dim_IntList)
    },
}
CASES = [(operation, arguments) for operation in _SHAPES for arguments in ARGUMENTS[operation]]


def on_meta(value: Any) -> Any:
    """The argument without its numbers."""
    if isinstance(value, list):
        return [on_meta(each) for each in value]
    return value.to("meta") if isinstance(value, Tensor) else value


@pytest.mark.parametrize(("operation", "arguments"), CASES, ids=lambda it: str(it) if callable(it) else "")
def test_shapes_are_those_that_torch_finds(operation: OpOverload, arguments: tuple[Any, ...]) -> None:
    really = operation(*arguments)
    found = compute(operation, tuple(on_meta(argument) for argument in arguments), {})
    assert (found.shape, found.dtype, found.is_meta) == (really.shape, really.dtype, True)


PLAIN = (None, [1], [0], [1], False, [0], 1)
UNFIT: list[tuple[OpOverload, tuple[Any, ...]]] = [
    (aten.add.Tensor, (torch.rand(2, 3), torch.rand(2))),
    (aten.mm.default, (torch.rand(2, 3), torch.rand(2, 3))),
    (aten.bmm.default, (torch.rand(5, 2, 3), torch.rand(4, 3, 2))),
    (aten.addmm.default, (torch.rand(3), torch.rand(2, 3), torch.rand(3, 4))),
    (aten.cat.default, ([torch.rand(2, 3), torch.rand(3, 2)],)),
    (aten.cat.default, ([torch.rand(2, 3), torch.rand(2, 3)], 2)),
    (aten.mean.dim, (torch.rand(2, 3), [2])),
    (
        aten.convolution.default,
        (torch.rand(2, 3, 9), torch.rand(4, 2, 5), None, [1], [0], [1], False, [0], 1),
    ),
    (
        aten.convolution.default,
        (torch.rand(2, 3, 3), torch.rand(4, 3, 5), None, [1], [0], [1], False, [0], 1),
    ),
]


@pytest.mark.parametrize(("operation", "arguments"), UNFIT, ids=lambda it: str(it) if callable(it) else "")
def test_what_does_not_fit_is_torchs_error(operation: OpOverload, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(Exception) as theirs:
        operation(*arguments)
    with pytest.raises(type(theirs.value)):
        compute(operation, tuple(on_meta(argument) for argument in arguments), {})


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16])
def test_numbers_of_another_type_are_left_to_torch(dtype: torch.dtype) -> None:
    left, right = torch.ones(2, 3, dtype=dtype), torch.ones(3)
    found = compute(aten.add.Tensor, (left.to("meta"), right.to("meta")), {})
    assert found.dtype == (left + right).dtype


def test_real_numbers_without_axes_are_really_computed() -> None:
    assert compute(aten.mul.Tensor, (torch.tensor(2.0), torch.tensor(3.0)), {}) == 6


def test_real_tensors_are_really_computed() -> None:
    assert compute(aten.add.Tensor, (torch.ones(2), torch.ones(2)), {}).tolist() == [2.0, 2.0]


PLANS = """
import sys
from mixcoder.cli.app import main
for file in sys.argv[2:]:
    try:
        main(["plan", file, "--runs", sys.argv[1]])
    except SystemExit as end:
        assert not end.code, file
    assert "torch._dynamo" not in sys.modules, file
"""


@slow
def test_no_shipped_file_is_planned_by_half_a_compiler(tmp_path: Path) -> None:
    """Importing it takes one of the three seconds that a plan may take. One process plans all files."""
    command = [sys.executable, "-c", PLANS, str(tmp_path), *map(str, FILES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
