"""Convolutions over fields have operations of their own, which compute what torch does."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import mixcoder
from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.native import products
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.codes import OPERATIONS
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.step import StepSpec
from mixcoder.models import Autoencoder, create_model
from mixcoder.torch_private import blas_gemm
from tests.backends.native.test_native_step import assert_exact, spec
from tests.conftest import needs_compiler

pytestmark = needs_compiler

Conv, Transposed = nn.Conv2d, nn.ConvTranspose2d


class Network(Autoencoder):
    """Any layers, from images to images."""

    def __init__(self, image_shape: tuple[int, int, int], *layers: nn.Module) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = image_shape, image_shape
        self.layers = nn.Sequential(*layers)

    def _encode(self, images: Tensor) -> Tensor:
        return images

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.layers(latents)
        return images


class Residual(nn.Module):
    """A layer with a skip around it."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.layers(x)
        return changed


class OverLine(nn.Module):
    """Convolutions over the columns of one row of pixels, each of a line."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.layers(x.squeeze(2))
        return images.unsqueeze(2)


def networks() -> dict[str, Network]:
    """Odd sizes, paddings, even kernels, groups, strides: forward, and transposed as well."""
    torch.manual_seed(0)
    act = nn.GELU()
    return {
        "unpadded": Network((3, 7, 9), Conv(3, 24, 5), act, Transposed(24, 3, 5)),
        "padded": Network((3, 7, 9), Conv(3, 8, 3, padding=1), act, Conv(8, 3, (3, 5), padding=(1, 2))),
        "even": Network((2, 6, 5), Conv(2, 6, 4, padding=(2, 1)), act, Transposed(6, 2, 4, padding=(2, 1))),
        "much padding": Network((2, 4, 5), Conv(2, 6, 3, padding=4), act, Transposed(6, 2, 3, padding=4)),
        "groups": Network(
            (4, 7, 6),
            Conv(4, 12, 3, padding=1, groups=2),
            act,
            Transposed(12, 4, 3, padding=1, groups=4),
        ),
        "multiplied": Network((2, 7, 6), Conv(2, 6, 3, padding=1, groups=2), act, Conv(6, 2, 1)),
        "by channel": Network(
            (5, 7, 6),
            Conv(5, 5, 3, padding=1, groups=5),
            act,
            Conv(5, 5, (1, 4), groups=5),
            act,
            Transposed(5, 5, (1, 4), groups=5),
        ),
        "points before channels": Network(
            (3, 6, 6),
            Conv(3, 20, 1),
            act,
            Conv(20, 20, 3, padding=1, groups=20),
            Residual(Conv(20, 20, 3, padding=1, groups=20), act),
            Conv(20, 3, 1),
        ),
        "strided": Network(
            (3, 8, 12),
            Conv(3, 8, 4, 2, 1),
            act,
            Conv(8, 12, 3, 2, 1),
            act,
            Transposed(12, 8, 4, 2, 1),
            act,
            Transposed(8, 3, (3, 4), (2, 2), 1, (1, 0)),
        ),
        "odd stride": Network((3, 7, 9), Conv(3, 8, 3, 3, 1), act, Transposed(8, 3, (5, 3), 3, (2, 0))),
        "residual": Network(
            (3, 8, 8),
            Conv(3, 16, 3, padding=1),
            Residual(Conv(16, 16, 3, padding=1), act),
            Residual(Transposed(16, 16, 3, padding=1), act),
            Conv(16, 3, 3, padding=1),
        ),
        "line": Network((6, 1, 9), OverLine(nn.Conv1d(6, 8, 4), act, nn.ConvTranspose1d(8, 6, 4, groups=2))),
        "line by channel": Network((6, 1, 9), OverLine(nn.Conv1d(6, 6, 3, padding=1, groups=6), act)),
    }


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize(("batch_size", "shards"), [(7, 1), (32, 2), (70, 1)])
def test_gradients_are_exact(name: str, batch_size: int, shards: int) -> None:
    assert_exact(networks()[name], batch_size=batch_size, shards=shards)


@pytest.mark.parametrize("loss", ["l1", "huber"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_models_of_convolutions(loss: str, activation: str) -> None:
    torch.manual_seed(0)
    cnn = {"image_shape": (1, 12, 11), "channels": [5, 18], "kernel_size": 3, "latent_dim": 4}
    assert_exact(create_model("cnn", **cnn, activation=activation), loss, batch_size=20)
    script = {"image_shape": (3, 8, 12), "script": "ch=8|scl=1|ch*1|down2|ch=2", "kernel_size": 3}
    assert_exact(create_model("script", **script, activation=activation), loss)


class Refining(Network):
    """A network whose code is refined by its decoder: it needs second derivatives of convolutions."""

    def __init__(self) -> None:
        super().__init__((2, 6, 7), Transposed(3, 12, (3, 4)), nn.GELU(), Transposed(12, 2, 2, padding=1))
        self.encoder = nn.Sequential(Conv(2, 3, (2, 3)), Conv(3, 3, 3, padding=1, groups=3))
        self.latent_shape = (3, 5, 5)

    def _encode(self, images: Tensor) -> Tensor:
        def error(decoded: Tensor) -> Tensor:
            return decoded - images

        latents: Tensor = self.encoder(images)
        return latents - 0.1 * mixcoder.pull_back(self.layers, latents, error)


def test_second_derivatives() -> None:
    torch.manual_seed(0)
    assert_exact(Refining(), batch_size=9)


@pytest.fixture(params=[False, True], ids=["own gemms", "those of the BLAS"])
def with_gemms(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels = load_kernels()
    blas = [ctypes.cast(blas_gemm(precision), ctypes.c_void_p) for precision in products.PRECISIONS]
    kernels.mixcoder_set_blas(*(blas if request.param else [None, None]))
    yield
    products.set_gemms(kernels)


@pytest.mark.parametrize("name", networks())
def test_products_in_bfloat16(name: str, with_gemms: None) -> None:
    of = spec(networks()[name], 34, precision=torch.bfloat16)
    gradients, loss = NativeStep(of)(of.images)
    right, right_loss = eager_gradients(StepSpec(of.model, of.parameters, of.loss, of.images))(of.images)
    torch.testing.assert_close(loss, right_loss, rtol=2e-3, atol=0)
    assert (gradients - right).norm() < 1e-2 * right.norm()
    assert not torch.equal(gradients, right)


def operations(model: Autoencoder) -> Counter[str]:
    emitted = NativeStep(spec(model, 32))._operations[0]
    return Counter(OPERATIONS[operation["code"]] for operation in emitted)


def test_layers_follow_each_other_without_copies() -> None:
    """Each bias goes with its activation; the gradients of weights alone take arrays in another order."""
    found = operations(
        Network((3, 8, 8), Conv(3, 24, 3), nn.ReLU(), Conv(24, 24, 3), nn.ReLU(), Transposed(24, 3, 5))
    )
    assert found["activate"] == found["activate_backward"] == found["correlate_field"] == 3
    assert found["convolve_field"] == 5  # none for the gradients of the images
    assert not found["elementwise"]
