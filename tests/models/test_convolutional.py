"""The CNN baseline beyond the article's sizes."""

from __future__ import annotations

import pytest
import torch

from mixcoder.errors import ArgumentError
from mixcoder.models import create_model


def test_non_square_images_and_even_kernels() -> None:
    model = create_model("cnn", image_shape=(3, 9, 14), channels=[4, 6], kernel_size=4, latent_dim=7)
    latents = model.encode(torch.rand(2, 3, 9, 14))
    assert latents.shape == (2, 7)
    assert model.decode(latents).shape == (2, 3, 9, 14)


def test_convolutions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(
        ArgumentError, match="take 12 pixels off an image of 9 x 14 and leave nothing; a kernel of at most 3"
    ):
        create_model("cnn", image_shape=(1, 9, 14), channels=[4, 4, 4], kernel_size=5, latent_dim=2)
    create_model("cnn", image_shape=(1, 9, 14), channels=[4, 4, 4], kernel_size=3, latent_dim=2)


def test_at_least_one_convolution() -> None:
    with pytest.raises(ArgumentError, match="channels: needs at least one"):
        create_model("cnn", image_shape=(1, 9, 9), channels=[], kernel_size=3, latent_dim=2)
