"""A batch is divided into shards only where no image depends on another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mixcoder.backends.native.tracing import trace
from mixcoder.backends.step import UnsupportedError
from mixcoder.models import create_model
from tests.backends.native.test_tracing import ARTICLE, GOOD, IMAGES, Network
from tests.models.test_pull_back import Refined

APART: dict[str, Callable[[Any, Tensor], Any]] = {
    **GOOD,
    "joined with patches": lambda net, x: net.layer(x.reshape(-1, 6)).reshape(x.shape),
    "images last": lambda net, x: (
        (net.weight @ x.reshape(len(x), 4, 6).permute(2, 1, 0).flatten(1))
        .reshape(6, 4, len(x))
        .permute(2, 1, 0)
        .reshape(x.shape)
    ),
    "attention within": lambda net, x: (x @ x.mT).softmax(-1) @ net.layer(x),
    "rolled within": lambda net, x: net.layer(x).roll(1, 2),
    "means within": lambda net, x: net.layer(x) * x.mean((1, 2, 3), keepdim=True),
    "independent": lambda net, x: net.layer(torch.ones(IMAGES)),
}
JOINED: dict[str, Callable[[Any, Tensor], Any]] = {
    "mean": lambda net, x: net.layer(x) - x.mean(0),
    "deviation": lambda net, x: net.layer(x) / x.std(),
    "softmax": lambda net, x: net.layer(x).softmax(0),
    "rolled": lambda net, x: net.layer(x).roll(1, 0),
    "flipped": lambda net, x: net.layer(x).flip(0),
    "first": lambda net, x: net.layer(x) + x[:1],
    "product": lambda net, x: net.layer(x) + torch.einsum("bchw,bdhw->cd", x, x),
    "attention": lambda net, x: (x.flatten(1) @ x.flatten(1).T @ net.layer(x).flatten(1)).reshape(x.shape),
    "transposed": lambda net, x: net.layer(x).reshape(3, 24).T.reshape(x.shape),
    "cut": lambda net, x: net.layer(x.reshape(2, 36)[:, :6]).sum() * x,
    "two in a row": lambda net, x: net.layer(x.reshape(2, 6, 6).softmax(1)).reshape(x.shape),
}


@pytest.mark.parametrize("name", APART)
def test_images_apart(name: str) -> None:
    trace(Network(APART[name]), IMAGES)


@pytest.mark.parametrize("name", JOINED)
def test_images_that_depend_on_others(name: str) -> None:
    with pytest.raises(UnsupportedError, match="images of a batch are not computed one by one"):
        trace(Network(JOINED[name]), IMAGES)


@pytest.mark.parametrize(("mixer", "kernel_size"), ARTICLE)
def test_mixers(mixer: str, kernel_size: int) -> None:
    arguments = {
        "patch_size": 2,
        "hidden_channels": [4, 4],
        "latent_dim": 3,
        "mixer_at": [1, 2],
        "norm": "rms",
    }
    model = create_model("mixer", image_shape=(1, 4, 6), mixer=mixer, kernel_size=kernel_size, **arguments)
    trace(model, IMAGES)


def test_refinement_and_convolutions() -> None:
    trace(Refined(), IMAGES)
    trace(create_model("script", image_shape=(1, 4, 6), script="ch=4|down2|ch=2"), IMAGES)


def test_a_batch_of_one() -> None:
    trace(Network(JOINED["mean"]), (1, 1, 4, 6))
