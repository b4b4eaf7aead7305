"""Networks that a user might invent, written with torch alone: nothing of Mixcoder is used here.

benchmarks/invented.py holds the same ones as a plugin of Mixcoder; where layers are torch's own in both, it
takes them from here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.plain import GRID, LATENT, PATCH, PATCHES, SIDE, Mixing, MixingOf

GROUPS = 4
"""Of channels in `Grouped`, and heads in `Attention`."""


class Shift(Mixing):
    """Gives every patch the patch before it."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.module = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x.roll(1, dims=1))
        return mixed


class Grouped(Mixing):
    """Mixes all patches, each group of channels by a matrix of its own, with a bias for each position."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(GROUPS, PATCHES, PATCHES) / math.sqrt(PATCHES))
        self.bias = nn.Parameter(torch.zeros(PATCHES, channels))

    def mix(self, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), PATCHES, GROUPS, -1)  # (B, P, G, C/G)
        mixed = torch.einsum("gpq,bqgc->bpgc", self.weight, groups)
        return mixed.reshape(x.shape) + self.bias


class Attention(Mixing):
    """Self-attention over the patches, with several heads."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def mix(self, x: Tensor) -> Tensor:
        batch, patches, channels = x.shape
        heads = self.qkv(x).reshape(batch, patches, 3, GROUPS, channels // GROUPS)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, P, C/heads)
        weights = (q @ k.transpose(-2, -1) / math.sqrt(channels // GROUPS)).softmax(dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).reshape(x.shape))
        return mixed


INVENTED_MIXERS: dict[str, MixingOf] = {"shift": Shift, "grouped": Grouped, "attention": Attention}


class LoopedBlock(nn.Module):
    """Mixes patches, then channels, as often as it is told with the same weights: (B, P, C) → (B, P, C)."""

    def __init__(self, patches: int, channels: int, loops: int) -> None:
        super().__init__()
        self.loops = loops
        self.tokens = nn.Linear(patches, patches)
        self.channels = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.loops):
            x = x + F.gelu(self.tokens(x.transpose(1, 2)).transpose(1, 2))
            x = x + F.gelu(self.channels(x))
        return x


class LinearAt(nn.Module):
    """A Linear on every patch, with a bias for each position: (B, P, in) → (B, P, out)."""

    def __init__(self, patches: int, before: int, after: int, std: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before) * std)
        self.bias = nn.Parameter(torch.zeros(patches, after))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t() + self.bias


class GridBlock(nn.Module):
    """Mixes the patches of each channel along rows and columns, then channels: (B, P, C) → (B, P, C)."""

    optimized_as = {"rows": "matrices", "columns": "matrices"}  # noqa: RUF012 - read by Mixcoder's Muon alone

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        self.patches = side * side
        self.rows = nn.Parameter(torch.randn(channels, side, side) / math.sqrt(side))
        self.columns = nn.Parameter(torch.randn(channels, side, side) / math.sqrt(side))
        self.bias = nn.Parameter(torch.zeros(self.patches, channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.channels = nn.Linear(channels, channels)
        self.channel_scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        kronecker = torch.einsum("crs,cij->crisj", self.rows, self.columns)
        matrices = kronecker.reshape(-1, self.patches, self.patches)  # (C, P, P)
        mixed = torch.einsum("cpq,bqc->bpc", matrices, x)
        x = x + self.scale * F.gelu(mixed + self.bias, approximate="tanh")
        return x + self.channel_scale * F.gelu(self.channels(x), approximate="tanh")


def refined_encoder(side: int, pixels: int, latent: int) -> nn.Sequential:
    """The encoder of a refined network: (B, P, pixels) → (B, latent)."""
    patches = side * side
    return nn.Sequential(
        LinearAt(patches, pixels, 32, 1 / math.sqrt(pixels)),
        nn.GELU("tanh"),
        GridBlock(side, 32),
        nn.Linear(32, 12),
        nn.GELU("tanh"),
        nn.Flatten(),
        nn.Linear(12 * patches, latent),
    )


def refined_decoder(side: int, pixels: int, latent: int) -> nn.Sequential:
    """The decoder of a refined network, up to what the sigmoid takes: (B, latent) → (B, P, pixels)."""
    patches = side * side
    return nn.Sequential(
        nn.Linear(latent, 12 * patches),
        nn.GELU("tanh"),
        nn.Unflatten(1, (patches, 12)),
        LinearAt(patches, 12, 58, 1 / math.sqrt(12)),
        nn.GELU("tanh"),
        *(GridBlock(side, 58) for _ in range(5)),
        LinearAt(patches, 58, pixels, 0.3 / math.sqrt(58)),
    )


def to_pixels(y: Tensor) -> Tensor:
    """What the decoder gives, as pixels in [0, 1]."""
    return torch.sigmoid(8 * y - 2)


def bounded_step(matrix: Tensor, gradient: Tensor) -> Tensor:
    """The step of a refinement: `matrix` times the gradient (B, latent), no longer than 1 for any image."""
    step = gradient @ matrix.t()
    return step / (step * step).sum(dim=1, keepdim=True).clamp(min=1).sqrt()


def to_patches(images: Tensor) -> Tensor:
    """(B, 1, 28, 28) → (B, P, p·p)."""
    x = images.reshape(-1, GRID, PATCH, GRID, PATCH).transpose(2, 3)  # (B, rows, columns, p, p)
    return x.reshape(-1, PATCHES, PATCH * PATCH)


def to_images(x: Tensor) -> Tensor:
    """(B, P, p·p) → (B, 1, 28, 28)."""
    x = x.reshape(-1, GRID, GRID, PATCH, PATCH).transpose(2, 3)  # (B, rows, p, columns, p)
    return x.reshape(-1, 1, SIDE, SIDE)


class Looped(nn.Module):
    """One block for the encoder and one for the decoder, each applied several times."""

    def __init__(self, channels: int = 64, loops: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH * PATCH, channels)
        self.encoder = LoopedBlock(PATCHES, channels, loops)
        self.to_latent = nn.Linear(PATCHES * channels, LATENT)
        self.from_latent = nn.Linear(LATENT, PATCHES * channels)
        self.decoder = LoopedBlock(PATCHES, channels, loops)
        self.pixels = nn.Linear(channels, PATCH * PATCH)

    def forward(self, images: Tensor) -> Tensor:
        x = self.encoder(F.gelu(self.embed(to_patches(images))))
        latents = self.to_latent(x.flatten(1))
        x = self.decoder(F.gelu(self.from_latent(latents)).reshape(x.shape))
        return to_images(self.pixels(x))


class Refined(nn.Module):
    """A network whose code is refined by the decoder's gradient, inside its forward pass."""

    def __init__(self, steps: int = 2) -> None:
        super().__init__()
        self.encoder = refined_encoder(GRID, PATCH * PATCH, LATENT)
        self.decoder = refined_decoder(GRID, PATCH * PATCH, LATENT)
        self.steps = nn.Parameter(0.05 * torch.eye(LATENT).repeat(steps, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        patches = to_patches(images)
        latents = self.encoder(patches)
        for matrix in self.steps:
            values = self.decoder(latents)
            error = to_pixels(values) - patches
            [gradient] = torch.autograd.grad(values, latents, error, create_graph=True)
            latents = latents - bounded_step(matrix, gradient)
        return to_images(to_pixels(self.decoder(latents)))
