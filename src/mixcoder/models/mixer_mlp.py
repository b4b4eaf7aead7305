"""MLP-Mixer as an auto-encoder.

    images (B, C, H, W)
      │ patchify                          (B, P, C·p·p)
      │ per-patch layer  act(Linear(x))   (B, P, hidden_channels[0])    + x where the channels stay
      │ mixing layer     x + act(mix(x))  (B, P, hidden_channels[0])    where mixer_at has a 1
      │ … one pair for each entry of `hidden_channels` …
      │ flatten, Linear                   (B, latent_dim)
    latents
      │ Linear, unflatten, and the same layers mirrored; the last, to pixels, without activation
      │ output_activation                 (B, P, C·p·p)                 where it is not `none`
      │ unpatchify
    images (B, C, H, W)

Source: "MLP-Mixer re-invented for auto-encoding"; the idea of mixing is that of "MLP-Mixer: An all-MLP
Architecture for Vision", arXiv 2105.01601. Parameters carry the names of the article's listing
(`encoder.0.module.weight`, …) and the shapes of torch's own layers. Between `patchify` and `unpatchify`,
data is `patch_major` in memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.activations import (
    ActivationName,
    OutputActivation,
    create_activation,
    create_output_activation,
)
from mixcoder.models.autoencoder import Autoencoder, check_image_shape
from mixcoder.models.factory import check_positive, register_model
from mixcoder.models.mixing import (
    MIXER,
    MixerPart,
    MixingLayer,
    Residual,
    add_scaled,
    create_mixing_layer,
    create_scale,
)
from mixcoder.models.norms import NormName, create_norm
from mixcoder.models.patch_convolutions import linear_in_patches
from mixcoder.models.patches import Grid, Patchify, Unpatchify, patch_grid, patch_major
from mixcoder.registry.parts import Part


class PatchLinear(nn.Linear):
    """A Linear on every patch: `patch_major` (B, P, in_features) → (B, P, out_features)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear_in_patches(x, self.weight, self.bias)


