"""What one writes without Mixcoder: the article's models from torch's own layers, a DataLoader, a loop.

Nothing of Mixcoder is used here. The models compute what Mixcoder's do, and take their weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIDE, PATCH, LATENT, BATCH = 28, 7, 16, 64
BREADTHS = [PATCH * PATCH, 64, 64, 64, 16]
MIXED = (2, 3, 4)
GRID = SIDE // PATCH
PATCHES = GRID * GRID


Norm = Callable[[int], nn.Module]
"""Makes the norm of a vector of so many numbers."""


class PatchLayer(nn.Module):
    """Linear and GELU on every patch, with a norm and a residual way where the breadth stays."""

    def __init__(self, before: int, after: int, act: nn.Module, norm: Norm) -> None:
        super().__init__()
        self.norm = norm(before) if before == after else nn.Identity()
        self.module = nn.Linear(before, after)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.module(self.norm(x)))
        return x + y if x.shape == y.shape else y


class Mixing(nn.Module):
    """A residual layer between patches (B, P, C); a subclass has `mix`."""

    norm: nn.Module

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return x + nn.functional.gelu(self.mix(self.norm(x)))


class Conv(Mixing):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.module = nn.Conv1d(PATCHES, PATCHES, kernel, padding=kernel // 2)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x)
        return mixed


class FlippedConv(Mixing):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(PATCHES, PATCHES, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv2(self.conv1(x).transpose(1, 2)).transpose(1, 2)
        return mixed


class FlippedConv2d(Mixing):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.side = int(channels**0.5)
        self.conv1 = nn.Conv2d(PATCHES, PATCHES, kernel, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)

    def mix(self, x: Tensor) -> Tensor:
        y = self.conv1(x.view(len(x), PATCHES, self.side, self.side)).flatten(2)  # (B, P, C)
        y = y.transpose(1, 2).reshape(len(x), -1, GRID, GRID)  # (B, C, rows, columns)
        mixed: Tensor = self.conv2(y).flatten(2).transpose(1, 2)  # (B, P, C)
        return mixed


class Mlp(Mixing):
    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.module = nn.Linear(PATCHES * channels, PATCHES * channels)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x.flatten(1)).view(x.shape)
        return mixed


MixingOf = Callable[[int, int], Mixing]
"""Makes a mixing layer for so many channels, with a kernel of so many taps."""
MIXERS: dict[str, MixingOf] = {"cnn": Conv, "cnnf": FlippedConv, "cnn2df": FlippedConv2d, "mlp": Mlp}


def mixing(layer: MixingOf, channels: int, kernel: int, norm: Norm) -> Mixing:
    """Makes a mixing layer and the norm before it."""
    made = layer(channels, kernel)
    made.norm = norm(channels)
    return made


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
    """The article's Mixer for MNIST, with `layer` to mix: (B, 1, 28, 28) → (B, 1, 28, 28)."""

    def __init__(self, layer: MixingOf, kernel: int = 1, norm: Norm = nn.Identity) -> None:
        super().__init__()
        stages = list(zip(range(1, 5), BREADTHS, BREADTHS[1:], strict=False))
        self.encoder = nn.Sequential()
        for position, before, after in stages:
            self.encoder.append(PatchLayer(before, after, nn.GELU(), norm))
            if position in MIXED:
                self.encoder.append(mixing(layer, after, kernel, norm))
        self.encoder.append(ToLatent())
        self.decoder = nn.Sequential(FromLatent())
        for position, before, after in reversed(stages):
            if position in MIXED:
                self.decoder.append(mixing(layer, after, kernel, norm))
            act = nn.GELU() if position > 1 else nn.Identity()
            self.decoder.append(PatchLayer(after, before, act, norm))

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


def adamw(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters."""
    return [torch.optim.AdamW(model.parameters(), lr=learning_rate)]


def muon(model: nn.Module, learning_rate: float) -> list[torch.optim.Optimizer]:
    """torch's Muon for what it takes, which is matrices, and AdamW for the rest."""
    matrices = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "bias" not in name}
    others = [parameter for name, parameter in model.named_parameters() if name not in matrices]
    return [
        torch.optim.Muon(matrices.values(), lr=learning_rate, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate),
    ]


def steps(
    model: nn.Module, images: Tensor, optimizers: Sequence[torch.optim.Optimizer], *, compiled: bool
) -> Iterator[Tensor]:
    """The loop: endless epochs of a DataLoader with a worker for each core; yields the losses."""
    loader = DataLoader(
        Images(images),
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    forward: Any = torch.compile(model) if compiled else model
    while True:
        for batch in loader:
            inputs = batch.float() / 255
            loss = nn.functional.mse_loss(forward(inputs), inputs)
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            yield loss.detach()
