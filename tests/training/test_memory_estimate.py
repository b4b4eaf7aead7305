"""Training rehearsed without numbers, against counts by hand."""

from __future__ import annotations

import resource
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from mixcoder.models import Autoencoder, create_model
from mixcoder.training.memory_estimate import BEYOND_ALL_MACHINES, training_bytes
from mixcoder.training.recipe import Recipe
from tests.pace import at_most

MIXER = partial(create_model, "mixer", image_shape=(1, 8, 8), patch_size=2, latent_dim=4)


class Flat(Autoencoder):
    """Two linear layers of so many pixels and one number."""

    latent_shape = (1,)

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.image_shape = (1, 1, pixels)
        self.encoder, self.decoder = nn.Linear(pixels, 1), nn.Linear(1, pixels)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images.flatten(1))
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images.reshape(-1, *self.image_shape)  # (B, 1, 1, pixels)


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 4), ("sgd", 3)])
def test_many_parameters_take_weight_gradient_and_state(
    optimizer: Literal["adamw", "sgd"], copies: int
) -> None:
    """One batch is nothing beside them; the gradients are there twice when they are joined."""
    pixels = 1_000_000
    params = 3 * pixels + 1
    recipe = Recipe(steps=1, batch_size=1, optimizer=optimizer)
    assert training_bytes(lambda: Flat(pixels), recipe) / (4 * params) == pytest.approx(copies + 1, abs=1.5)


def test_an_average_of_the_weights_is_counted() -> None:
    plain, averaged = (
        training_bytes(lambda: Flat(1000), Recipe(steps=1, ema=decay)) for decay in (None, 0.9)
    )
    assert averaged - plain == pytest.approx(4 * 3001, abs=200)


def test_large_batches_take_what_backward_needs() -> None:
    """Images, reconstructions, their difference and its gradient are all that a large batch brings."""
    pixels, batch_size = 1000, 100_000
    needed = training_bytes(lambda: Flat(pixels), Recipe(steps=1, batch_size=batch_size))
    assert 3 <= needed / (4 * pixels * batch_size) <= 5


def test_bytes_grow_with_the_batch_and_the_breadth() -> None:
    def bytes_of(breadth: int, batch_size: int, precision: torch.dtype = torch.float32) -> int:
        recipe = Recipe(steps=1, batch_size=batch_size)
        return training_bytes(partial(MIXER, hidden_channels=[breadth]), recipe, precision)

    assert bytes_of(16, 64) < bytes_of(16, 128) < bytes_of(64, 128)
    assert bytes_of(64, 4000, torch.bfloat16) < bytes_of(64, 4000)


def test_nothing_of_it_is_held() -> None:
    """A model of terabytes is rehearsed in moments."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with at_most(yardsticks=50):
        needed = training_bytes(partial(MIXER, hidden_channels=[400_000, 400_000]), Recipe(steps=1))
    assert needed > 16 * 2 * 400_000**2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_what_torch_cannot_count_fits_nowhere() -> None:
    whole = {"image_shape": (1, 2000, 2000), "patch_size": 1, "hidden_channels": [1_000_000], "latent_dim": 1}
    needed = training_bytes(partial(create_model, "mixer", **whole), Recipe(steps=1, batch_size=1_000_000))
    assert needed == BEYOND_ALL_MACHINES


def test_of_a_layer_that_needs_numbers_nothing_is_known() -> None:
    class Peeking(Flat):
        def _encode(self, images: Tensor) -> Tensor:
            return super()._encode(images * float(images.sum()))

    assert training_bytes(lambda: Peeking(4), Recipe(steps=1)) == 0
