"""Networks that a user might invent, as a plugin: layers and models that nobody wrote operations for.

    python -m mixcoder --plugin benchmarks/invented.py run experiments/mnist/first.yml model.mixer=attention

benchmarks/plain_invented.py holds the same ones without Mixcoder, and the layers that both use: give the
command in the folder of the repository.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mixcoder
from benchmarks.plain_invented import (
    GROUPS,
    LoopedBlock,
    bounded_step,
    refined_decoder,
    refined_encoder,
    to_pixels,
)
from mixcoder.models.patches import Patchify, Unpatchify


@mixcoder.register_mixer("shift")
class ShiftMixing(mixcoder.MixingLayer):
    """A mixing layer that gives every patch the patch before it."""

    def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
        super().__init__()
        self.module = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:  # (B, P, C) -> (B, P, C)
        return self.module(x.roll(1, dims=1))  # type: ignore[no-any-return]


@mixcoder.register_mixer("attention")
class AttentionMixing(mixcoder.MixingLayer):
    """A mixing layer of self-attention over the patches, with several heads."""

    def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        batch, patches, channels = x.shape
        heads = self.qkv(x).reshape(batch, patches, 3, GROUPS, channels // GROUPS)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, P, C/heads)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(channels // GROUPS)).softmax(dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(batch, patches, channels))
        return mixed


@mixcoder.register_model("looped")
class LoopedMixer(mixcoder.Autoencoder):
    """A Mixer of two blocks, one in the encoder and one in the decoder, each applied several times.

    Args:
        image_shape: (C, H, W).
        patch_size: side of a square patch in pixels.
        channels: of a patch's vector.
        latent_dim: size of the code.
        loops: how often each block is applied.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_size: int,
        channels: int = 64,
        latent_dim: int = 16,
        loops: int = 4,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        self.image_shape = depth, height, width
        self.latent_shape = (latent_dim,)
        patches, pixels = height * width // patch_size**2, depth * patch_size**2
        self.patchify = Patchify(patch_size)
        self.embed = nn.Linear(pixels, channels)
        self.encoder = LoopedBlock(patches, channels, loops)
        self.to_latent = nn.Linear(patches * channels, latent_dim)
        self.from_latent = nn.Linear(latent_dim, patches * channels)
        self.unflatten = nn.Unflatten(1, (patches, channels))
        self.decoder = LoopedBlock(patches, channels, loops)
        self.pixels = nn.Linear(channels, pixels)
        self.unpatchify = Unpatchify(self.image_shape, patch_size)

    def _encode(self, images: Tensor) -> Tensor:
        x = self.encoder(F.gelu(self.embed(self.patchify(images))))
        latents: Tensor = self.to_latent(x.flatten(1))
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        x = self.unflatten(F.gelu(self.from_latent(latents)))
        images: Tensor = self.unpatchify(self.pixels(self.decoder(x)))
        return images


@mixcoder.register_model("refined")
class RefinedMixer(mixcoder.Autoencoder):
    """A small network whose code is refined by the decoder's gradient: 48,856 parameters for MNIST.

    Args:
        image_shape: (C, H, W), as many patches in a row as in a column.
        patch_size: side of a square patch in pixels.
        latent_dim: size of the code.
        refinements: how often the code is refined.
    """

    optimized_as: ClassVar = {"steps": "vector"}

    def __init__(
        self, image_shape: Sequence[int], patch_size: int, latent_dim: int = 16, refinements: int = 2
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        self.image_shape = depth, height, width
        self.latent_shape = (latent_dim,)
        side, pixels = height // patch_size, depth * patch_size**2
        self.patchify = Patchify(patch_size)
        self.encoder = refined_encoder(side, pixels, latent_dim)
        self.decoder = refined_decoder(side, pixels, latent_dim)
        self.steps = nn.Parameter(0.05 * torch.eye(latent_dim).repeat(refinements, 1, 1))
        self.unpatchify = Unpatchify(self.image_shape, patch_size)

    def _encode(self, images: Tensor) -> Tensor:
        patches = self.patchify(images)
        latents: Tensor = self.encoder(patches)

        def error_of(values: Tensor) -> Tensor:
            error: Tensor = to_pixels(values) - patches
            return error

        for matrix in self.steps:
            gradient = mixcoder.pull_back(self.decoder, latents, error_of)
            latents = latents - bounded_step(matrix, gradient)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.unpatchify(to_pixels(self.decoder(latents)))
        return images
