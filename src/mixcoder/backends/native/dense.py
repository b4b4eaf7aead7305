"""Emits linear layers and activations, forward and backward.

A pair of methods is a layer: `forward` emits the operations from the address of the input to that of the
output, `backward` those from the address of the output's gradients to that of the input's.
"""

from __future__ import annotations

import math

from torch import nn

from mixcoder.backends.native.codes import ACTIVATIONS
from mixcoder.backends.native.program import Program
from mixcoder.backends.native.shards import Network, WeightGemm, Weights
from mixcoder.backends.step import UnsupportedError

NO_ACTIVATION = nn.Identity()
_LARGE = 2**16
"""Elements of a weight, from which its gradients are not stored, nor added up over shards (256 KiB)."""


class Activation:
    """act(z + bias), plus a residual, for z (rows, columns).

    Args:
        program: to emit to.
        act: the module.
        sizes: (rows, columns).
        weights: whose bias is added.
        has_row_bias: the bias has an element for each row, not for each column.

    Raises:
        UnsupportedError: there is no kernel for the activation.
    """

    def __init__(
        self,
        program: Program,
        act: nn.Module,
        sizes: tuple[int, int],
        weights: Weights,
        *,
        has_row_bias: bool = False,
    ) -> None:
        if type(act) not in ACTIVATIONS or repr(act) != repr(type(act)()):
            raise UnsupportedError(f"no operations for {act}")
        self._program, self._weights = program, weights
        self._sizes = [*sizes, has_row_bias]
        self._elements = math.prod(sizes)
        self._code = ACTIVATIONS.index(type(act))  # 0 is the identity, whose derivative is not stored

    def forward(self, z: int, residual: int = 0) -> int:
        """Emits the activation; z is overwritten by the derivatives, which `backward` reads."""
        self._z, self._residual = z, residual
        out = self._program.buffer(self._elements) if self._code else z
        self._program.emit("activate", [*self._sizes, self._code], [z, self._weights.bias, residual, out])
        return out

    def backward(self, gradient: int) -> int:
        """Emits the gradients of the bias and of z; returns the address of those of z."""
        derivative = self._z if self._code else 0  # is overwritten by the gradients of z
        addresses = [gradient, derivative, self._weights.bias_gradient]
        self._program.emit("activate_backward", self._sizes, addresses)
        if self._residual and not self._code:  # `gradient` will be added to: z's gradients are a copy of it
            return self._program.transpose(gradient, (1, 1, 1, self._elements))
        return derivative or gradient


class Dense:
    """act(linear(x)) for x (rows, in_features), plus x where it is residual."""

    def __init__(
        self, net: Network, linear: nn.Linear, act: nn.Module, rows: int, *, is_residual: bool = False
    ) -> None:
        self._net, self._linear, self._rows, self._is_residual = net, linear, rows, is_residual
        self._weights = net.weights(linear)
        self._in, self._out = linear.in_features, linear.out_features
        self._is_large = self._out * self._in >= _LARGE
        self._activation = Activation(net.program, act, (rows, self._out), self._weights)

    def forward(self, x: int) -> int:
        """Emits the layer for x (rows, in_features)."""
        self._x, self._inputs = x, self._operand(x, self._in, "inputs")
        z = self._net.program.buffer(self._rows * self._out)
        operands, sizes = (self._inputs, self._weights.operand), (self._rows, self._out, self._in)
        self._net.program.gemm(operands, z, sizes, transposed="b")
        return self._activation.forward(z, x if self._is_residual else 0)

    def backward(self, gradient: int) -> int:
        """Emits the gradients of the parameters and of x; those of the network's input are left out."""
        program = self._net.program
        dz = self._operand(self._activation.backward(gradient), self._out, "gradients")
        if self._is_large:
            self._defer_weight_gradient()
        else:
            operands, sizes = (dz, self._inputs), (self._out, self._in, self._rows)
            program.gemm(operands, self._weights.weight_gradient, sizes, transposed="a")
        if self._x == self._net.images:
            return 0
        dx = gradient if self._is_residual else program.buffer(self._rows * self._in)
        operands, sizes = (dz, self._weights.operand), (self._rows, self._in, self._out)
        program.gemm(operands, dx, sizes, is_added=self._is_residual)
        return dx

    def _operand(self, x: int, columns: int, name: str) -> int:
        """Returns x as an operand; of a large layer beside those of other shards, for the end of the step."""
        program, elements = self._net.program, self._rows * columns
        if not self._is_large:
            return program.operand(x, elements)
        out = self._net.shard.own_slot((self._linear, name), elements * program.operand_bytes)
        program.copy_operand(x, elements, out)
        return out

    def _defer_weight_gradient(self) -> None:
        shard = self._net.shard
        gradients, inputs = (shard.all_slots((self._linear, name)) for name in ("gradients", "inputs"))
        sizes = (self._out, self._in, self._rows * shard.count)
        self._net.weight_gemms.append(WeightGemm(gradients, inputs, self._weights.weight, sizes))
