"""The reconstruction picture shows what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mixcoder.inference.reconstruction import reconstruction_grid
from mixcoder.models import Autoencoder


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