class PatchLayer(nn.Module):
    """A small layer, the same for every patch: (B, P, in) → (B, P, out).

    Computes scale · act(module(norm(x))) + x where the channels stay, and act(module(x)) where they change.

    Args:
        module: a Linear on every patch, with `in_features` and `out_features`.
        residual: what stands around it.
    """

    def __init__(self, module: nn.Module, residual: Residual) -> None:
        super().__init__()
        channels = module.in_features
        assert isinstance(channels, int)
        self.residual = channels == module.out_features
        self.norm = create_norm(residual.norm if self.residual else "none", channels)
        self.module = module
        self.act = create_activation(residual.activation)
        self.residual_scale = create_scale(residual.scale if self.residual else None, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.module(self.norm(x)))
        return add_scaled(x, y, self.residual_scale) if self.residual else y

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class ToLatent(nn.Module):
    """A Linear from all patches to the latent: (B, P, C) → (B, latent_dim)."""

    def __init__(self, patches: int, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.module = nn.Linear(patches * channels, latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.module(x.flatten(1))  # (B, P·C) → (B, latent_dim)
        return latents


class FromLatent(nn.Module):
    """A Linear from the latent to all patches: (B, latent_dim) → (B, P, C)."""

    def __init__(self, latent_dim: int, patches: int, channels: int) -> None:
        super().__init__()
        self.patches = patches
        self.channels = channels
        self.module = nn.Linear(latent_dim, patches * channels)

    def forward(self, latents: Tensor) -> Tensor:
        x: Tensor = self.module(latents)
        return patch_major(x.reshape(-1, self.patches, self.channels))  # (B, P, C)


@register_model("mixer")
class MixerMLP(Autoencoder):
    """An auto-encoder of per-patch layers, mixing layers between them, and one linear head to the code.

    Args:
        image_shape: (C, H, W).
        patch_size: side p of a square patch in pixels; must divide height and width.
        hidden_channels: channels after each per-patch layer, in the encoder's order.
        latent_dim: size of the code.
        mixer_at: 1-based positions in `hidden_channels` after which a mixing layer stands.
        mixer: the mixing layer by name, also one of your own; or a map of the `name` and its arguments.
        kernel_size: of the mixing convolutions, odd.
        activation: of the per-patch and the mixing layers.
        encoder_mixer_activation: of the encoder's mixing layers alone; `none` gives the form of the
            article's listing. By default it is `activation`.
        norm: the normalisation before every residual layer.
        residual_scale: start value of a trained factor, one for each channel, on what a residual layer adds;
            `null` for no factor.
        output_activation: behind the decoder's last layer, on the pixels: an activation, or `clamp`, which
            clips to [0, 1] and in training lets a tenth through of what lies outside; or a map, such as
            `{name: sigmoid, scale: 8, offset: -2}`. The article's networks with a mixing layer at position 1
            have `gelu`.

    Raises:
        ArgumentError: numbers that clash; the message says which, and which would fit.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "image_shape": (1, 28, 28),
        "patch_size": 7,
        "hidden_channels": [64, 64, 64, 16],
        "latent_dim": 16,
        "mixer_at": [2, 3, 4],
    }
    sized_by = ("hidden_channels", "latent_dim")

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_size: int,
        hidden_channels: Sequence[int],
        latent_dim: int,
        mixer_at: Sequence[int] = (),
        mixer: MixerPart = "cnn",
        kernel_size: int = 1,
        activation: ActivationName = "gelu",
        encoder_mixer_activation: ActivationName | None = None,
        norm: NormName = "none",
        output_activation: OutputActivation = "none",
        residual_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_positive("latent_dim", latent_dim)
        check_positive("hidden_channels", *hidden_channels)
        _check_mixer_at(mixer_at, len(hidden_channels))
        self.latent_shape = (latent_dim,)
        layers = _Layers(
            grid=patch_grid(self.image_shape, patch_size),
            channels=(self.image_shape[0] * patch_size**2, *hidden_channels),
            mixer_at=tuple(mixer_at),
            mixer=mixer,
            kernel_size=kernel_size,
            residual=Residual(activation, norm, residual_scale),
            encoder_mixer_activation=(
                activation if encoder_mixer_activation is None else encoder_mixer_activation
            ),
        )
        layers.check_names()
        self.patchify = Patchify(patch_size)
        self.encoder = layers.encoder(latent_dim)
        self.decoder = layers.decoder(latent_dim)
        self.unpatchify = Unpatchify(self.image_shape, patch_size)
        self.output = create_output_activation(output_activation)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(self.patchify(images))  # (B, latent_dim)
        return latents

    def _decode_before_output(self, latents: Tensor) -> Tensor:
        values: Tensor = self.unpatchify(self.decoder(latents))  # (B, C, H, W)
        return values

    def _output(self, values: Tensor) -> Tensor:
        images: Tensor = self.output(values)
        return images


@dataclass(frozen=True)
class _Layers:
    """The encoder's and the decoder's layers, in the words of `MixerMLP`.

    Attributes:
        channels: of a patch's vector, from the pixels to the last per-patch layer.
    """

    grid: Grid
    channels: tuple[int, ...]
    mixer_at: tuple[int, ...]
    mixer: Part
    kernel_size: int
    residual: Residual
    encoder_mixer_activation: str

    def check_names(self) -> None:
        """Looks up every name: without a mixing layer nothing else would.

        Raises:
            ArgumentError: one is unknown.
        """
        for name in (self.residual.activation, self.encoder_mixer_activation):
            create_activation(name)
        create_norm(self.residual.norm, 1)
        MIXER.check(self.mixer)

    def encoder(self, latent_dim: int) -> nn.Sequential:
        """Returns the layers from patches (B, P, C·p·p) to latents (B, latent_dim)."""
        layers = nn.Sequential()
        for position, (before, after) in enumerate(pairwise(self.channels), start=1):
            layers.append(PatchLayer(PatchLinear(before, after), self.residual))
            if position in self.mixer_at:
                layers.append(self._mixing_layer(after, self.encoder_mixer_activation))
        layers.append(ToLatent(math.prod(self.grid), self.channels[-1], latent_dim))
        return layers

    def decoder(self, latent_dim: int) -> nn.Sequential:
        """Returns the mirrored layers, from latents (B, latent_dim) to patches (B, P, C·p·p)."""
        layers = nn.Sequential(FromLatent(latent_dim, math.prod(self.grid), self.channels[-1]))
        for position in range(len(self.channels) - 1, 0, -1):
            before, after = self.channels[position], self.channels[position - 1]
            if position in self.mixer_at:
                layers.append(self._mixing_layer(before, self.residual.activation))
            last = replace(self.residual, activation="none") if position == 1 else self.residual
            layers.append(PatchLayer(PatchLinear(before, after), last))
        return layers

    def _mixing_layer(self, channels: int, activation: str) -> MixingLayer:
        residual = replace(self.residual, activation=activation)
        return create_mixing_layer(self.mixer, self.grid, channels, self.kernel_size, residual)


def _check_mixer_at(mixer_at: Sequence[int], layers: int) -> None:
    if not layers:
        raise ArgumentError("hidden_channels", "needs at least one number of channels")
    for position in mixer_at:
        if type(position) is not int or not 1 <= position <= layers:
            raise ArgumentError(
                "mixer_at",
                f"position {position} is beyond the {layers} entries of hidden_channels; "
                f"positions run from 1 to {layers}",
            )
        if mixer_at.count(position) > 1:
            raise ArgumentError("mixer_at", f"names position {position} twice")
