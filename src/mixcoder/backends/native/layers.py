"""How each layer of a Mixer becomes operations, forward and back.

Activations lie with all images of a patch together, (P, B, C): a layer for every patch is one product of
(P·B, C), a tap across patches one of (P, B·C), and none of them moves anything. A layer of all patches at
once takes them as (B, P·C). A convolution in a field of H x W places, with K channels, takes them one row of
places after another, (H, B, W·K): all taps that lead from a row to one dy further down are one matrix, and
all rows that have such a neighbour one product. A residual layer adds the gradient of its own way to the one
it was given, in place.

Each function takes the network, the layer and the address of its input. It returns the address of its output
and the layer's way back, which takes the address of the output's gradients, writes the operations back, and
returns the address of the input's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mixcoder.backends.native.program import NUMBER, Tape
from mixcoder.backends.threads import CACHE_LINE
from mixcoder.models.activations import Clamp
from mixcoder.models.mixer_mlp import FromLatent, PatchLayer, ToLatent
from mixcoder.models.mixing import (
    Conv2dMixing,
    ConvMixing,
    FlippedConv2dMixing,
    FlippedConvMixing,
    LinearMixing,
)
from mixcoder.models.patch_convolutions import (
    ConvOverPatches1d,
    ConvOverPatches2d,
    TokenMixingConv1d,
    TokenMixingConv2d,
)

Back = Callable[[int], int]
_ConvAcross = TokenMixingConv1d | TokenMixingConv2d
_ConvOver = ConvOverPatches1d | ConvOverPatches2d
_Conv = _ConvAcross | _ConvOver
_NO_ACTIVATION = nn.Identity()
_ACTIVATIONS: list[type[nn.Module]] = [
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.GELU, Clamp,
]  # fmt: skip
"""In the order of `ACTIVATE_AS` in `kernels.cpp`."""
_LARGE = 2**16
"""Numbers of a weight, from which its gradients are better not kept, nor added up from part to part."""
_LARGEST_MATRICES = 2**21
"""Numbers of a convolution's matrices by rows, above which they are too many to be made at each step."""


class UnsupportedError(Exception):
    """There is no operation for a part of a model."""


class Vectors(NamedTuple):
    """Addresses of vectors in which every parameter has the same place.

    Attributes:
        values: of the parameters.
        operands: the same as products take them; just those of Linear weights are there.
        gradients: of the parameters.
        loss: the address of the loss.
    """

    values: int
    operands: int
    gradients: int
    loss: int

    def gradient_of(self, value: int) -> int:
        """The address of the gradient of a value's address."""
        return self.gradients + value - self.values


class Weights(NamedTuple):
    """Addresses of a layer's parameters, of the weight as an operand, and of the gradients."""

    weight: int
    bias: int
    operand: int
    weight_gradient: int
    bias_gradient: int


class WeightProduct(NamedTuple):
    """Gradients of weights (out, in) for vectors (rows, in): of_outputs (rows, out) transposed · inputs.

    All but `sizes` = (out, in, rows) are addresses.
    """

    of_outputs: int
    inputs: int
    weight: int
    sizes: tuple[int, int, int]


@dataclass(frozen=True)
class Part:
    """Which of the equal parts of a batch a thread computes.

    Attributes:
        index: of the part.
        count: of the parts.
        memory: for what all parts have side by side, by name.
    """

    index: int
    count: int
    memory: dict[Hashable, Tensor]

    def place(self, name: Hashable, size: int) -> int:
        """The address where this part puts so many bytes beside those of the others."""
        if name not in self.memory:
            self.memory[name] = torch.zeros(size * self.count, dtype=torch.uint8)
        return self.all_places(name) + size * self.index

    def all_places(self, name: Hashable) -> int:
        """The address where those of all parts begin."""
        return self.memory[name].data_ptr()


@dataclass
class Network:
    """What all layers share while their operations are written.

    Attributes:
        tape: where they are written.
        batch: B, images of a pass.
        patches: P.
        breadth: C, of what the next layer takes.
        images: address of the network's input.
        vectors: of the parameters.
        part: of the batch.
        large_products: of all parts, left for the end: what a thread computes it uses while in its cache.
    """

    tape: Tape
    batch: int
    patches: int
    breadth: int
    images: int
    vectors: Vectors
    part: Part
    large_products: list[WeightProduct] = field(default_factory=list)

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
        place = (weight - self.vectors.values) // NUMBER
        operand = self.vectors.operands + self.tape.operand_bytes * place
        gradients = map(self.vectors.gradient_of, (weight, bias))
        return Weights(weight, bias, operand, *gradients)


