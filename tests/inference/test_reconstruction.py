"""The reconstruction picture shows what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixcoder.errors import ArgumentError
from mixcoder.inference.reconstruction import reconstruction_grid
from mixcoder.models import Autoencoder, create_model


class Inverting(Autoencoder):
    """Reconstructs an image as its negative, and a little beyond the range."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.image_shape = self.latent_shape = (channels, 2, 3)

    def _encode(self, images: Tensor) -> Tensor:
        return images

    def _decode(self, latents: Tensor) -> Tensor:
        return 1.2 - 1.4 * latents


@pytest.mark.parametrize("channels", [1, 3])
def test_original_above_reconstruction_below_eight_a_row(channels: int) -> None:
    images = torch.zeros(10, channels, 2, 3)
    images[9] = 1
    grid = np.asarray(reconstruction_grid(Inverting(channels), images, scale=2))
    row, column = 2 * 4 + 2 + 10, 6 + 2
    assert grid.shape == (2 * row - 10 + 4, 8 * column + 2, 3)
    assert (grid[2:6, 2:8] == 0).all()  # the first original is black
    assert (grid[8:12, 2:8] == 255).all()  # its reconstruction is white, clipped
    assert (grid[2 + row : 6 + row, 2 + column : 8 + column] == 255).all()  # the tenth original
    assert (grid[8 + row : 12 + row, 2 + column : 8 + column] == 0).all()


def test_a_reconstruction_for_each_number_of_steps() -> None:
    """Below each other, the first number's first; what a step does is to be seen."""
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(1, 4, 4),
        patch_size=2,
        hidden_channels=[8],
        latent_dim=4,
        mixer_at=[],
        refine={"steps": 2},
    ).eval()
    images = torch.rand(3, 1, 4, 4)
    grid = np.asarray(reconstruction_grid(model, images, 1, [0, 2, 5]))
    assert grid.shape[:2] == (4 * 6 - 2 + 4, 3 * 6 + 2)
    tops = [grid[2 + place * 6 :][:4, 2:6, 0] for place in range(4)]
    with torch.no_grad():
        expected = [model.decode(model.encode(images[:1], steps)).clamp(0, 1) for steps in (0, 2, 5)]
    for top, image in zip(tops, [images[:1], *expected], strict=True):
        assert (top == (image[0, 0] * 255).round().to(torch.uint8).numpy()).all()
    assert not (tops[1] == tops[2]).all()
    usual = np.asarray(reconstruction_grid(model, images, 1))
    assert (usual == np.asarray(reconstruction_grid(model, images, 1, [2]))).all()


def test_a_model_that_does_not_refine_has_no_steps() -> None:
    images = torch.rand(3, 1, 2, 3)
    reconstruction_grid(Inverting(1), images, 1, [0])
    with pytest.raises(ArgumentError, match="steps: must be 0 for a model without `refine`, got 1"):
        reconstruction_grid(Inverting(1), images, 1, [0, 1])


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (2.0, "must be a whole number, or a list of such numbers, got float"),
        ("02", "must be a whole number, or a list of such numbers, got str"),
        (True, "must be a whole number from 0 to 64, got True"),
        ([0, 1.0], "must be a whole number from 0 to 64, got 1.0"),
        (-1, "must be a whole number from 0 to 64, got -1"),
        (2, "must be 0 for a model without `refine`, got 2"),
    ],
)
def test_steps_that_are_none(steps: Any, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=f"steps: {sentence}"):
        reconstruction_grid(Inverting(1), torch.zeros(1, 1, 2, 3), steps=steps)


def test_a_single_number_of_steps() -> None:
    model, images = Inverting(1), torch.rand(2, 1, 2, 3)
    found, expected = (reconstruction_grid(model, images, steps=steps) for steps in (0, [0]))
    assert found.tobytes() == expected.tobytes()
