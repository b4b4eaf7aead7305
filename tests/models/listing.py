"""The networks of the article in plain torch, written from its listings and nothing of Mixcoder.

Patches live in the batch dimension here, as the article has them: (B·P, C).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """`MLPLayer` of the listing."""

    def __init__(self, inputs: int, outputs: int, act: bool, residual: bool = True) -> None:
        super().__init__()
        self.module = nn.Linear(inputs, outputs)
        self.act = nn.GELU() if act else None
        self.residual = residual and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        if self.act is not None:
            y = self.act(y)
        return y + x if self.residual else y


class Mixer(nn.Module):
    """`MLPMixerLayer` of the listing, for all five kinds."""

    def __init__(self, kind: str, patches: int, channels: int, kernel: int, act: bool) -> None:
        super().__init__()
        self.kind, self.patches, self.channels = kind, patches, channels
        pad = (kernel - 1) // 2
        if kind == "mlp":
            self.module: nn.Module = nn.Linear(patches * channels, patches * channels)
        elif kind == "cnn":
            self.module = nn.Conv1d(patches, patches, kernel, padding=pad)
        elif kind == "cnn2d":
            self.module = nn.Conv2d(patches, patches, kernel, padding=pad)
        else:
            conv = nn.Conv1d if kind == "cnnf" else nn.Conv2d
            self.conv1 = conv(patches, patches, kernel, padding=pad)
            self.conv2 = conv(channels, channels, kernel, padding=pad)
        self.act = nn.GELU() if act else None

    def forward(self, x: Tensor) -> Tensor:
        batch, side, grid = len(x) // self.patches, math.isqrt(self.channels), math.isqrt(self.patches)
        y: Tensor = x.reshape(batch, self.patches, self.channels)
        if self.kind == "mlp":
            y = self.module(y.reshape(batch, -1))
        elif self.kind == "cnn":
            y = self.module(y)
        elif self.kind == "cnn2d":
            y = self.module(y.reshape(batch, self.patches, side, side))
        elif self.kind == "cnnf":
            y = self.conv2(self.conv1(y).permute(0, 2, 1)).permute(0, 2, 1)
        else:
            y = self.conv1(y.reshape(batch, self.patches, side, side))
            y = y.reshape(batch, self.patches, self.channels).permute(0, 2, 1)
            y = self.conv2(y.reshape(batch, self.channels, grid, grid))
            y = y.reshape(batch, self.channels, self.patches).permute(0, 2, 1)
        if self.act is not None:
            y = self.act(y)
        return y.reshape(x.shape) + x


class ListingMixer(nn.Module):
    """The article's `MixerMLP` for 28 x 28 grey images, patches of 7, hidden 64, 64, 64, 16 (or others).

    With a mixing layer at position 1, the article's code gives the last layer, to the pixels, an activation
    too: `last_act`.
    """

    def __init__(
        self,
        kind: str,
        kernel: int,
        mixer_at: Sequence[int],
        encoder_mixer_act: bool,
        hidden: Sequence[int],
        last_act: bool = False,
    ) -> None:
        super().__init__()
        channels = [49, *hidden]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i, (now, then) in enumerate(pairwise(channels)):
            self.encoder.append(Layer(now, then, act=True))
            self.decoder.insert(0, Layer(then, now, act=i > 0 or last_act))
            if i + 1 in mixer_at:
                self.encoder.append(Mixer(kind, 16, then, kernel, encoder_mixer_act))
                self.decoder.insert(0, Mixer(kind, 16, then, kernel, act=True))
        self.encoder.append(Layer(16 * channels[-1], 16, act=False, residual=False))
        self.decoder.insert(0, Layer(16, 16 * channels[-1], act=False, residual=False))

    def encode(self, images: Tensor) -> Tensor:
        patches = images.permute(0, 2, 3, 1).unfold(1, 7, 7).unfold(2, 7, 7)  # (B, 4, 4, 1, 7, 7)
        x = patches.reshape(len(images) * 16, 49)
        for layer in self.encoder[:-1]:
            x = layer(x)
        latents: Tensor = self.encoder[-1](x.reshape(len(images), -1))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        x = self.decoder[0](latents).reshape(len(latents) * 16, -1)
        for layer in self.decoder[1:]:
            x = layer(x)
        rows = [torch.cat(list(row), dim=-1) for row in x.reshape(-1, 4, 4, 7, 7).permute(1, 2, 0, 3, 4)]
        return torch.cat(rows, dim=-2)[:, None]


class _Block(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class _Encoder(nn.Module):
    def __init__(self, kernel: int, features: int) -> None:
        super().__init__()
        self.convolution = _Block(
            nn.Conv2d(1, 24, kernel), nn.ReLU(), nn.Conv2d(24, 32, kernel), nn.ReLU(),
            nn.Conv2d(32, 48, kernel), nn.ReLU(),
        )  # fmt: skip
        self.linear = nn.Linear(features, 16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(self.convolution(x).flatten(1))
        return y


class ListingCnn(nn.Module):
    """The article's baseline for 28 x 28 grey images."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        side = 28 - 3 * (kernel - 1)
        self.encoder = _Encoder(kernel, 48 * side * side)
        self.decoder = nn.Sequential(
            nn.Linear(16, 48 * side * side),
            nn.Unflatten(1, (48, side, side)),
            _Block(
                nn.ConvTranspose2d(48, 32, kernel), nn.ReLU(), nn.ConvTranspose2d(32, 24, kernel), nn.ReLU(),
                nn.ConvTranspose2d(24, 1, kernel),
            ),
        )  # fmt: skip

    def encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images


class _Conv(nn.Module):
    def __init__(self, conv: type[nn.Module], inputs: int, outputs: int, extra: int, act: bool) -> None:
        super().__init__()
        self.skip = nn.Sequential()
        for _ in range(extra):
            self.skip.append(conv(inputs, inputs, 3, padding=1))
            self.skip.append(nn.ReLU6())
        self.conv = conv(inputs, outputs, 3, padding=1)
        self.act = nn.ReLU6() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.conv(x + self.skip(x) if len(self.skip) else x))
        return y + x if y.shape == x.shape else y


class ListingScript(nn.Module):
    """`ch=32|down4|ch/2|ch/2|ch/2|ch*1|ch*1|ch=1` with `extra` skip convolutions, step by step by hand."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        down, up = nn.Conv2d, nn.ConvTranspose2d
        self.encoder = nn.Sequential(
            _Conv(down, 3, 32, extra, True),
            nn.PixelUnshuffle(4),
            _Conv(down, 512, 256, extra, True),
            _Conv(down, 256, 128, extra, True),
            _Conv(down, 128, 64, extra, True),
            _Conv(down, 64, 64, extra, True),
            _Conv(down, 64, 64, extra, True),
            _Conv(down, 64, 1, extra, False),
        )
        self.decoder = nn.Sequential(
            _Conv(up, 1, 64, extra, True),
            _Conv(up, 64, 64, extra, True),
            _Conv(up, 64, 64, extra, True),
            _Conv(up, 64, 128, extra, True),
            _Conv(up, 128, 256, extra, True),
            _Conv(up, 256, 512, extra, True),
            nn.PixelShuffle(4),
            _Conv(up, 32, 3, extra, False),
        )

    def encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)
        return images
