"""What a graph computes, by torch in float64: the oracle of rules and derivatives; no kernels are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixcoder.backends.losses import LOSSES
from mixcoder.backends.native.derivatives import gradients, sorted_nodes
from mixcoder.backends.native.functions import FUNCTIONS
from mixcoder.backends.native.graph import Node, constant, loss
from mixcoder.backends.native.kinds import Depthwise, OverField, OverPatches, TokenMixing
from mixcoder.backends.native.rules.shapes import filled
from mixcoder.backends.native.tracing import Trace, Tracer

Function = Callable[..., Tensor]


def _mixed_tokens(x: Tensor, weight: Tensor, kind: TokenMixing) -> Tensor:
    return _same_convolution(x, weight, kind.field)


def _mixed_over_patches(x: Tensor, weight: Tensor, kind: OverPatches) -> Tensor:
    return _same_convolution(x.transpose(1, 2), weight, kind.field).transpose(1, 2)


def _same_convolution(x: Tensor, weight: Tensor, field: Sequence[int]) -> Tensor:
    """Returns a convolution of x (B, channels, N), the N elements of a channel seen as a field."""
    convolve = F.conv1d if len(field) == 1 else F.conv2d
    return convolve(x.reshape(*x.shape[:2], *field), weight, padding="same").flatten(2)


def _depthwise(x: Tensor, weight: Tensor, kind: Depthwise) -> Tensor:
    """Returns a convolution of zeros around x, of which the first results are z."""
    sides = [[p, s * n + d * k] for p, s, n, d, k in zip(*_sizes_of(kind), strict=True)]
    padded = F.pad(x, [side for pair in reversed(sides) for side in pair])
    convolve = F.conv1d if len(kind.field) == 1 else F.conv2d
    z = convolve(padded, weight, stride=kind.stride, dilation=kind.dilation, groups=x.shape[1])
    for axis, size in enumerate(kind.result, start=2):
        z = z.narrow(axis, 0, size)
    return z


def _sizes_of(kind: Depthwise) -> list[tuple[int, ...]]:
    return [kind.padding, kind.stride, kind.result, kind.dilation, kind.kernel]


def _over_field(x: Tensor, weight: Tensor, kind: OverField) -> Tensor:
    (top, left), (below, right) = kind.before, kind.after
    return F.conv2d(F.pad(x, [left, right, top, below]), weight, groups=kind.groups)


CONVOLUTIONS: dict[type, Callable[[Tensor, Tensor, Any], Tensor]] = {
    TokenMixing: _mixed_tokens,
    OverPatches: _mixed_over_patches,
    Depthwise: _depthwise,
    OverField: _over_field,
}
"""For each class of kinds, z from x, weight and kind; adjoint and correlation follow by autograd."""


def evaluate(nodes: Sequence[Node], values: Mapping[Node, Tensor]) -> list[Tensor]:
    """Returns the values of nodes in float64, from those of leaves."""
    known = {node: value.double() for node, value in values.items()}
    for node in sorted_nodes(nodes):
        if node not in known:
            known[node] = _evaluated(node, [known[source] for source in node.inputs])
        assert tuple(known[node].shape) == node.shape, node
    return [known[node] for node in nodes]


def gradients_of(trace: Trace, name: str, images: Tensor, model: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """Returns a trace's outputs, and the gradients of its parameters for a loss, as the graph has them."""
    seed = loss(trace.outputs, trace.images, name, 1 / images.numel())
    found = gradients([trace.outputs], [seed], trace.parameters)
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    values = {trace.images: images, **dict(zip(trace.parameters, trained, strict=True))}
    [outputs, *known] = evaluate([trace.outputs, *filter(None, found)], values)
    rest = iter(known)
    zeros = [torch.zeros(leaf.shape, dtype=torch.float64) for leaf in trace.parameters]
    return outputs, [zero if node is None else next(rest) for node, zero in zip(found, zeros, strict=True)]