def write_layer(net: Network, layer: nn.Module, x: int) -> tuple[int, Back]:
    """Writes the operations of any layer.

    Raises:
        UnsupportedError: there are none for it.
    """
    if type(layer) not in _WRITERS or not isinstance(getattr(layer, "norm", _NO_ACTIVATION), nn.Identity):
        raise UnsupportedError(f"no operations for {type(layer).__name__}")
    return _WRITERS[type(layer)](net, layer, x)


def _patch_layer(net: Network, layer: PatchLayer, x: int) -> tuple[int, Back]:
    net.breadth = layer.module.out_features
    return _dense(net, layer.module, layer.act, net.rows, x, is_residual=layer.residual)


def _across_mixing(net: Network, layer: ConvMixing | Conv2dMixing, x: int) -> tuple[int, Back]:
    weights, sizes = net.weights(layer.module), (net.patches, net.row)
    z, back_from_z = _across(net, layer.module, x)
    out, back_to_z = _activation(net.tape, layer.act, z, sizes, weights, x, is_across=True)

    def back(gradient: int) -> int:
        back_from_z(back_to_z(gradient), gradient)
        return gradient

    return out, back


def _flipped_mixing(net: Network, layer: FlippedConvMixing | FlippedConv2dMixing, x: int) -> tuple[int, Back]:
    tape, first_weights, weights = net.tape, net.weights(layer.conv1), net.weights(layer.conv2)
    first, back_from_first = _across(net, layer.conv1, x)
    across, back_to_first = _activation(
        tape, _NO_ACTIVATION, first, (net.patches, net.row), first_weights, 0, is_across=True
    )
    z, back_from_z = _over(net, layer.conv2, across)
    out, back_to_z = _activation(tape, layer.act, z, (net.rows, net.breadth), weights, x)

    def back(gradient: int) -> int:
        back_from_first(back_to_first(back_from_z(back_to_z(gradient))), gradient)
        return gradient

    return out, back


def _to_latent(net: Network, layer: ToLatent, x: int) -> tuple[int, Back]:
    joined, back_from_joined = _joined(net, x)
    out, back_to_joined = _dense(net, layer.module, _NO_ACTIVATION, net.batch, joined)
    return out, lambda gradient: back_from_joined(back_to_joined(gradient))


def _from_latent(net: Network, layer: FromLatent, x: int) -> tuple[int, Back]:
    joined, back_from_joined = _dense(net, layer.module, _NO_ACTIVATION, net.batch, x)
    net.breadth = layer.channels
    out, back_to_joined = _apart(net, joined)
    return out, lambda gradient: back_from_joined(back_to_joined(gradient))


def _linear_mixing(net: Network, layer: LinearMixing, x: int) -> tuple[int, Back]:
    joined, back_from_joined = _joined(net, x)
    mixed, back_to_joined = _dense(net, layer.module, layer.act, net.batch, joined, is_residual=True)
    out, back_to_mixed = _apart(net, mixed)
    return out, lambda gradient: back_from_joined(back_to_joined(back_to_mixed(gradient)))


def _output_activation(net: Network, act: nn.Module, x: int) -> tuple[int, Back]:
    """An activation that stands by itself, after all layers: as one of a layer whose bias is nothing."""
    no_bias = net.tape.zeros("no bias", net.breadth)
    weights = Weights(0, no_bias, 0, 0, net.tape.buffer(net.breadth))
    return _activation(net.tape, act, x, (net.rows, net.breadth), weights, 0)


_WRITERS: Mapping[type[nn.Module], Callable[[Network, Any, int], tuple[int, Back]]] = {
    PatchLayer: _patch_layer,
    ToLatent: _to_latent,
    FromLatent: _from_latent,
    ConvMixing: _across_mixing,
    Conv2dMixing: _across_mixing,
    FlippedConvMixing: _flipped_mixing,
    FlippedConv2dMixing: _flipped_mixing,
    LinearMixing: _linear_mixing,
    **dict.fromkeys(_ACTIVATIONS, _output_activation),
}


