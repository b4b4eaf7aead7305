"""What one writes without Mixcoder: the article's models from torch's own layers, a DataLoader, a loop.

Nothing of Mixcoder is used here. The models compute what Mixcoder's do, and take their weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIDE, PATCH, LATENT, BATCH = 28, 7, 16, 64
BREADTHS = [PATCH * PATCH, 64, 64, 64, 16]
MIXED = (2, 3, 4)
GRID = SIDE // PATCH
PATCHES = GRID * GRID


class PatchLayer(nn.Module):
    """Linear and GELU on every patch, with a residual way where the breadth stays."""

    def __init__(self, before: int, after: int, act: nn.Module) -> None:
        super().__init__()
        self.module = nn.Linear(before, after)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.module(x))
        return x + y if x.shape == y.shape else y


class Conv(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.module = nn.Conv1d(PATCHES, PATCHES, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.module(x))


class FlippedConv(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(PATCHES, PATCHES, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x).transpose(1, 2)).transpose(1, 2)
        return x + nn.functional.gelu(y)


class FlippedConv2d(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.side = int(channels**0.5)
        self.conv1 = nn.Conv2d(PATCHES, PATCHES, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x.view(len(x), PATCHES, self.side, self.side)).flatten(2)  # (B, P, C)
        y = y.transpose(1, 2).reshape(len(x), -1, GRID, GRID)  # (B, C, rows, columns)
        y = self.conv2(y).flatten(2).transpose(1, 2)  # (B, P, C)
        return x + nn.functional.gelu(y)


class Mlp(nn.Module):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.module = nn.Linear(PATCHES * channels, PATCHES * channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.module(x.flatten(1)).view(x.shape))


MIXERS = {"cnn": Conv, "cnnf": FlippedConv, "cnn2df": FlippedConv2d, "mlp": Mlp}


class ToLatent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(PATCHES * BREADTHS[-1], LATENT)

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.module(x.flatten(1))
        return latents


class FromLatent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(LATENT, PATCHES * BREADTHS[-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y.view(-1, PATCHES, BREADTHS[-1])  # (B, P, C)


class Mixer(nn.Module):
    """The article's Mixer for MNIST: (B, 1, 28, 28) → (B, 1, 28, 28)."""

    def __init__(self, mixer: str, kernel: int = 1) -> None:
        super().__init__()
        stages = list(zip(range(1, 5), BREADTHS, BREADTHS[1:], strict=False))
        self.encoder = nn.Sequential()
        for position, before, after in stages:
            self.encoder.append(PatchLayer(before, after, nn.GELU()))
            if position in MIXED:
                self.encoder.append(MIXERS[mixer](after, kernel))
        self.encoder.append(ToLatent())
        self.decoder = nn.Sequential(FromLatent())
        for position, before, after in reversed(stages):
            if position in MIXED:
                self.decoder.append(MIXERS[mixer](after, kernel))
            self.decoder.append(PatchLayer(after, before, nn.GELU() if position > 1 else nn.Identity()))

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = images.view(-1, GRID, PATCH, GRID, PATCH).transpose(2, 3)  # (B, rows, columns, p, p)
        x = self.decoder(self.encoder(x.reshape(-1, PATCHES, PATCH * PATCH)))  # (B, P, p·p)
        x = x.view(-1, GRID, GRID, PATCH, PATCH).transpose(2, 3)  # (B, rows, p, columns, p)
        return x.reshape(-1, 1, SIDE, SIDE)


class Cnn(nn.Module):
    """The article's convolutional baseline: (B, 1, 28, 28) → (B, 1, 28, 28)."""

    def __init__(self, kernel: int = 5) -> None:
        super().__init__()
        side = SIDE - 3 * (kernel - 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, kernel),
            nn.ReLU(),
            nn.Conv2d(24, 32, kernel),
            nn.ReLU(),
            nn.Conv2d(32, 48, kernel),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * side * side, LATENT),
        )
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 48 * side * side),
            nn.Unflatten(1, (48, side, side)),
            nn.ConvTranspose2d(48, 32, kernel),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 24, kernel),
            nn.ReLU(),
            nn.ConvTranspose2d(24, 1, kernel),
        )

    def forward(self, images: Tensor) -> Tensor:
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions


class Images(Dataset[Tensor]):
    """One uint8 image at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def steps(model: nn.Module, images: Tensor, learning_rate: float, *, compiled: bool) -> Iterator[Tensor]:
    """The loop: endless epochs of a DataLoader with a worker for each core, AdamW; yields the losses."""
    loader = DataLoader(
        Images(images),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    forward: Any = torch.compile(model) if compiled else model
    while True:
        for batch in loader:
            inputs = batch.float() / 255
            loss = nn.functional.mse_loss(forward(inputs), inputs)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            yield loss.detach()
