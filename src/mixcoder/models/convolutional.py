"""The article's baseline: a plain convolutional auto-encoder with a linear code.

    images (B, C, H, W)
      │ Conv2d k x k without padding, activation        (B, channels[0], H-k+1, W-k+1)
      │ … one for each entry of `channels` …             (B, channels[-1], h, w)
      │ flatten, Linear                                  (B, latent_dim)
    latents
      │ Linear, unflatten                                (B, channels[-1], h, w)
      │ ConvTranspose2d mirrored, activation after all but the last
    images (B, C, H, W)

Source: "MLP-Mixer re-invented for auto-encoding", the listing under "Comparison with baseline CNN",
whose parameter names it keeps.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models.activations import ActivationName, create_activation
from mixcoder.models.autoencoder import Autoencoder, check_image_shape
from mixcoder.models.factory import check_positive, register_model


@register_model("cnn")
class ConvAutoencoder(Autoencoder):
    """An auto-encoder of unpadded convolutions, a linear layer to the code, and the mirror image.

    Args:
        image_shape: (C, H, W).
        channels: channels after each convolution of the encoder.
        kernel_size: of every convolution; even ones work too, since nothing is padded.
        latent_dim: size of the code.
        activation: after every convolution but the decoder's last.

    Raises:
        ArgumentError: the convolutions leave nothing of the image; the message says what would.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "image_shape": (1, 28, 28),
        "channels": [24, 32, 48],
        "kernel_size": 5,
        "latent_dim": 16,
    }
    sized_by = ("channels", "latent_dim")

    def __init__(
        self,
        image_shape: Sequence[int],
        channels: Sequence[int],
        kernel_size: int,
        latent_dim: int,
        activation: ActivationName = "relu",
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        check_positive("channels", *channels)
        check_positive("kernel_size", kernel_size)
        check_positive("latent_dim", latent_dim)
        if not channels:
            raise ArgumentError("channels", "needs at least one number of channels")
        self.latent_shape = (latent_dim,)

        map_shape = (channels[-1], *_remaining_size(self.image_shape, kernel_size, len(channels)))
        all_channels = [self.image_shape[0], *channels]
        down = _ConvBlock()
        for before, after in pairwise(all_channels):
            down.layers.append(nn.Conv2d(before, after, kernel_size))
            down.layers.append(create_activation(activation))
        self.encoder = nn.Sequential(
            OrderedDict(
                convolution=down, flatten=nn.Flatten(), linear=nn.Linear(math.prod(map_shape), latent_dim)
            )
        )
        up = _ConvBlock()
        for before, after in pairwise(reversed(all_channels)):
            up.layers.append(nn.ConvTranspose2d(before, after, kernel_size))
            up.layers.append(create_activation(activation))
        del up.layers[-1]
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, math.prod(map_shape)), nn.Unflatten(1, map_shape), up
        )

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)  # (B, latent_dim)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)  # (B, C, H, W)
        return images


class _ConvBlock(nn.Module):
    """A stack of convolutions under the listing's name for it, `layers`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def _remaining_size(image_shape: tuple[int, int, int], kernel_size: int, layers: int) -> tuple[int, int]:
    """Returns height and width after `layers` unpadded convolutions."""
    _, height, width = image_shape
    lost = layers * (kernel_size - 1)
    if min(height, width) <= lost:
        largest = (min(height, width) - 1) // layers + 1
        raise ArgumentError(
            "kernel_size",
            f"{layers} unpadded convolutions of kernel {kernel_size} take {lost} pixels off an image of "
            f"{height} x {width} and leave nothing; a kernel of at most {largest} would fit",
        )
    return height - lost, width - lost
