"""Emits the operations of each layer of a Mixer, forward and backward.

Activations lie with all images of a patch together, (P, B, C): a per-patch layer is one gemm of (P·B, C), a
tap of token mixing one of (P, B·C), and nothing is moved. A layer of all patches at once takes them as
(B, P·C). A convolution over a field of H x W places with K channels takes them row by row, (H, B, W·K): all
taps from one row to another are one matrix, and all pairs of such rows one gemm. A residual layer adds its
gradient to the one it was given, in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import nn

from mixcoder.backends.native.codes import ACTIVATIONS
from mixcoder.backends.native.convolutions import PatchConvolution, token_mixing
from mixcoder.backends.native.dense import NO_ACTIVATION, Activation, Dense
from mixcoder.backends.native.shards import Network, Weights
from mixcoder.backends.step import UnsupportedError
from mixcoder.models.mixer_mlp import FromLatent, PatchLayer, ToLatent
from mixcoder.models.mixing import (
    Conv2dMixing,
    ConvMixing,
    FlippedConv2dMixing,
    FlippedConvMixing,
    LinearMixing,
)


class Layer(Protocol):
    """Operations of a layer. Takes and returns addresses."""

    def forward(self, x: int) -> int:
        """Emits the layer for the input x; returns its output."""

    def backward(self, gradient: int) -> int:
        """Emits the gradients of parameters and input from the output's; returns those of the input."""


def create_layer(net: Network, layer: nn.Module) -> Layer:
    """Returns the operations of a layer, which is the next of its network.

    Raises:
        UnsupportedError: there are none for it.
    """
    if type(layer) not in _LAYERS or not isinstance(getattr(layer, "norm", NO_ACTIVATION), nn.Identity):
        raise UnsupportedError(f"no operations for {type(layer).__name__}")
    return _LAYERS[type(layer)](net, layer)


def _patch_layer(net: Network, layer: PatchLayer) -> Layer:
    net.channels = layer.module.out_features
    return Dense(net, layer.module, layer.act, net.rows, is_residual=layer.residual)


class _ConvMixing:
    """x + act(conv(x)), the patches as channels."""

    def __init__(self, net: Network, layer: ConvMixing | Conv2dMixing) -> None:
        self._mixing = token_mixing(net, layer.module)
        sizes = net.patches, net.patch_elements
        weights = net.weights(layer.module)
        self._activation = Activation(net.program, layer.act, sizes, weights, has_row_bias=True)

    def forward(self, x: int) -> int:
        return self._activation.forward(self._mixing.forward(x), x)

    def backward(self, gradient: int) -> int:
        self._mixing.backward(self._activation.backward(gradient), gradient)
        return gradient


class _FlippedMixing:
    """x + act(conv2(conv1(x))): the patches as channels, then a convolution over them."""

    def __init__(self, net: Network, layer: FlippedConvMixing | FlippedConv2dMixing) -> None:
        self._mixing, self._over = token_mixing(net, layer.conv1), PatchConvolution(net, layer.conv2)
        first, last = net.weights(layer.conv1), net.weights(layer.conv2)
        sizes = net.patches, net.patch_elements
        self._bias = Activation(net.program, NO_ACTIVATION, sizes, first, has_row_bias=True)
        self._activation = Activation(net.program, layer.act, (net.rows, net.channels), last)

    def forward(self, x: int) -> int:
        mixed = self._bias.forward(self._mixing.forward(x))
        return self._activation.forward(self._over.forward(mixed), x)

    def backward(self, gradient: int) -> int:
        mixed = self._over.backward(self._activation.backward(gradient))
        self._mixing.backward(self._bias.backward(mixed), gradient)
        return gradient


class _ToLatent:
    """(P, B, C) → (B, latent_dim)."""

    def __init__(self, net: Network, layer: ToLatent) -> None:
        self._patches = _PatchesOfImages(net)
        self._dense = Dense(net, layer.module, NO_ACTIVATION, net.batch)

    def forward(self, x: int) -> int:
        return self._dense.forward(self._patches.join(x))

    def backward(self, gradient: int) -> int:
        return self._patches.separate(self._dense.backward(gradient))


class _FromLatent:
    """(B, latent_dim) → (P, B, C)."""

    def __init__(self, net: Network, layer: FromLatent) -> None:
        self._dense = Dense(net, layer.module, NO_ACTIVATION, net.batch)
        net.channels = layer.channels
        self._patches = _PatchesOfImages(net)

    def forward(self, x: int) -> int:
        return self._patches.separate(self._dense.forward(x))

    def backward(self, gradient: int) -> int:
        return self._dense.backward(self._patches.join(gradient))


class _LinearMixing:
    """x + act(linear(x)) for all elements of all patches."""

    def __init__(self, net: Network, layer: LinearMixing) -> None:
        self._patches = _PatchesOfImages(net)
        self._dense = Dense(net, layer.module, layer.act, net.batch, is_residual=True)

    def forward(self, x: int) -> int:
        return self._patches.separate(self._dense.forward(self._patches.join(x)))

    def backward(self, gradient: int) -> int:
        return self._patches.separate(self._dense.backward(self._patches.join(gradient)))


def _output_activation(net: Network, act: nn.Module) -> Layer:
    """Returns an activation after the last layer, as one whose bias is zero."""
    zeros = net.program.zeros("no bias", net.channels)
    weights = Weights(0, zeros, 0, 0, net.program.buffer(net.channels))
    return Activation(net.program, act, (net.rows, net.channels), weights)


class _PatchesOfImages:
    """Transposes between activations by patch, (P, B, C), and by image, (B, P·C)."""

    def __init__(self, net: Network) -> None:
        self._program = net.program
        self._by_patch = 1, net.patches, net.batch, net.channels
        self._by_image = 1, net.batch, net.patches, net.channels

    def join(self, x: int) -> int:
        """Emits (P, B, C) → (B, P·C)."""
        return self._program.transpose(x, self._by_patch)

    def separate(self, x: int) -> int:
        """Emits (B, P·C) → (P, B, C)."""
        return self._program.transpose(x, self._by_image)


_LAYERS: Mapping[type[nn.Module], Callable[[Network, Any], Layer]] = {
    PatchLayer: _patch_layer,
    ToLatent: _ToLatent,
    FromLatent: _FromLatent,
    ConvMixing: _ConvMixing,
    Conv2dMixing: _ConvMixing,
    FlippedConvMixing: _FlippedMixing,
    FlippedConv2dMixing: _FlippedMixing,
    LinearMixing: _LinearMixing,
    **dict.fromkeys(ACTIVATIONS, _output_activation),
}
