"""Costs counted by machine against counts by hand."""

from __future__ import annotations

import torch
from torch import nn

from mixcoder.models import Autoencoder, create_model
from mixcoder.models.cost import count_madds, training_bytes


def on_meta(name: str, **arguments: object) -> Autoencoder:
    with torch.device("meta"):
        return create_model(name, **arguments)


def test_mixer_madds() -> None:
    """16 patches of 49 pixels, breadths 64 and 16, kernel-3 convolution over 16 patches at 1, code of 8."""
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


def test_training_bytes_are_what_autograd_keeps() -> None:
    """Two linear layers of 4 pixels and one number: everything that is kept is small enough to write down."""

    class Flat(Autoencoder):
        image_shape = (1, 2, 2)
        latent_shape = (1,)

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(4, 1), nn.Linear(1, 4)

        def _encode(self, images: torch.Tensor) -> torch.Tensor:
            latents: torch.Tensor = self.encoder(images.reshape(-1, 4))
            return latents

        def _decode(self, latents: torch.Tensor) -> torch.Tensor:
            images: torch.Tensor = self.decoder(latents)
            return images.reshape(-1, 1, 2, 2)

    with torch.device("meta"):
        model = Flat()
    batch = 10
    params = 4 + 1 + 4 + 4
    kept = 4 * batch + 1 * batch + 4 * batch  # images, latents, reconstructions
    images = 4 * batch
    assert training_bytes(model, batch) == 4 * (4 * params + kept + images)


def test_bytes_grow_with_the_batch_and_the_breadth() -> None:
    def bytes_of(breadth: int, batch_size: int) -> int:
        model = on_meta("mixer", image_shape=(1, 8, 8), patch_size=2, hidden_channels=[breadth], latent_dim=4)
        return training_bytes(model, batch_size)

    assert bytes_of(16, 64) < bytes_of(16, 128) < bytes_of(64, 128)
