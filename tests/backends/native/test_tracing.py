from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixcoder.backends.losses import LOSSES
from mixcoder.backends.native.tracing import trace
from mixcoder.models import create_model
from tests.backends.native.evaluate import gradients_of

ARTICLE = [("cnn", 1), ("cnn", 3), ("cnnf", 3), ("cnn2d", 3), ("cnn2df", 3), ("mlp", 1)]


def check_trace(model: nn.Module, images: Tensor, loss: str = "mse") -> None:
    """Outputs and gradients of the traced graph are those of autograd, in float64."""
    traced = trace(model, images.shape)
    outputs, found = gradients_of(traced, loss, images, model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wanted = model.double()(images.double())
    torch.testing.assert_close(outputs, wanted)
    loss_of = LOSSES[loss](wanted, images.double())
    expected = torch.autograd.grad(loss_of, parameters, materialize_grads=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("mixer", "kernel_size"), ARTICLE)
def test_the_graph_of_a_mixer_is_its_forward(mixer: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(2, 12, 16),
        patch_size=4,
        hidden_channels=[16, 16, 9],
        latent_dim=5,
        mixer_at=[1, 2, 3],
        mixer=mixer,
        kernel_size=kernel_size,
    )
    check_trace(model, torch.rand(3, 2, 12, 16))