def _evaluated(node: Node, inputs: list[Tensor]) -> Tensor:
    attributes: Any = node.attributes
    match node.operation, attributes:
        case "constant", (tensor,):
            return tensor.double()  # type: ignore[no-any-return]
        case "sum", (axes,):
            return inputs[0].sum(axes, keepdim=True)
        case "unary", (str(name), *numbers):
            return _UNARY[name](inputs[0], *numbers)
        case "contract", (str(labels),):
            return torch.einsum(labels, *inputs)
        case "loss", (str(name), float(scale)):
            outputs = inputs[0].detach().requires_grad_()
            total = LOSSES[name](outputs, inputs[1].detach(), reduction="sum")
            return scale * torch.autograd.grad(total, outputs)[0]
        case (("convolve" | "adjoint" | "correlate"), (*shapes, kind)):
            return _convolution(node.operation, inputs, shapes, kind)
    arguments: list[Any] = [*inputs, *attributes]
    return _PRIMITIVES[node.operation](*arguments)


def _convolution(operation: str, inputs: list[Tensor], shapes: Sequence[Any], kind: Any) -> Tensor:
    forward = CONVOLUTIONS[type(kind)]
    if operation == "convolve":
        x, weight = inputs
        return forward(x, weight, kind)
    x_shape, weight_shape = shapes
    if operation == "correlate":
        z, x = inputs
        weight = torch.zeros(weight_shape, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(forward(x, weight, kind), weight, z)[0]
    z, weight = inputs
    x = torch.zeros(x_shape, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(forward(x, weight, kind), x, z)[0]


def _slice(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    return x.narrow(axis, start, stop - start)


def _pad(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    sides = [0, 0] * x.ndim
    sides[2 * (x.ndim - 1 - axis) : 2 * (x.ndim - axis)] = [before, after]
    return F.pad(x, sides)


def _keep(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask.detach() != 0, x, 0.0)


def _affine(x: Tensor, factor: float, addend: float) -> Tensor:
    return x * factor + addend


_PRIMITIVES: dict[str, Callable[..., Tensor]] = {
    "permute": torch.permute,
    "reshape": torch.reshape,
    "expand": lambda x, shape: x.expand(shape),
    "slice": _slice,
    "pad": _pad,
    "cat": lambda *parts: torch.cat(parts[:-1], parts[-1]),
    "contiguous": torch.clone,
    "like": lambda x, model: x,
    "stop": torch.detach,
    "maximum": lambda x, axis: x.detach().amax(axis, keepdim=True),
    "add": torch.add,
    "mul": torch.mul,
    "keep": _keep,
    "affine": _affine,
}


def _with_prime(function: Function) -> Function:
    """Returns the derivative of a function of each element, by torch's own."""

    def prime(x: Tensor, *arguments: float) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad(function(leaf, *arguments).sum(), leaf)[0]

    return prime


_NAMED: dict[str, Function] = {
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "sign": torch.sign,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "pow": torch.pow,
    "clamp": torch.clamp,
    "hardtanh": F.hardtanh,
    "softplus": F.softplus,
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}
_UNARY = {**_NAMED, **{f"{name}'": _with_prime(function) for name, function in _NAMED.items()}}
assert set(FUNCTIONS) <= set(_UNARY)


def check_function(function: Callable[..., Any], *tensors: Tensor, order: int = 2) -> None:
    """Checks what the rules make of a function: values, and gradients up to an order, against autograd.

    Args:
        function: of tensors, to a tensor or several.
        tensors: float32.
        order: of the derivatives.
    """
    parameters = [nn.Parameter(tensor.float().clone()) for tensor in tensors]
    tracer = Tracer(parameters)
    with tracer:
        made = function(*parameters)
    nodes = [tracer.node_of(x) for x in _several(made)]
    leaves = [parameter.detach().double().requires_grad_() for parameter in parameters]
    expected = list(_several(function(*leaves)))
    values = dict(zip(tracer.leaves, [leaf.detach() for leaf in leaves], strict=True))
    for derived in range(order + 1):
        found = evaluate(nodes, values)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other.double(), rtol=1e-6, atol=1e-7)
        if derived == order:
            return
        seeds = [torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) for x in expected]
        followed = gradients(nodes, [constant(seed) for seed in seeds], tracer.leaves)
        nodes = [
            filled(leaf.shape, 0) if g is None else g for g, leaf in zip(followed, tracer.leaves, strict=True)
        ]
        total = sum((x * seed).sum() for x, seed in zip(expected, seeds, strict=True))
        if not isinstance(total, Tensor) or not total.requires_grad:
            assert not any(x.abs().max() > 0 for x in evaluate(nodes, values) if x.numel())
            return
        expected = list(torch.autograd.grad(total, leaves, create_graph=True, materialize_grads=True))


def _several(made: Any) -> Sequence[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made)
