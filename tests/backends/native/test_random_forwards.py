"""Random networks as graphs, in float64: outputs and gradients are those of autograd to the last digits."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from tests.backends.native.test_tracing import check_trace
from tests.conftest import slow_but
from tests.faults.random_networks import create_images, create_network, draw


@pytest.mark.parametrize("seed", slow_but(8, range(60)))
def test_a_random_network(seed: int) -> None:
    case = draw(Random(seed))
    model = create_network(case)
    for module in model.modules():
        if isinstance(module, nn.RMSNorm) and module.eps is None:
            module.eps = torch.finfo(torch.float32).eps  # in float64, torch takes a smaller one
    images = create_images(case, model).float() / 255
    check_trace(model, images, case["loss"])