def _joined(net: Network, x: int) -> tuple[int, Back]:
    """(P, B, C) → (B, P·C)"""
    patches, batch, breadth = net.patches, net.batch, net.breadth
    joined = net.tape.swapped(x, 1, patches, batch, breadth)
    return joined, lambda gradient: net.tape.swapped(gradient, 1, batch, patches, breadth)


def _apart(net: Network, joined: int) -> tuple[int, Back]:
    """(B, P·C) → (P, B, C)"""
    patches, batch, breadth = net.patches, net.batch, net.breadth
    x = net.tape.swapped(joined, 1, batch, patches, breadth)
    return x, lambda gradient: net.tape.swapped(gradient, 1, patches, batch, breadth)


def _dense(
    net: Network, linear: nn.Linear, act: nn.Module, rows: int, x: int, *, is_residual: bool = False
) -> tuple[int, Back]:
    """act(linear(x)) for x (rows, in_features), plus x where it is residual."""
    tape, part, weights = net.tape, net.part, net.weights(linear)
    before, after = linear.in_features, linear.out_features
    is_large = after * before >= _LARGE

    def operand(x: int, columns: int, name: str) -> int:
        if not is_large:
            return tape.operand(x, rows * columns)
        out = part.place((linear, name), rows * columns * tape.operand_bytes)
        tape.copy_operand(x, rows * columns, out)
        return out

    inputs, z = operand(x, before, "inputs"), tape.buffer(rows * after)
    tape.product(inputs, weights.operand, z, (rows, after, before), transposed="b")
    out, back_to_z = _activation(tape, act, z, (rows, after), weights, x if is_residual else 0)

    def back(gradient: int) -> int:
        dz = operand(back_to_z(gradient), after, "gradients")
        if is_large:
            gradients, all_inputs = (part.all_places((linear, name)) for name in ("gradients", "inputs"))
            sizes = (after, before, rows * part.count)
            net.large_products.append(WeightProduct(gradients, all_inputs, weights.weight, sizes))
        else:
            tape.product(dz, inputs, weights.weight_gradient, (after, before, rows), transposed="a")
        if x == net.images:  # nobody asks for their gradients
            return 0
        dx = gradient if is_residual else tape.buffer(rows * before)
        tape.product(dz, weights.operand, dx, (rows, before, after), added=is_residual)
        return dx

    return out, back


def _activation(
    tape: Tape,
    act: nn.Module,
    z: int,
    sizes: tuple[int, int],
    weights: Weights,
    residual: int,
    *,
    is_across: bool = False,
) -> tuple[int, Back]:
    """act(z + bias), plus what is at `residual` if anything is; the way back leads to the gradients of z.

    z has `sizes`, the bias a number for each column of it, or where it `is_across`, for each row.
    """
    if type(act) not in _ACTIVATIONS or repr(act) != repr(type(act)()):
        raise UnsupportedError(f"no operations for {act}")
    kind, numbers = _ACTIVATIONS.index(type(act)), math.prod(sizes)
    out = tape.buffer(numbers) if kind else z
    tape.do("activate", [*sizes, is_across, kind], [z, weights.bias, residual, out])

    def back(gradient: int) -> int:
        slopes = z if kind else 0  # which become the gradients of z; without, they are those given
        tape.do("activate_back", [*sizes, is_across], [gradient, slopes, weights.bias_gradient])
        if residual and not kind:  # those given will be added to: the gradients of z are a copy
            return tape.swapped(gradient, 1, 1, 1, numbers)
        return slopes or gradient

    return out, back


def _across(net: Network, conv: _ConvAcross, x: int) -> tuple[int, Callable[[int, int], None]]:
    """A convolution along the vectors, without its bias; its way back adds to the gradients x has already."""
    if math.prod(conv.kernel_size) == 1:
        return _across_at_once(net, conv, x)
    if isinstance(conv, nn.Conv2d):
        return _across_in_pictures(net, conv, x)
    return _across_in_lines(net, conv, x)


def _across_at_once(net: Network, conv: _ConvAcross, x: int) -> tuple[int, Callable[[int, int], None]]:
    """One tap: a product of (P, P) and (P, B·C)."""
    tape, weights, patches, row = net.tape, net.weights(conv), net.patches, net.row
    matrix, inputs = tape.operand(weights.weight, patches**2), tape.operand(x, patches * row)
    z = tape.buffer(patches * row)
    tape.product(matrix, inputs, z, (patches, row, patches))

    def back(dz: int, dx: int) -> None:
        tape.do("correlate", [patches, patches, row, row, 1], [dz, x, weights.weight_gradient])
        gradients = tape.operand(dz, patches * row)
        tape.product(matrix, gradients, dx, (patches, row, patches), transposed="a", added=True)

    return z, back


