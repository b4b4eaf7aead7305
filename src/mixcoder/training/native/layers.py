"""How each layer of a Mixer becomes operations, forward and back.

Activations lie with all images of a patch together, (P, B, C): a layer for every patch is one product of
(P·B, C), a tap across patches one of (P, B·C), a tap over patches one of (P·B, C) with rows left out at an
end, and none of them moves anything. A residual layer adds the gradient of its own way to the one it was
given, in place.

Each function takes the network, the layer and the address of its input. It returns the address of its output
and the layer's way back, which takes the address of the output's gradients, writes the operations back, and
returns the address of the input's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from mixcoder.models.mixer_mlp import FromLatent, PatchLayer, ToLatent
from mixcoder.models.mixing import (
    Conv2dMixing,
    ConvMixing,
    FlippedConv2dMixing,
    FlippedConvMixing,
)
from mixcoder.models.patch_convolutions import (
    ConvAcrossPatches,
    ConvAcrossPatches2d,
    ConvOverPatches,
    ConvOverPatches2d,
)
from mixcoder.training.native.tape import NUMBER, Tape

Back = Callable[[int], int]
_ConvAcross = ConvAcrossPatches | ConvAcrossPatches2d
_ConvOver = ConvOverPatches | ConvOverPatches2d
_NO_ACTIVATION = nn.Identity()
_ACTIVATIONS: list[type[nn.Module]] = [
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.GELU,
]  # fmt: skip
"""In the order of `ACTIVATE_AS` in `kernels.cpp`."""


class UnsupportedError(Exception):
    """There is no operation for a part of a model."""


class Weights(NamedTuple):
    """Addresses of a layer's parameters and of their gradients."""

    weight: int
    bias: int
    weight_gradient: int
    bias_gradient: int


@dataclass
class Network:
    """What all layers share while their operations are written.

    Attributes:
        tape: where they are written.
        batch: B, images of a pass.
        patches: P.
        breadth: C, of what the next layer takes.
        images: address of the network's input.
        to_gradients: bytes from a parameter to its gradient.
    """

    tape: Tape
    batch: int
    patches: int
    breadth: int
    images: int
    to_gradients: int

    @property
    def rows(self) -> int:
        """P·B: vectors of all patches of all images."""
        return self.patches * self.batch

    @property
    def row(self) -> int:
        """B·C: numbers of a patch in all images."""
        return self.batch * self.breadth

    def weights(self, module: Any) -> Weights:
        """Those of a Linear or a convolution."""
        if module.bias is None:
            raise UnsupportedError("a layer without a bias")
        weight, bias = module.weight.data_ptr(), module.bias.data_ptr()
        return Weights(weight, bias, weight + self.to_gradients, bias + self.to_gradients)


def write_layer(net: Network, layer: nn.Module, x: int) -> tuple[int, Back]:
    """Writes the operations of any layer.

    Raises:
        UnsupportedError: there are none for it.
    """
    if type(layer) not in _WRITERS or not isinstance(getattr(layer, "norm", _NO_ACTIVATION), nn.Identity):
        raise UnsupportedError(f"no operations for {type(layer).__name__}")
    return _WRITERS[type(layer)](net, layer, x)


def _patch_layer(net: Network, layer: PatchLayer, x: int) -> tuple[int, Back]:
    tape, weights, rows = net.tape, net.weights(layer.module), net.rows
    before, after = net.breadth, layer.module.out_features
    net.breadth = after
    z = tape.buffer(rows * after)
    tape.product(x, weights.weight, z, (rows, after, before), transposed="b")
    out, back_to_z = _activation(net, layer.act, z, weights, x if layer.residual else 0)

    def back(gradient: int) -> int:
        dz = back_to_z(gradient)
        tape.product(dz, x, weights.weight_gradient, (after, before, rows), transposed="a", added=True)
        if x == net.images:  # nobody asks for their gradients
            return 0
        dx = gradient if layer.residual else tape.buffer(rows * before)
        tape.product(dz, weights.weight, dx, (rows, before, after), added=layer.residual)
        return dx

    return out, back


def _across_mixing(net: Network, layer: ConvMixing | Conv2dMixing, x: int) -> tuple[int, Back]:
    z, back_from_z = _across(net, layer.module, x)
    out, back_to_z = _activation(net, layer.act, z, net.weights(layer.module), x, is_across=True)

    def back(gradient: int) -> int:
        back_from_z(back_to_z(gradient), gradient)
        return gradient

    return out, back


