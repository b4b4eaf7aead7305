"""A Mixer whose encoder and decoder are lists of layers, each of its own: `stack`.

    images (B, C, H, W)
      │ patchify                                        (B, P, C·p·p)
      │ the layers of `encoder`                         (B, P, channels)
      │ Linear on every patch                           (B, P, code_channels)
      │ act, flatten, Linear                            (B, latent_dim)        without `latent_dim`: flatten
    latents
      │ act(Linear), unflatten                          (B, P, code_channels)  without `latent_dim`: unflatten
      │ the layers of `decoder`                         (B, P, channels)
      │ Linear on every patch, with `output_bias`       (B, P, C·p·p)
      │ unpatchify                                      (B, C, H, W)
      │ output_activation                               (B, C, H, W)
    images

A small encoder and a deep decoder make good use of few parameters, above all where the decoder refines the
code (`refine`, code_refinement.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mixcoder.models.activations import (
    ActivationName,
    OutputActivation,
    create_activation,
    create_output_activation,
)
from mixcoder.models.autoencoder import Autoencoder, check_image_shape
from mixcoder.models.factory import check_positive, register_model
from mixcoder.models.layer_list import LayerEntry
from mixcoder.models.mixing import Bias, Residual
from mixcoder.models.norms import NormName
from mixcoder.models.patches import Patchify, Unpatchify, patch_grid, patch_major
from mixcoder.models.stack_layers import PositionLinear, StackBuilder

_OUTPUT_STD = 0.3
"""Of what the last layer gives to begin with, for inputs of standard deviation 1: images near a mean."""


@register_model("stack")
class StackedMixer(Autoencoder):
    """A Mixer of two lists of layers, one for the encoder and one for the decoder.

    Args:
        image_shape: (C, H, W).
        patch_size: side p of a square patch in pixels; must divide height and width.
        code_channels: channels of each patch next to the code, on both sides of it.
        encoder: layers between pixels and code: `{channels: 32}`, `{mixer: kronecker}`, and lists of them
            with `repeat` or `loop`.
        decoder: layers between code and pixels, also `film`.
        latent_dim: size of the code, which a linear layer makes of all patches; `null` for a code of
            `code_channels` numbers of each patch, without such a layer.
        activation: of all layers but the two next to the code and the last.
        norm: the normalisation before every residual layer.
        residual_scale: start value of a trained factor, one for each channel, on what a residual layer adds;
            `null` for no factor.
        output_bias: of the last layer: of each `position`, of each `channel`, or `none`.
        output_activation: behind the last layer, on the pixels: a name, or a map such as
            `{name: sigmoid, scale: 8, offset: -2}`.

    Raises:
        ArgumentError: numbers that clash; the message says which, and which would fit.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "image_shape": (1, 28, 28),
        "patch_size": 7,
        "latent_dim": 16,
        "code_channels": 12,
        "encoder": [{"channels": 32, "bias": "position"}, {"mixer": "kronecker"}, {"channels": 32}],
        "decoder": [
            {"channels": 58, "bias": "position"},
            {"repeat": 5, "layers": [{"mixer": "kronecker"}, {"channels": 58}]},
        ],
    }
    sized_by = ("encoder", "decoder", "latent_dim")

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_size: int,
        code_channels: int,
        encoder: Sequence[LayerEntry],
        decoder: Sequence[LayerEntry],
        latent_dim: int | None = None,
        activation: ActivationName = "gelu_tanh",
        norm: NormName = "none",
        residual_scale: float | None = 1.0,
        output_bias: Bias = "position",
        output_activation: OutputActivation = "none",
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_positive("code_channels", code_channels)
        grid, pixels = patch_grid(self.image_shape, patch_size), self.image_shape[0] * patch_size**2
        patches, residual = math.prod(grid), Residual(activation, norm, residual_scale)
        size = patches * code_channels
        self.latent_shape = (size if latent_dim is None else latent_dim,)
        check_positive("latent_dim", *self.latent_shape)
        self.patchify = Patchify(patch_size)
        self.encoder, channels = StackBuilder(grid, None, residual).build("encoder", encoder, pixels)
        self.to_code = PositionLinear(patches, channels, code_channels, "channel")
        self.to_latent = None if latent_dim is None else _scaled_linear(size, latent_dim)
        self.from_latent = None if latent_dim is None else _scaled_linear(latent_dim, size)
        self.unflatten = nn.Unflatten(1, (patches, code_channels))
        builder = StackBuilder(grid, self.latent_shape[0], residual)
        self.decoder, channels = builder.build("decoder", decoder, code_channels)
        self.to_pixels = PositionLinear(patches, channels, pixels, output_bias)
        with torch.no_grad():
            self.to_pixels.weight.mul_(_OUTPUT_STD)
        self.unpatchify = Unpatchify(self.image_shape, patch_size)
        self.act = create_activation(activation)
        self.output = create_output_activation(output_activation)

    def _encode(self, images: Tensor) -> Tensor:
        x = self.encoder(self.patchify(images), None)  # (B, P, channels)
        x = self.to_code(x)  # (B, P, code_channels)
        if self.to_latent is None:
            numbers: Tensor = x.flatten(1)  # (B, P·code_channels)
            return numbers
        latents: Tensor = self.to_latent(self.act(x).flatten(1))  # (B, P·code_channels) → (B, latent_dim)
        return latents

    def _decode_before_output(self, latents: Tensor) -> Tensor:
        x = latents if self.from_latent is None else self.act(self.from_latent(latents))
        x = patch_major(self.unflatten(x))  # (B, P, code_channels)
        values: Tensor = self.unpatchify(self.to_pixels(self.decoder(x, latents)))  # (B, C, H, W)
        return values

    def _output(self, values: Tensor) -> Tensor:
        images: Tensor = self.output(values)
        return images


def _scaled_linear(before: int, after: int) -> nn.Linear:
    """Returns a Linear that begins with weights N(0, 1/before) and biases of zero."""
    linear = nn.Linear(before, after)
    nn.init.normal_(linear.weight, std=1 / math.sqrt(before))
    nn.init.zeros_(linear.bias)
    return linear