def _across_in_lines(net: Network, conv: TokenMixingConv1d, x: int) -> tuple[int, Callable[[int, int], None]]:
    """Some taps along each vector, added up in registers."""
    tape, weights, patches, row = net.tape, net.weights(conv), net.patches, net.row
    batch, breadth, (taps,) = net.batch, net.breadth, conv.kernel_size
    margin, length = taps // 2, batch * (breadth + taps - 1)
    sizes = [patches, patches, batch, breadth, taps]
    z, padded = tape.buffer(patches * row), tape.zeros(("x", x), patches * length)
    tape.do("pad", [patches * batch, breadth, margin], [x, padded])
    tape.do("convolve", [*sizes, False], [weights.weight, padded, z])

    def back(dz: int, dx: int) -> None:
        padded_dz = tape.zeros(("gradients", *sizes), patches * length)
        reversed_taps = tape.buffer(taps * patches**2)
        tape.do("pad", [patches * batch, breadth, margin], [dz, padded_dz])
        tape.do(
            "correlate",
            [patches, patches, length - 2 * margin, length, taps],
            [padded_dz + NUMBER * margin, padded, weights.weight_gradient],
        )
        tape.do("reverse", [patches, patches, taps], [weights.weight, reversed_taps])
        tape.do("convolve", [*sizes, True], [reversed_taps, padded_dz, dx])

    return z, back


def _across_in_pictures(
    net: Network, conv: TokenMixingConv2d, x: int
) -> tuple[int, Callable[[int, int], None]]:
    """Taps in two dimensions along each vector, seen as a picture of height x width."""
    tape, patches, batch, breadth, (height, width) = net.tape, net.patches, net.batch, net.breadth, conv.size
    apart = [breadth, width, net.row]  # (P, B, H, W): how far on the next image, the next row, the next patch
    field = [width * patches, batch * width * patches, patches]  # (H, B, W, P): the next image, row, column

    def as_field(x: int) -> int:
        out = tape.buffer(net.rows * breadth)
        tape.do("turn", [batch, height, patches, width, *apart, *field], [x, out])
        return out

    z_field, back_from_field = _by_rows(net, conv, Field(height, width, patches), as_field(x))
    z = tape.buffer(net.rows * breadth)
    tape.do("turn", [batch, height, width, patches, *field, *apart], [z_field, z])

    def back(dz: int, dx: int) -> None:
        dx_field = back_from_field(as_field(dz))
        tape.do("turn", [batch, height, width, patches, *field, *apart, True], [dx_field, dx])

    return z, back


def _over(net: Network, conv: _ConvOver, x: int) -> tuple[int, Back]:
    """A convolution over the patches, without its bias."""
    if len(conv.size) == 1:
        return _by_rows(net, conv, Field(net.patches, 1, net.breadth), x)
    tape, batch, breadth, (rows, columns) = net.tape, net.batch, net.breadth, conv.size
    to_field, from_field = (rows, columns, batch, breadth), (rows, batch, columns, breadth)
    z, back_from_z = _by_rows(net, conv, Field(rows, columns, breadth), tape.swapped(x, *to_field))

    def back(dz: int) -> int:
        return tape.swapped(back_from_z(tape.swapped(dz, *to_field)), *from_field)

    return tape.swapped(z, *from_field), back


class Field(NamedTuple):
    """Places that a convolution goes over, and its channels; in memory (height, B, width·channels)."""

    height: int
    width: int
    channels: int