def _flipped_mixing(net: Network, layer: FlippedConvMixing | FlippedConv2dMixing, x: int) -> tuple[int, Back]:
    first, back_from_first = _across(net, layer.conv1, x)
    across, back_to_first = _activation(
        net, _NO_ACTIVATION, first, net.weights(layer.conv1), 0, is_across=True
    )
    z, back_from_z = _over(net, layer.conv2, across)
    out, back_to_z = _activation(net, layer.act, z, net.weights(layer.conv2), x)

    def back(gradient: int) -> int:
        back_from_first(back_to_first(back_from_z(back_to_z(gradient))), gradient)
        return gradient

    return out, back


def _to_latent(net: Network, layer: ToLatent, x: int) -> tuple[int, Back]:
    tape, weights, batch = net.tape, net.weights(layer.module), net.batch
    patches, breadth = net.patches, net.breadth
    latent, numbers = layer.module.out_features, patches * breadth
    joined, out = tape.buffer(batch * numbers), tape.buffer(batch * latent)
    tape.do("swap", [patches, batch, breadth], [x, joined])  # (P, B, C) → (B, P·C)
    tape.do("spread", [1, batch, latent], [weights.bias, out])
    tape.product(joined, weights.weight, out, (batch, latent, numbers), transposed="b", added=True)

    def back(gradient: int) -> int:
        of_joined, dx = tape.buffer(batch * numbers), tape.buffer(batch * numbers)
        tape.do("gather", [1, batch, latent], [gradient, weights.bias_gradient])
        tape.product(
            gradient, joined, weights.weight_gradient, (latent, numbers, batch), transposed="a", added=True
        )
        tape.product(gradient, weights.weight, of_joined, (batch, numbers, latent))
        tape.do("swap", [batch, patches, breadth], [of_joined, dx])  # (B, P·C) → (P, B, C)
        return dx

    return out, back


def _from_latent(net: Network, layer: FromLatent, x: int) -> tuple[int, Back]:
    tape, weights, batch = net.tape, net.weights(layer.module), net.batch
    patches, breadth = net.patches, layer.channels
    latent, numbers = layer.module.in_features, patches * breadth
    net.breadth = breadth
    joined, out = tape.buffer(batch * numbers), tape.buffer(batch * numbers)
    tape.do("spread", [1, batch, numbers], [weights.bias, joined])
    tape.product(x, weights.weight, joined, (batch, numbers, latent), transposed="b", added=True)
    tape.do("swap", [batch, patches, breadth], [joined, out])  # (B, P·C) → (P, B, C)

    def back(gradient: int) -> int:
        of_joined, dx = tape.buffer(batch * numbers), tape.buffer(batch * latent)
        tape.do("swap", [patches, batch, breadth], [gradient, of_joined])  # (P, B, C) → (B, P·C)
        tape.do("gather", [1, batch, numbers], [of_joined, weights.bias_gradient])
        tape.product(
            of_joined, x, weights.weight_gradient, (numbers, latent, batch), transposed="a", added=True
        )
        tape.product(of_joined, weights.weight, dx, (batch, latent, numbers))
        return dx

    return out, back


_WRITERS: Mapping[type[nn.Module], Callable[[Network, Any, int], tuple[int, Back]]] = {
    PatchLayer: _patch_layer,
    ToLatent: _to_latent,
    FromLatent: _from_latent,
    ConvMixing: _across_mixing,
    Conv2dMixing: _across_mixing,
    FlippedConvMixing: _flipped_mixing,
    FlippedConv2dMixing: _flipped_mixing,
}


def _activation(
    net: Network, act: nn.Module, z: int, weights: Weights, residual: int, *, is_across: bool = False
) -> tuple[int, Back]:
    """act(z + bias), plus what is at `residual` if anything is; the way back leads to the gradients of z.

    The bias has a number for each breadth of z as (P·B, C), or where it `is_across`, for each patch.
    """
    if type(act) not in _ACTIVATIONS or repr(act) != repr(type(act)()):
        raise UnsupportedError(f"no operations for {act}")
    kind = _ACTIVATIONS.index(type(act))
    tape, numbers = net.tape, net.rows * net.breadth
    sizes = [net.patches, net.row, True] if is_across else [net.rows, net.breadth, False]
    out = tape.buffer(numbers) if kind else z
    tape.do("activate", [*sizes, kind], [z, weights.bias, residual, out])

    def back(gradient: int) -> int:
        slopes = z if kind else 0  # which become the gradients of z; without, they are those given
        tape.do("activate_back", sizes, [gradient, slopes, weights.bias_gradient])
        if residual and not kind:  # those given will be added to: the gradients of z are a copy
            dz = tape.buffer(numbers)
            tape.do("swap", [1, 1, numbers], [gradient, dz])
            return dz
        return slopes or gradient

    return out, back


