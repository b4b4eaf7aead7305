"""Costs counted by machine against counts by hand."""

from __future__ import annotations

import torch

from mixcoder.models import Autoencoder, create_model
from mixcoder.models.cost import count_madds


def on_meta(name: str, **arguments: object) -> Autoencoder:
    with torch.device("meta"):
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
    one_way = 16 * 49 * 64 + 16 * 16 * 3 * 64 + 16 * 64 * 16 + 16 * 16 * 8
    assert count_madds(model) == 2 * one_way


def test_cnn_madds() -> None:
    model = on_meta("cnn", image_shape=(1, 8, 8), channels=[4, 6], kernel_size=3, latent_dim=5)
    encoder = 36 * 9 * 1 * 4 + 16 * 9 * 4 * 6 + 96 * 5
    decoder = 96 * 5 + 16 * 9 * 6 * 4 + 36 * 9 * 4 * 1  # a transposed convolution spreads each of its inputs
    assert count_madds(model) == encoder + decoder