def _by_rows(net: Network, conv: _Conv, field: Field, x: int) -> tuple[int, Back]:
    """A convolution in a field, without its bias: a product for each shift by rows of places."""
    tape, weights, batch = net.tape, net.weights(conv), net.batch
    taps = _Taps(tape, weights, field, *(*conv.kernel_size, 1)[:2])
    side, numbers, each = taps.side, field.height * batch * taps.side, tape.operand_bytes
    shifts = sorted(range(-taps.reach, taps.reach + 1), key=abs)  # the shift by none meets all: it is first
    met = {dy: (field.height - abs(dy)) * batch for dy in shifts}
    skip = {dy: batch * side * max(dy, 0) for dy in shifts}  # numbers of x that meet nothing
    skip_out = {dy: batch * side * max(-dy, 0) for dy in shifts}
    inputs, z = tape.operand(x, numbers), tape.buffer(numbers)
    for dy in shifts:
        a, out = inputs + each * skip[dy], z + NUMBER * skip_out[dy]
        tape.product(a, taps.matrix(dy), out, (met[dy], side, side), transposed="b", added=dy != 0)

    def back(dz: int) -> int:
        gradients, dx = tape.operand(dz, numbers), tape.buffer(numbers)
        for dy in shifts:
            a, gradient = inputs + each * skip[dy], gradients + each * skip_out[dy]
            with taps.matrix_gradient(dy) as of_matrix:
                tape.product(gradient, a, of_matrix, (side, side, met[dy]), transposed="a")
            out, sizes = dx + NUMBER * skip[dy], (met[dy], side, side)
            tape.product(gradient, taps.matrix(dy), out, sizes, added=dy != 0)
        taps.write_gradients()
        return dx

    return z, back


class _Taps:
    """The taps of a convolution that reach its field, as matrices that lead from a row of places to another.

        weights (out, in, height, width) ─▶ taps (count, out, in) ─▶ matrix of a dy (width·out, width·in)

    Args:
        tape: where the operations are written.
        weights: of the convolution.
        field: that it goes over.
        height: of the kernel.
        width: another.

    Attributes:
        reach: the largest dy.
        side: of a matrix.

    Raises:
        UnsupportedError: the matrices would be mostly zeros.
    """

    def __init__(self, tape: Tape, weights: Weights, field: Field, height: int, width: int) -> None:
        self.reach, reach_x = min(height // 2, field.height - 1), min(width // 2, field.width - 1)
        self.side = field.width * field.channels
        if (2 * self.reach + 1) * self.side**2 > _LARGEST_MATRICES:
            raise UnsupportedError("convolutions whose matrices are mostly zeros")
        self._tape, self._weights, self._width = tape, weights, width
        self._first = height * width // 2 - self.reach * width - reach_x
        pairs = field.channels**2
        count = 2 * (self.reach * width + reach_x) + 1  # with some between that do not reach
        self._stride = pairs + CACHE_LINE  # powers of two apart, they would push each other out of the cache
        self._turn = [1, 1, pairs, count, 0, 0, height * width, 0, 0, self._stride]
        self._turn_back = [1, 1, count, pairs, 0, 0, self._stride, 0, 0, height * width]
        self._shape = [field.channels, field.width, reach_x, self._stride]
        turned = tape.buffer(count * self._stride)
        tape.do("turn", self._turn, [weights.weight + NUMBER * self._first, turned])
        self._taps = tape.operand(turned, count * self._stride)
        self._gradients = tape.zeros(("gradients", *self._turn), count * self._stride)

    def matrix(self, dy: int) -> int:
        """The address of the matrix of a shift, as an operand, till the next is asked for."""
        each = self._tape.operand_bytes
        taps = self._taps + each * self._row(dy)
        if self._has_one_column:
            return taps
        matrix = self._tape.zeros((*self._shape, each), self.side**2, each)
        self._tape.do("widen", [*self._shape, each], [taps, matrix])
        return matrix

    @contextmanager
    def matrix_gradient(self, dy: int) -> Iterator[int]:
        """The address where the gradients of a shift's matrix are to be put."""
        taps = self._gradients + NUMBER * self._row(dy)
        if self._has_one_column:
            yield taps
            return
        matrix = self._tape.buffer(self.side**2)
        yield matrix
        self._tape.do("narrow", self._shape, [matrix, taps])

    def write_gradients(self) -> None:
        """Makes the gradients of the taps those of the weights."""
        weights = self._weights.weight_gradient + NUMBER * self._first
        self._tape.do("turn", self._turn_back, [self._gradients, weights])

    @property
    def _has_one_column(self) -> bool:
        """Whether the field has, so that a matrix is a tap."""
        return self._shape[1] == 1

    def _row(self, dy: int) -> int:
        """How many numbers stand before the taps of a shift."""
        return self._stride * (dy + self.reach) * self._width
