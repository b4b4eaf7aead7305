"""The mixing layers: how information travels between patches.

Every layer is residual and keeps the shape:

    x (B, P, C) ──norm──▶ mix ──▶ activation ──▶ · scale ──▶ + x ──▶ (B, P, C)

P is the number of patches, C the channels of a patch's vector. What `mix` does, by name:

    cnn     Conv1d over the C axis, the patches as channels
    cnnf    that, then flipped: Conv1d over the P axis, the C channels as channels
    cnn2d   Conv2d over C seen as a √C x √C picture, the patches as channels
    cnn2df  that, then flipped: Conv2d over the grid of patches, the C channels as channels
    mlp     one Linear over all P·C numbers

and of token_mixing.py and grid_mixing.py:

    token_mlp   two Linear over the P axis, with an activation between them
    grouped     a Linear over the P axis for each group of channels
    kronecker   a Linear along the columns of the grid and one along its rows, for each channel
    depthwise   a convolution over the grid, for each channel

Source: "MLP-Mixer re-invented for auto-encoding", after arXiv 2105.01601.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.activations import create_activation
from mixcoder.models.norms import create_norm
from mixcoder.models.patch_convolutions import (
    ConvOverPatches1d,
    ConvOverPatches2d,
    TokenMixingConv1d,
    TokenMixingConv2d,
)
from mixcoder.models.patches import Grid, patch_major
from mixcoder.registry.parts import Part, PartOf
from mixcoder.registry.registry import Registry

Bias = Literal["position", "channel", "none"]
"""What a bias belongs to: each position of each channel (P·C numbers), each channel (C), or nothing."""


@dataclass(frozen=True)
class Residual:
    """What stands around the heart of a residual layer, x + scale · activation(layer(norm(x))).

    Attributes:
        activation: by name.
        norm: by name.
        scale: with which a trained factor for each channel begins; None for no factor.
    """

    activation: str
    norm: str = "none"
    scale: float | None = None


class MixingLayer(nn.Module):
    """A base of the mixing layers. A subclass makes its parameters and implements `mix`.

    It is built as `Layer(grid, channels, kernel_size)`: `grid` is the (rows, columns) of patches with
    P = rows·columns, `channels` is C, `kernel_size` the experiment's, to use or to ignore. Further arguments
    are keys of the experiment file: `mixer: {name: grouped, groups: 4}`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        self.act: nn.Module = nn.Identity()
        self.residual_scale: nn.Parameter | None = None

    def mix(self, x: Tensor) -> Tensor:
        """Returns x (B, P, C) after its patches exchanged information, in the same shape.

        x is `patch_major`: use `reshape` on it, not `view`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement mix(x)")

    def forward(self, x: Tensor) -> Tensor:
        return add_scaled(x, self.act(self.mix(self.norm(x))), self.residual_scale)


MIXERS: Registry[type[MixingLayer]] = Registry("mixing layer", "mixer")
_OF_MODEL = "comes from the model; remove it here"
MIXER = PartOf(
    MIXERS,
    {
        "grid": _OF_MODEL,
        "channels": _OF_MODEL,
        "kernel_size": "is a key beside `mixer`; move it there",
    },
)
MixerPart = Annotated[Part, MIXER]
register_mixer = MIXERS.register


def create_mixing_layer(
    mixer: Part, grid: Grid, channels: int, kernel_size: int, residual: Residual
) -> MixingLayer:
    """Returns a mixing layer for patches (B, rows·columns, channels).

    Raises:
        ArgumentError: an unknown name, or numbers that the layer cannot work with.
    """
    layer: MixingLayer = MIXER.create(mixer, grid, channels, kernel_size)
    _check_own_attributes(layer)
    layer.norm = create_norm(residual.norm, channels)
    layer.act = create_activation(residual.activation)
    layer.residual_scale = create_scale(residual.scale, channels)
    return layer


def _check_own_attributes(layer: MixingLayer) -> None:
    """Checks that the constructor of a layer left to the model what the model sets.

    Raises:
        ArgumentError: names the attribute.
    """
    for name, start in (("norm", nn.Identity), ("act", nn.Identity), ("residual_scale", type(None))):
        if type(getattr(layer, name)) is not start:
            of = type(layer).__name__
            raise ArgumentError(
                "mixer", f"{of} sets its attribute `{name}`, which the model sets; give it another name"
            )


def create_scale(start: float | None, channels: int) -> nn.Parameter | None:
    """Returns a factor (channels,) that training changes; None for no factor.

    Source: LayerScale, in "Going deeper with Image Transformers", arXiv 2103.17239.
    """
    return None if start is None else nn.Parameter(torch.full((channels,), float(start)))


def add_scaled(x: Tensor, y: Tensor, scale: Tensor | None) -> Tensor:
    """Returns x + scale · y, both (B, P, C), `scale` (C,)."""
    return x + y if scale is None else x + scale * y


def create_bias(kind: Bias, patches: int, channels: int) -> nn.Parameter | None:
    """Returns a bias that begins with zeros, to be added to (B, P, C); None for no bias."""
    shapes = {"position": (patches, channels), "channel": (channels,)}
    return nn.Parameter(torch.zeros(shapes[kind])) if kind in shapes else None


def square_side(channels: int, mixer: str) -> int:
    """Returns √channels, for mixers that see a patch's vector as a square picture.

    Raises:
        ArgumentError: `channels` is not a square number; says which would be.
    """
    side = math.isqrt(channels)
    if side * side != channels:
        raise ArgumentError(
            "hidden_channels",
            f"mixer '{mixer}' sees each patch as a square picture and {channels} is not a square number; "
            f"{side**2} ({side} x {side}) or {(side + 1) ** 2} ({side + 1} x {side + 1}) would fit",
        )
    return side


@register_mixer("cnn")
class ConvMixing(MixingLayer):
    """A Conv1d over the C axis with the patches as channels: k·P² + P parameters."""

    def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.module = TokenMixingConv1d((channels,), math.prod(grid), kernel_size)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x)  # (B, P, C)
        return mixed


@register_mixer("cnnf")
class FlippedConvMixing(MixingLayer):
    """A Conv1d as in `cnn`, then one over the P axis with the C channels as channels."""

    def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
        super().__init__()
        patches = math.prod(grid)
        self.conv1 = TokenMixingConv1d((channels,), patches, kernel_size)
        self.conv2 = ConvOverPatches1d((patches,), channels, kernel_size)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv2(self.conv1(x))  # (B, P, C)
        return mixed


@register_mixer("cnn2d")
class Conv2dMixing(MixingLayer):
    """A Conv2d with the patches as channels over each vector seen as a √C x √C picture."""

    def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
        super().__init__()
        side = square_side(channels, "cnn2d")
        self.module = TokenMixingConv2d((side, side), math.prod(grid), kernel_size)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x)  # (B, P, C)
        return mixed


@register_mixer("cnn2df")
class FlippedConv2dMixing(MixingLayer):
    """A Conv2d as in `cnn2d`, then one over the grid of patches with the C channels as channels.

    The article asks for a square number of patches; any grid of rows x columns works here.
    """

    def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
        super().__init__()
        side = square_side(channels, "cnn2df")
        self.conv1 = TokenMixingConv2d((side, side), math.prod(grid), kernel_size)
        self.conv2 = ConvOverPatches2d(grid, channels, kernel_size)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.conv2(self.conv1(x))  # (B, P, C)
        return mixed


@register_mixer("mlp")
class LinearMixing(MixingLayer):
    """One Linear over all numbers of all patches: (P·C)² + P·C parameters. Has no kernel."""

    def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.module = nn.Linear(math.prod(grid) * channels, math.prod(grid) * channels)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.module(x.flatten(1))  # (B, P·C)
        return patch_major(mixed.view(x.shape))  # (B, P, C)

    def forward(self, x: Tensor) -> Tensor:
        """Returns x + act(mix(norm(x))), moved only once all is computed."""
        mixed = self.act(self.module(self.norm(x).flatten(1)))  # (B, P·C)
        if self.residual_scale is not None:
            return patch_major(add_scaled(x, mixed.view(x.shape), self.residual_scale))  # (B, P, C)
        return patch_major((x.flatten(1) + mixed).view(x.shape))  # (B, P, C)
