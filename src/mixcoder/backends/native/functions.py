"""Functions of each element by name, as `graph.unary` takes them: what they compute, and their derivatives.

    name             arguments    value
    exp, log, sqrt, rsqrt, reciprocal, abs, sign, erf, sin, cos
    pow              exponent     x ** exponent
    clamp            low, high    x within bounds, which may be infinite; the derivative is 1 at the bounds
    hardtanh         low, high    the same; the derivative is 0 at the bounds
    softplus                      log(1 + exp(x))
    gelu_tanh                     GELU in its tanh form
    relu, relu6, silu, tanh, sigmoid, gelu
    leaky_relu       slope
    elu              alpha

`name'` is the derivative of those that kernels compute together with their values. NaN stays NaN. Where a
function has a kink, the derivative is that of torch: 0 at the kinks of relu and relu6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mixcoder.backends.native.codes import PAIRED_FUNCTIONS
from mixcoder.backends.native.graph import Node, add, affine, mul, unary

Derivative = Callable[..., Node | None]
"""Takes x and the arguments; returns the derivative at x, or None where it is 0 everywhere."""


def derivative(node: Node) -> Node | None:
    """Returns the derivative of a `unary` node with respect to its input; None where it is 0 everywhere."""
    name, *arguments = node.attributes
    return _DERIVATIVES[str(name)](node.inputs[0], *arguments)


def square(x: Node) -> Node:
    """Returns x · x."""
    return mul(x, x)


def normal_density(x: Node) -> Node:
    """Returns the density of the standard normal distribution."""
    return affine(unary(affine(square(x), -0.5), "exp"), 1 / math.sqrt(2 * math.pi))


def _none(x: Node, *_: float) -> None:
    return None


def _exp(x: Node) -> Node:
    return unary(x, "exp")


def _log(x: Node) -> Node:
    return unary(x, "reciprocal")


def _sqrt(x: Node) -> Node:
    return affine(unary(x, "rsqrt"), 0.5)


def _rsqrt(x: Node) -> Node:
    inverse = unary(x, "rsqrt")
    return affine(mul(inverse, square(inverse)), -0.5)


def _reciprocal(x: Node) -> Node:
    return affine(square(unary(x, "reciprocal")), -1)


def _abs(x: Node) -> Node:
    return unary(x, "sign")


def _erf(x: Node) -> Node:
    return affine(unary(affine(square(x), -1), "exp"), 2 / math.sqrt(math.pi))


def _sin(x: Node) -> Node:
    return unary(x, "cos")


def _cos(x: Node) -> Node:
    return affine(unary(x, "sin"), -1)


def _pow(x: Node, exponent: float) -> Node:
    return affine(x, 2) if exponent == 2 else affine(unary(x, "pow", exponent - 1), exponent)


def _softplus(x: Node) -> Node:
    return unary(x, "sigmoid")


# ── second derivatives of activations ────────────────────────────────────────────────────────────────


def _elu_prime(x: Node, alpha: float) -> Node:
    is_below = affine(unary(x, "relu'"), -1, 1)
    return mul(unary(x, "elu'", alpha), is_below)


def _silu_prime(x: Node) -> Node:
    gate = unary(x, "sigmoid")  # s(1 - s)(2 + x(1 - 2s))
    return mul(unary(x, "sigmoid'"), affine(mul(x, affine(gate, -2, 1)), 1, 2))


def _tanh_prime(x: Node) -> Node:
    return affine(mul(unary(x, "tanh"), unary(x, "tanh'")), -2)


def _sigmoid_prime(x: Node) -> Node:
    return mul(unary(x, "sigmoid'"), affine(unary(x, "sigmoid"), -2, 1))


def _gelu_prime(x: Node) -> Node:
    return mul(normal_density(x), affine(square(x), -1, 2))


def _gelu_tanh_prime(x: Node) -> Node:
    scale, cubic = math.sqrt(2 / math.pi), 0.044715
    inner = mul(x, affine(square(x), scale * cubic, scale))  # u = scale·(x + cubic·x³)
    first = affine(square(x), 3 * scale * cubic, scale)  # u'
    half_of_second = affine(square(x), 3 * scale * cubic)  # x·u'' / 2
    bend = mul(mul(x, unary(inner, "tanh")), square(first))  # x·tanh(u)·u'²
    rest = add(add(first, half_of_second), affine(bend, -1))
    return mul(unary(inner, "tanh'"), rest)


def _with_prime(name: str) -> Derivative:
    """Returns the derivative of `name` that kernels know as `name'`."""

    def prime(x: Node, *arguments: float) -> Node:
        return unary(x, f"{name}'", *arguments)

    return prime


_DERIVATIVES: dict[str, Derivative] = {
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": _reciprocal,
    "abs": _abs,
    "sign": _none,
    "erf": _erf,
    "sin": _sin,
    "cos": _cos,
    "pow": _pow,
    "softplus": _softplus,
    **{name: _with_prime(name) for name in PAIRED_FUNCTIONS},
    **dict.fromkeys(("relu'", "relu6'", "leaky_relu'", "clamp'", "hardtanh'"), _none),
    "elu'": _elu_prime,
    "silu'": _silu_prime,
    "tanh'": _tanh_prime,
    "sigmoid'": _sigmoid_prime,
    "gelu'": _gelu_prime,
    "gelu_tanh'": _gelu_tanh_prime,
}
FUNCTIONS = tuple(_DERIVATIVES)
"""All names that `graph.unary` takes."""