def _across(net: Network, conv: _ConvAcross, x: int) -> tuple[int, Callable[[int, int], None]]:
    """A convolution along the vectors, without its bias; its way back adds to the gradients x has already."""
    tape, weights, patches, row = net.tape, net.weights(conv), net.patches, net.row
    batch, breadth, taps = net.batch, net.breadth, _taps(conv)
    z = tape.buffer(patches * row)
    if taps == 1:
        tape.product(weights.weight, x, z, (patches, row, patches))

        def back_from_product(dz: int, dx: int) -> None:
            tape.do("correlate", [patches, patches, row, row, 1], [dz, x, weights.weight_gradient])
            tape.product(weights.weight, dz, dx, (patches, row, patches), transposed="a", added=True)

        return z, back_from_product

    margin, length = taps // 2, batch * (breadth + taps - 1)
    sizes = [patches, patches, batch, breadth, taps]
    padded = tape.buffer(patches * length)
    tape.do("pad", [patches * batch, breadth, margin], [x, padded])
    tape.do("convolve", [*sizes, False], [weights.weight, padded, z])

    def back(dz: int, dx: int) -> None:
        padded_dz, reversed_taps = tape.buffer(patches * length), tape.buffer(taps * patches**2)
        tape.do("pad", [patches * batch, breadth, margin], [dz, padded_dz])
        tape.do(
            "correlate",
            [patches, patches, length - 2 * margin, length, taps],
            [padded_dz + NUMBER * margin, padded, weights.weight_gradient],
        )
        tape.do("reverse", [patches, patches, taps], [weights.weight, reversed_taps])
        tape.do("convolve", [*sizes, True], [reversed_taps, padded_dz, dx])

    return z, back


def _over(net: Network, conv: _ConvOver, x: int) -> tuple[int, Back]:
    """A convolution along the patches, without its bias: a product for each tap, rows shifted by patches."""
    tape, weights, rows, breadth = net.tape, net.weights(conv), net.rows, net.breadth
    taps, size = _taps(conv), breadth**2
    parts = tape.buffer(taps * size)  # (taps, C, C)
    tape.do("split_taps", [size, taps], [weights.weight, parts])
    z = tape.buffer(rows * breadth)
    shifts = sorted(range(-(taps // 2), taps // 2 + 1), key=abs)  # the shift by none meets all: it is first
    shifts = [it for it in shifts if abs(it) < net.patches]
    skip = {it: NUMBER * net.row * max(it, 0) for it in shifts}  # bytes of x that meet nothing
    skip_out = {it: NUMBER * net.row * max(-it, 0) for it in shifts}
    part = {it: NUMBER * size * (it + taps // 2) for it in shifts}
    met = {it: rows - abs(it) * net.batch for it in shifts}
    for it in shifts:
        sizes = (met[it], breadth, breadth)
        tape.product(x + skip[it], parts + part[it], z + skip_out[it], sizes, transposed="b", added=it != 0)

    def back(dz: int) -> int:
        dx, part_gradients = tape.buffer(rows * breadth), tape.buffer(taps * size)
        for it in shifts:
            sizes = (breadth, breadth, met[it])
            tape.product(dz + skip_out[it], x + skip[it], part_gradients + part[it], sizes, transposed="a")
            sizes = (met[it], breadth, breadth)
            tape.product(dz + skip_out[it], parts + part[it], dx + skip[it], sizes, added=it != 0)
        tape.do("join_taps", [size, taps], [part_gradients, weights.weight_gradient])
        return dx

    return z, back


def _taps(conv: nn.Conv1d | nn.Conv2d) -> int:
    """How many taps the kernel has, all in a line."""
    taps = math.prod(conv.kernel_size)
    if taps > 1 and len(conv.kernel_size) > 1:
        raise UnsupportedError("no operations for convolutions in two dimensions")
    return taps
