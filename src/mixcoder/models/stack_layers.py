"""The layers of a `stack`, made of an experiment file's list.

entries ──build──▶ LayerStack: x (B, P, C), latents (B, latent_dim) ──▶ x (B, P, C')
├─ PatchLayer(PositionLinear)    {channels: C'}
├─ MixingLayer                   {mixer: name}
├─ Film                          film
├─ its layers, new ones          {repeat: n, layers: […]}
└─ LoopedLayers of a LayerStack          {loop: n, layers: […]}
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.factory import MOST_LAYERS
from mixcoder.models.layer_list import FILM, KERNEL_SIZE, PATCH_BIAS
from mixcoder.models.mixer_mlp import PatchLayer
from mixcoder.models.mixing import Bias, Residual, create_bias, create_mixing_layer
from mixcoder.models.patch_convolutions import linear_in_patches
from mixcoder.models.patches import Grid


class PositionLinear(nn.Module):
    """A Linear on every patch, with a bias for each position: (B, P, in_features) → (B, P, out_features).

    Weights begin as N(0, 1/in_features), biases as zeros.
    """

    def __init__(self, patches: int, in_features: int, out_features: int, bias: Bias) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / math.sqrt(in_features))
        self.bias = create_bias(bias, patches, out_features)

    def forward(self, x: Tensor) -> Tensor:
        y = linear_in_patches(x, self.weight, None)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class Film(nn.Module):
    """A scale and a shift of each channel by the latent: x (B, P, C) → x · (1 + a(z)) + b(z).

    Both begin as zeros, so that x passes as it is.

    Source: "FiLM: Visual Reasoning with a General Conditioning Layer", arXiv 1709.07871.
    """

    def __init__(self, latent_dim: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(latent_dim, channels)
        self.shift = nn.Linear(latent_dim, channels)
        for linear in (self.scale, self.shift):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        scale, shift = self.scale(latents)[:, None], self.shift(latents)[:, None]  # (B, 1, C)
        scaled: Tensor = x * (1 + scale) + shift
        return scaled


class LayerStack(nn.ModuleList):
    """Layers one after the other: x (B, P, C), latents (B, latent_dim) → (B, P, C')."""

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, latents) if isinstance(layer, Film | LoopedLayers) else layer(x)
        return x

    @property
    def applied(self) -> int:
        """Layers that x goes through, those of a loop each time."""
        return sum(
            layer.times * layer.layers.applied if isinstance(layer, LoopedLayers) else 1 for layer in self
        )


class LoopedLayers(nn.Module):
    """A stack that is applied several times with the same weights: (B, P, C) → (B, P, C)."""

    def __init__(self, times: int, layers: LayerStack) -> None:
        super().__init__()
        self.times = times
        self.layers = layers

    def forward(self, x: Tensor, latents: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.layers(x, latents)
        return x

    def extra_repr(self) -> str:
        return f"times={self.times}"


@dataclass(frozen=True)
class StackBuilder:
    """A builder of the layers of an encoder or a decoder.

    Attributes:
        grid: (rows, columns) of patches.
        latent_dim: of what `film` is given; None in an encoder, which has no latent yet.
        residual: what stands around the residual layers.
    """

    grid: Grid
    latent_dim: int | None
    residual: Residual

    def build(self, half: str, entries: Sequence[Any], channels: int) -> tuple[LayerStack, int]:
        """Returns the layers that take `channels`, and the channels behind them.

        Args:
            half: the argument that lists them, for messages.
            entries: as `LayerEntry` states them.
            channels: before the first layer.

        Raises:
            ArgumentError: numbers that clash; `argument` is the key of the entry.
        """
        layers = LayerStack()
        for path, entry in _flat(half, entries):
            try:
                layer, channels = self._layer(path, entry, channels)
            except ArgumentError as error:
                raise _at(path, entry, error) from None
            layers.append(layer)
            if layers.applied > MOST_LAYERS:
                raise ArgumentError(
                    half, f"must be at most {MOST_LAYERS} layers; those of a loop count once for each pass"
                )
        return layers, channels

    def _layer(self, path: str, entry: Any, channels: int) -> tuple[nn.Module, int]:
        """Returns the layer of an entry, and the channels behind it."""
        if entry == FILM:
            return self._film(channels), channels
        if "loop" in entry:
            return self._loop(path, entry, channels), channels
        residual = replace(self.residual, activation=entry.get("activation", self.residual.activation))
        if "mixer" in entry:
            kernel_size = entry.get("kernel_size", KERNEL_SIZE)
            return create_mixing_layer(entry["mixer"], self.grid, channels, kernel_size, residual), channels
        after = entry["channels"]
        linear = PositionLinear(math.prod(self.grid), channels, after, entry.get("bias", PATCH_BIAS))
        return PatchLayer(linear, residual), after

    def _film(self, channels: int) -> Film:
        if self.latent_dim is None:
            raise ArgumentError("", "film may stand in a decoder only: an encoder has no code yet")
        return Film(self.latent_dim, channels)

    def _loop(self, path: str, entry: Any, channels: int) -> LoopedLayers:
        layers, after = self.build(f"{path}.layers", entry["layers"], channels)
        if after != channels:
            raise ArgumentError(
                f"{path}.layers", f"must end with as many channels as they take, {channels}, not {after}"
            )
        return LoopedLayers(entry["loop"], layers)


def _at(path: str, entry: Any, error: ArgumentError) -> ArgumentError:
    """Returns an error of an entry with the key in the list: that in the entry, where the entry has it."""
    if error.argument.startswith(path):
        return error
    is_key = error.argument.partition(".")[0] in entry
    return error.below(path) if is_key else ArgumentError(path, error.message)


def _flat(half: str, entries: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Yields the entries with their keys; those of a repetition as often as it says."""
    for index, entry in enumerate(entries):
        path = f"{half}.{index}"
        if isinstance(entry, dict) and "repeat" in entry:
            for _ in range(entry["repeat"]):
                yield from _flat(f"{path}.layers", entry["layers"])
        else:
            yield path, entry
