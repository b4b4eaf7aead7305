"""MLP-Mixer as an auto-encoder.

    images (B, C, H, W)
      │ patchify                          (B, P, C·p·p)
      │ per-patch layer  act(Linear(x))   (B, P, hidden_channels[0])    + x where the breadth stays
      │ mixing layer     x + act(mix(x))  (B, P, hidden_channels[0])    where mixer_at has a 1
      │ … one pair for each hidden breadth …
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
from typing import Any, ClassVar

from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.activations import (
    OUTPUT_ACTIVATIONS,
    ActivationName,
    OutputActivationName,
    create_activation,
)
from mixcoder.models.autoencoder import Autoencoder, checked_image_shape
from mixcoder.models.factory import check_positive, register_model
from mixcoder.models.mixing import MIXERS, MixerName, MixingLayer, create_mixing_layer
from mixcoder.models.norms import NormName, create_norm
from mixcoder.models.patch_convolutions import linear_in_patches
from mixcoder.models.patches import Patchify, Unpatchify, patch_grid, patch_major


class PatchLinear(nn.Linear):
    """Linear on every patch: `patch_major` (B, P, in_features) → (B, P, out_features)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear_in_patches(x, self.weight, self.bias)


class PatchLayer(nn.Module):
    """The same small layer for every patch: (B, P, in_channels) → (B, P, out_channels).

    Computes act(Linear(x)), plus x where the breadth stays; `norm` stands before the Linear of such a
    residual layer, where it leaves the way of x itself free.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str, norm: str) -> None:
        super().__init__()
        self.residual = in_channels == out_channels
        self.norm = create_norm(norm if self.residual else "none", in_channels)
        self.module = PatchLinear(in_channels, out_channels)
        self.act = create_activation(activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.module(self.norm(x)))
        return x + y if self.residual else y

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


class ToLatent(nn.Module):
    """All patches at once to the code: (B, P, C) → (B, latent_dim)."""

    def __init__(self, patches: int, channels: int, latent_dim: int) -> None:
        super().__init__()
        self.module = nn.Linear(patches * channels, latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        latents: Tensor = self.module(x.flatten(1))  # (B, P·C) → (B, latent_dim)
        return latents


class FromLatent(nn.Module):
    """The code to all patches at once: (B, latent_dim) → (B, P, C)."""

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
    """Patches through one small MLP, mixing layers between them, one linear head to the code.

    Args:
        image_shape: (C, H, W).
        patch_size: side p of a square patch in pixels; must divide height and width.
        hidden_channels: breadths of the per-patch layers, in the encoder's order.
        latent_dim: size of the code.
        mixer_at: 1-based positions in `hidden_channels` after which a mixing layer stands.
        mixer: the mixing layer by name, also one of your own.
        kernel_size: of the mixing convolutions, odd.
        activation: of the per-patch and the mixing layers.
        encoder_mixer_activation: of the encoder's mixing layers alone; `none` gives the form of the
            article's listing. By default it is `activation`.
        norm: the normalisation before every residual layer.
        output_activation: behind the decoder's last layer, on the pixels: an activation, or `clamp`, which
            clips to [0, 1] and lets a small slope through outside in training. The article's networks with
            a mixing layer at position 1 have `gelu`.

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
        mixer: MixerName = "cnn",
        kernel_size: int = 1,
        activation: ActivationName = "gelu",
        encoder_mixer_activation: ActivationName | None = None,
        norm: NormName = "none",
        output_activation: OutputActivationName = "none",
    ) -> None:
        super().__init__()
        self.image_shape = checked_image_shape(image_shape)
        check_positive("latent_dim", latent_dim)
        check_positive("hidden_channels", *hidden_channels)
        _check_mixer_at(mixer_at, len(hidden_channels))
        self.latent_shape = (latent_dim,)
        # Names are checked here too: without a mixing layer nothing else would look them up.
        if encoder_mixer_activation is None:
            encoder_mixer_activation = activation
        for name in (activation, encoder_mixer_activation):
            create_activation(name)
        _, _, last_activation = MIXERS[mixer], create_norm(norm, 1), OUTPUT_ACTIVATIONS[output_activation]

        grid = patch_grid(self.image_shape, patch_size)
        patches = math.prod(grid)
        breadths = [self.image_shape[0] * patch_size**2, *hidden_channels]
        stages = list(zip(range(1, len(breadths)), breadths, breadths[1:], strict=False))

        def mixing_layer(channels: int, mixer_activation: str) -> MixingLayer:
            return create_mixing_layer(mixer, grid, channels, kernel_size, mixer_activation, norm)

        self.patchify = Patchify(patch_size)
        self.encoder = nn.Sequential()
        for position, breadth, next_breadth in stages:
            self.encoder.append(PatchLayer(breadth, next_breadth, activation, norm))
            if position in mixer_at:
                self.encoder.append(mixing_layer(next_breadth, encoder_mixer_activation))
        self.encoder.append(ToLatent(patches, breadths[-1], latent_dim))

        self.decoder = nn.Sequential(FromLatent(latent_dim, patches, breadths[-1]))
        for position, breadth, next_breadth in reversed(stages):
            if position in mixer_at:
                self.decoder.append(mixing_layer(next_breadth, activation))
            to_pixels = position == 1
            self.decoder.append(PatchLayer(next_breadth, breadth, "none" if to_pixels else activation, norm))
        if output_activation != "none":
            self.decoder.append(last_activation())
        self.unpatchify = Unpatchify(self.image_shape, patch_size)

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(self.patchify(images))  # (B, latent_dim)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.unpatchify(self.decoder(latents))  # (B, C, H, W)
        return images


def _check_mixer_at(mixer_at: Sequence[int], layers: int) -> None:
    if not layers:
        raise ArgumentError("hidden_channels", "needs at least one breadth")
    for position in mixer_at:
        if type(position) is not int or not 1 <= position <= layers:
            raise ArgumentError(
                "mixer_at",
                f"position {position} is beyond the {layers} entries of hidden_channels; "
                f"positions run from 1 to {layers}",
            )
        if mixer_at.count(position) > 1:
            raise ArgumentError("mixer_at", f"names position {position} twice")
