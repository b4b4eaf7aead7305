"""Muon against torch's own, and what it does to singular values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mixcoder.backends.matrices import MatrixShape
from mixcoder.backends.muon import Muon
from mixcoder.backends.newton_schulz import orthogonalize


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (9, 4), (40, 70)])
def test_its_steps_are_those_of_torch_but_for_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = ([nn.Parameter(value.clone()) for value in torch.ones(2, *shape)] for _ in range(2))
    muon = Muon({p: MatrixShape(1, *shape) for p in ours}, 0.02, weight_decay=0.3)
    torchs = torch.optim.Muon(theirs, 0.02, weight_decay=0.3, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = other.grad = torch.randn(shape)
        muon.step()
        torchs.step()  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        moved = (other - 1).norm()
        assert (one - other).norm() < 0.01 * moved


def test_convolutions_and_stacks_are_the_matrices_that_they_are_made_of() -> None:
    torch.manual_seed(0)
    values, gradients = torch.randn(5, 4, 6), torch.randn(5, 4, 6)
    stacked, flattened, single = (
        nn.Parameter(v) for v in (values.clone(), values.clone(), values[1].clone())
    )
    flat = nn.Parameter(values.flatten(1).clone())
    shapes = {stacked: MatrixShape(5, 4, 6), flattened: MatrixShape(1, 5, 24)}
    muon = Muon({**shapes, single: MatrixShape(1, 4, 6), flat: MatrixShape(1, 5, 24)}, 0.1)
    stacked.grad, flattened.grad, single.grad, flat.grad = (
        gradients,
        gradients,
        gradients[1],
        gradients.flatten(1),
    )
    muon.step()
    torch.testing.assert_close(stacked[1], single)
    torch.testing.assert_close(flattened.flatten(1), flat)


@pytest.mark.parametrize("shape", [(8, 8), (4, 30), (30, 4)])
def test_singular_values_come_near_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(20, *shape) + 9 * torch.eye(*shape)  # without tiny singular values
    found = torch.linalg.svdvals(orthogonalize(matrices * 1e3))
    assert 0.5 < found.min() < found.max() < 1.25


def test_zeros_stay_zeros() -> None:
    assert orthogonalize(torch.zeros(1, 3, 4)).count_nonzero() == 0


TRAINING = """
import sys
from pathlib import Path
import mixcoder
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
model = mixcoder.create_model("cnn", image_shape=(1, 8, 8), channels=[4], kernel_size=3, latent_dim=4)
recipe = Recipe(steps=3, optimizer=sys.argv[1], ema=0.9, clip_norm=1.0, compile="off")
runs = [TrainingLoop(model, mixcoder.load_data("digits"), recipe) for _ in range(2)]
list(runs[0].run())
runs[0].save(Path(sys.argv[2]))
runs[1].restore(Path(sys.argv[2]))
assert "torch._dynamo" not in sys.modules
"""


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_no_optimizer_imports_torchs_compiler(name: str, tmp_path: Path) -> None:
    """A second or two of a start."""
    subprocess.run([sys.executable, "-c", TRAINING, name, str(tmp_path / "checkpoint")], check=True)
