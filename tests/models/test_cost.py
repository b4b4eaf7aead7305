"""Costs counted by machine against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mixcoder
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.cost import count_costs, count_madds
from mixcoder.models.dispatch import without_elements


def on_meta(name: str, **arguments: object) -> Autoencoder:
    with without_elements():
        return create_model(name, **arguments)


def test_mixer_madds() -> None:
    """16 patches of 49 pixels, hidden 64 and 16, kernel-3 convolution over 16 patches at 1, code of 8."""
    model = on_meta(
        "mixer",
        image_shape=(1, 28, 28),
        patch_size=7,
        hidden_channels=[64, 16],
        latent_dim=8,
        mixer_at=[1],
        kernel_size=3,
    )
    first = 16 * 49 * 64
    one_way = first + 16 * 16 * 3 * 64 + 16 * 64 * 16 + 16 * 16 * 8
    costs = count_costs(model)
    assert costs[:2] == (one_way, one_way)
    assert costs.madds == count_madds(model) == 2 * one_way
    assert costs.train_madds == 3 * costs.madds - first  # images have no gradient


def test_cnn_madds() -> None:
    model = on_meta("cnn", image_shape=(1, 8, 8), channels=[4, 6], kernel_size=3, latent_dim=5)
    encoder = 36 * 9 * 1 * 4 + 16 * 9 * 4 * 6 + 96 * 5
    decoder = 96 * 5 + 16 * 9 * 6 * 4 + 36 * 9 * 4 * 1  # a transposed convolution spreads each of its inputs
    costs = count_costs(model)
    assert costs[:2] == (encoder, decoder)
    assert costs.train_madds == 3 * costs.madds - 36 * 9 * 1 * 4


class Kronecker(Autoencoder):
    """Encodes four pixels by the Kronecker product of two matrices, refines the code, and decodes it."""

    def __init__(self, refinements: int, has_norm: bool = False) -> None:
        super().__init__()
        self.image_shape = (1, 2, 2)
        self.latent_shape = (4,)
        self.rows, self.columns = (nn.Parameter(torch.randn(2, 2)) for _ in range(2))
        self.norm = nn.BatchNorm1d(4) if has_norm else nn.Identity()
        self.decoder = nn.Linear(4, 4, bias=False)
        self.refinements = refinements

    def _encode(self, images: Tensor) -> Tensor:
        left, right = self.rows.reshape(4, 1), self.columns.reshape(1, 4)
        product = (left @ right).reshape(2, 2, 2, 2).transpose(1, 2).reshape(4, 4)  # 16 multiply-adds a batch
        pixels = images.flatten(1)
        latents: Tensor = self.norm(pixels @ product)

        def error_of(decoded: Tensor) -> Tensor:
            return decoded - pixels

        for _ in range(self.refinements):
            latents = latents - mixcoder.pull_back(self.decoder, latents, error_of)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents).reshape(-1, 1, 2, 2)
        return images


@pytest.mark.parametrize("has_norm", [False, True])
@pytest.mark.parametrize("refinements", [0, 1, 2])
def test_what_weights_alone_make_is_no_images_cost(refinements: int, has_norm: bool) -> None:
    """A refinement decodes and goes back to the code: two products of 16, each with two derivatives."""
    with without_elements():
        model = Kronecker(refinements, has_norm)
    costs = count_costs(model)
    assert costs.encode_madds == 16 + refinements * 2 * 16
    assert costs.decode_madds == 16
    assert costs.train_madds == 3 * costs.madds - 16  # images have no gradient


def test_a_step_writes_elements_beside_its_products() -> None:
    with without_elements():
        elements = [count_costs(Kronecker(refinements)).train_elements for refinements in range(3)]
    assert 0 < elements[0] < elements[1] < elements[2]
    assert elements[2] - elements[1] == elements[1] - elements[0]


def test_frozen_weights_have_no_gradient() -> None:
    with without_elements():
        model = Kronecker(0)
    model.rows.requires_grad_(False)
    model.columns.requires_grad_(False)
    assert count_costs(model).train_madds == 32 + 16
    model.requires_grad_(False)
    assert count_costs(model).train_madds == 32


def test_a_refined_network() -> None:
    """Counted by hand; a refinement decodes, goes back to the code and takes a matrix of 16 x 16."""
    layer = {"channels": 58}
    model = on_meta(
        "stack",
        image_shape=(1, 28, 28),
        patch_size=7,
        latent_dim=16,
        code_channels=12,
        encoder=[{"channels": 32}, {"mixer": "kronecker"}, {"channels": 32}],
        decoder=[layer, {"repeat": 5, "layers": [{"mixer": "kronecker"}, layer]}],
        refine={"steps": 2},
    )
    encoder = 16 * 49 * 32 + (16 * 16 * 32 + 16 * 32 * 32) + 16 * 32 * 12 + 16 * 12 * 16
    decoder = 16 * 16 * 12 + 16 * 12 * 58 + 5 * (16 * 16 * 58 + 16 * 58 * 58) + 16 * 58 * 49
    costs = count_costs(model)
    assert (encoder, decoder) == (58_880, 403_040)
    assert costs[:2] == (encoder + 2 * (2 * decoder + 16 * 16), decoder)
    assert costs.train_madds == 3 * costs.madds - 16 * 49 * 32  # images have no gradient


def test_steps_that_are_drawn_cost_their_mean() -> None:
    model: dict[str, object] = {"image_shape": (1, 8, 8), "channels": [4], "kernel_size": 3, "latent_dim": 5}
    costs = {
        name: count_costs(on_meta("cnn", refine=refine, **model))
        for name, refine in {
            "one": {"steps": 1},
            "three": {"steps": 3},
            "drawn": {"steps": 3, "fewest": 1},
        }.items()
    }
    assert costs["drawn"].madds == costs["three"].madds
    assert costs["drawn"].train_madds == (costs["one"].train_madds + costs["three"].train_madds) // 2


def test_the_model_is_as_before() -> None:
    with without_elements():
        model = Kronecker(1, has_norm=True)
    model.eval()
    model.decoder.train()
    count_costs(model)
    assert not model.training
    assert model.decoder.training
    assert all(parameter.grad is None for parameter in model.parameters())
