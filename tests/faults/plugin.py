"""What the fault harnesses train with `--plugin`: a model and a mixing layer of one's own, many checkpoints.

The model draws random numbers in every step, which a run that goes on must draw as if it had never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

import mixcoder
from mixcoder.experiments.runs import training_run

# Whenever the loop looks up:
training_run.CHECKPOINT_SECONDS, training_run.CHECKPOINT_SHARE = 0.0, math.inf


@mixcoder.register_mixer("average")
class AverageMixing(mixcoder.MixingLayer):
    """Every patch sees the mean of all patches."""

    def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
        super().__init__()
        self.module = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:  # (B, P, C) -> (B, P, C)
        mean = x.mean(dim=1, keepdim=True)  # (B, 1, C)
        mixed: Tensor = self.module(mean)
        return mixed.expand_as(x)


@mixcoder.register_model("dropping")
class Dropping(mixcoder.Autoencoder):
    """One linear layer each way, with dropout between them."""

    def __init__(self, image_shape: Sequence[int], latent_dim: int) -> None:
        super().__init__()
        self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
        self.latent_shape = (latent_dim,)
        pixels = math.prod(self.image_shape)
        self.encoder = nn.Sequential(nn.Linear(pixels, latent_dim), nn.Dropout(0.3))
        self.decoder = nn.Linear(latent_dim, pixels)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images.flatten(1))
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images.reshape(-1, *self.image_shape)  # (B, C, H, W)
