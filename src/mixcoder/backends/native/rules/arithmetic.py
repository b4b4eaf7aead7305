"""Rules of arithmetic, with numbers and with broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.rule_table import check, rule
from mixcoder.backends.native.rules.shapes import filled

Operand = Node | Tensor | float
"""A node, a number, or a constant of other elements than float32."""


def as_node(x: Operand) -> Node:
    """Returns an operand as a node.

    Raises:
        UnsupportedError: its elements are no real numbers, or more exact than float32.
    """
    if isinstance(x, Node):
        return x
    if isinstance(x, Tensor):
        is_known = not x.is_complex() and (x.dtype != torch.float64 or x.ndim == 0)
        check(is_known, f"a tensor of {x.dtype}")
        return graph.constant(x.to(torch.float32))
    check(isinstance(x, int | float), f"a number of type {type(x).__name__}")
    return graph.constant(torch.tensor(float(x)))


def is_number(x: object) -> bool:
    """Returns whether an operand is a number of Python's or numpy's."""
    return isinstance(x, int | float) and not isinstance(x, Tensor)


def broadcast_all(*operands: Operand) -> list[Node]:
    """Returns operands as nodes of the one shape that arithmetic gives them."""
    nodes = [as_node(operand) for operand in operands]
    shape = np.broadcast_shapes(*(node.shape for node in nodes))
    return [graph.broadcast(node, shape) for node in nodes]


@rule("add")
def add(a: Operand, b: Operand, alpha: float = 1) -> Node:
    """Returns a + alpha · b."""
    if isinstance(b, int | float):
        return graph.affine(as_node(a), 1, alpha * b)
    if isinstance(a, int | float):
        return graph.affine(as_node(b), alpha, a)
    first, second = broadcast_all(a, graph.affine(as_node(b), alpha))
    return graph.add(first, second)


@rule("sub", "subtract")
def sub(a: Operand, b: Operand, alpha: float = 1) -> Node:
    """Returns a - alpha · b."""
    return add(a, b, -alpha)


@rule("rsub", "Tensor.__rsub__")
def rsub(a: Operand, b: Operand, alpha: float = 1) -> Node:
    """Returns b - alpha · a."""
    return add(b, a, -alpha)


@rule("mul", "multiply")
def mul(a: Operand, b: Operand) -> Node:
    """Returns a · b."""
    if isinstance(b, int | float):
        return graph.affine(as_node(a), b)
    if isinstance(a, int | float):
        return graph.affine(as_node(b), a)
    first, second = broadcast_all(a, b)
    return graph.mul(first, second)


@rule("div", "divide", "true_divide", "Tensor.__truediv__")
def div(a: Operand, b: Operand, rounding_mode: str | None = None) -> Node:
    """Returns a / b."""
    check(rounding_mode is None, f"a division with rounding_mode={rounding_mode}")
    if isinstance(b, int | float):
        check(b != 0, "a division by 0")
        return graph.affine(as_node(a), 1 / b)
    return mul(a, graph.unary(as_node(b), "reciprocal"))


@rule("Tensor.__rdiv__", "Tensor.__rtruediv__")
def rdiv(a: Operand, b: Operand) -> Node:
    """Returns b / a."""
    return div(b, a)


@rule("neg", "negative")
def neg(x: Node) -> Node:
    """Returns -x."""
    return graph.affine(x, -1)


@rule("square")
def square(x: Node) -> Node:
    """Returns x · x."""
    return graph.mul(x, x)


@rule("pow", "Tensor.__pow__")
def power(x: Operand, exponent: Operand) -> Node:
    """Returns x to a power; one of the two is a number, and a basis is positive."""
    if isinstance(x, int | float):
        check(x > 0, "a power of a number that is not positive")
        return graph.unary(graph.affine(as_node(exponent), math.log(x)), "exp")
    check(isinstance(exponent, int | float), "a power whose exponent is a tensor")
    assert isinstance(exponent, int | float)
    named = _POWERS.get(float(exponent))
    base = as_node(x)
    return graph.unary(base, "pow", float(exponent)) if named is None else named(base)


@rule("Tensor.__rpow__")
def rpower(exponent: Node, x: float) -> Node:
    """Returns a number to the power of a tensor."""
    return power(x, exponent)


def _one(x: Node) -> Node:
    return filled(x.shape, 1.0)


def _same(x: Node) -> Node:
    return x


def _cube(x: Node) -> Node:
    return graph.mul(x, graph.mul(x, x))


def _sqrt(x: Node) -> Node:
    return graph.unary(x, "sqrt")


def _rsqrt(x: Node) -> Node:
    return graph.unary(x, "rsqrt")


def _reciprocal(x: Node) -> Node:
    return graph.unary(x, "reciprocal")


_POWERS: dict[float, Callable[[Node], Node]] = {
    0.0: _one,
    1.0: _same,
    2.0: square,
    3.0: _cube,
    0.5: _sqrt,
    -0.5: _rsqrt,
    -1.0: _reciprocal,
}


@rule("addcmul")
def addcmul(x: Operand, tensor1: Operand, tensor2: Operand, value: float = 1) -> Node:
    """Returns x + value · tensor1 · tensor2."""
    return add(x, mul(tensor1, tensor2), value)


@rule("addcdiv")
def addcdiv(x: Operand, tensor1: Operand, tensor2: Operand, value: float = 1) -> Node:
    """Returns x + value · tensor1 / tensor2."""
    return add(x, div(tensor1, tensor2), value)


@rule("lerp")
def lerp(x: Operand, end: Operand, weight: Operand) -> Node:
    """Returns x + weight · (end - x)."""
    return add(x, mul(sub(end, x), weight))


# ── larger and smaller ───────────────────────────────────────────────────────────────────────────────


def is_above(a: Operand, b: Operand) -> Node:
    """Returns 1 where a > b and 0 elsewhere; has no gradient."""
    return graph.unary(sub(a, b), "relu'")


@rule("maximum")
def maximum(a: Operand, b: Operand) -> Node:
    """Returns the larger of each two; where both are equal, each has half of the gradient."""
    return _chosen(a, b, 0.5)


@rule("minimum")
def minimum(a: Operand, b: Operand) -> Node:
    """Returns the smaller of each two; where both are equal, each has half of the gradient."""
    return _chosen(a, b, -0.5)


def _chosen(a: Operand, b: Operand, factor: float) -> Node:
    side = graph.unary(sub(a, b), "sign")  # 1 where a is larger, 0 where they are equal
    shares = graph.affine(side, factor, 0.5), graph.affine(side, -factor, 0.5)
    first, second = (kept(mul(x, share), share) for x, share in zip((a, b), shares, strict=True))
    return graph.add(first, second)


@rule("clamp", "clip")
def clamp(x: Node, min: Operand | None = None, max: Operand | None = None) -> Node:
    """Returns x within bounds."""
    numbers = (min is None or is_number(min)) and (max is None or is_number(max))
    check(numbers, "clamp with tensors as bounds")
    low, high = (-math.inf if min is None else min), (math.inf if max is None else max)
    return graph.unary(x, "clamp", float(low), float(high))  # type: ignore[arg-type]


@rule("clamp_min")
def clamp_min(x: Node, min: float) -> Node:
    """Returns x, at least a bound."""
    return clamp(x, min=min)


@rule("clamp_max")
def clamp_max(x: Node, max: float) -> Node:
    """Returns x, at most a bound."""
    return clamp(x, max=max)


# ── chosen by a mask ─────────────────────────────────────────────────────────────────────────────────


def kept(x: Operand, mask: Operand) -> Node:
    """Returns x where a mask is not 0, and 0 elsewhere, also where x is infinite."""
    values, kept_where = broadcast_all(x, mask)
    return graph.keep(values, kept_where)


def choose(condition: Tensor, x: Operand, y: Operand) -> Node:
    """Returns x where a constant condition holds, y elsewhere."""
    return add(_masked(condition, x), _masked(~condition.bool(), y))


@rule("tril")
def tril(x: Node, diagonal: int = 0) -> Node:
    """Returns the lower triangles of matrices."""
    return kept(x, torch.ones(x.shape[-2:]).tril(diagonal))


@rule("triu")
def triu(x: Node, diagonal: int = 0) -> Node:
    """Returns the upper triangles of matrices."""
    return kept(x, torch.ones(x.shape[-2:]).triu(diagonal))


def _masked(condition: Tensor, x: Operand) -> Node:
    """Returns x where a condition holds and 0 elsewhere; of a constant, as one constant."""
    mask = condition.bool()
    if isinstance(x, Node) and x.operation == "constant":
        x = x.attributes[0]
    if isinstance(x, Node):
        return kept(x, mask)
    number = torch.as_tensor(x, dtype=torch.float32)
    return graph.constant(torch.where(mask, number, torch.zeros(())))
