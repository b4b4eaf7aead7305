"""Rules of sums and means over axes, and of norms of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.arithmetic import add, is_number, mul
from mixcoder.backends.native.rules.rule_table import check, rule
from mixcoder.backends.native.rules.shapes import axes_of

Dims = int | Sequence[int] | None


def finished(sums: Node, axes: Sequence[int], keepdim: bool) -> Node:
    """Returns sums over axes without these axes, which are of size 1, unless they are to stay."""
    if keepdim:
        return sums
    return graph.reshape(sums, [n for axis, n in enumerate(sums.shape) if axis not in axes])


@rule("sum")
def total(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Returns sums over axes."""
    axes = axes_of(x.rank, dim)
    return finished(graph.total(x, axes), axes, keepdim)


def mean_over(x: Node, axes: Sequence[int]) -> Node:
    """Returns means over axes, which are then of size 1."""
    return graph.affine(graph.total(x, axes), 1 / math.prod(x.shape[axis] for axis in axes))


def centred(x: Node, axes: Sequence[int]) -> Node:
    """Returns x less its means over axes."""
    return graph.add(x, graph.expand(graph.affine(mean_over(x, axes), -1), x.shape))


@rule("mean")
def mean(x: Node, dim: Dims = None, keepdim: bool = False) -> Node:
    """Returns means over axes."""
    axes = axes_of(x.rank, dim)
    return finished(mean_over(x, axes), axes, keepdim)


@rule("var")
def var(
    x: Node,
    dim: Dims | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Node:
    """Returns variances over axes; by default of a sample, with n - 1."""
    check(not isinstance(dim, bool), "var with unbiased in the place of dim")
    axes = axes_of(x.rank, dim)
    if correction is None:
        correction = 0 if unbiased is False else 1
    deviations = centred(x, axes)
    count = math.prod(x.shape[axis] for axis in axes) - correction
    check(count > 0, "a variance of one element")
    sums = graph.total(graph.mul(deviations, deviations), axes)
    return finished(graph.affine(sums, 1 / count), axes, keepdim)


@rule("std")
def std(
    x: Node,
    dim: Dims | bool = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Node:
    """Returns standard deviations over axes."""
    return root(var(x, dim, unbiased, keepdim, correction=correction))


@rule("var_mean")
def var_mean(
    x: Node,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Node, Node]:
    """Returns variances and means over axes."""
    return var(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


@rule("std_mean")
def std_mean(
    x: Node,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Node, Node]:
    """Returns standard deviations and means over axes."""
    return std(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


def root(squares: Node) -> Node:
    """Returns the roots of sums of squares; where one is 0, its gradient is 0 too, as torch has it."""
    sign = graph.unary(squares, "sign")
    safe = graph.add(squares, graph.affine(sign, -1, 1))
    return graph.mul(graph.unary(safe, "sqrt"), sign)


@rule("norm", "linalg.vector_norm")
def norm(
    x: Node, p: float | str | None = 2, dim: Dims = None, keepdim: bool = False, *, ord: float = 2
) -> Node:
    """Returns norms of vectors along axes: of order 1 or 2, or any above 1."""
    order = ord if ord != 2 else p
    order = 2 if order in (None, "fro") else order
    check(is_number(order), f"a norm of order {order}")
    return _norm(x, float(order), axes_of(x.rank, dim), keepdim)


@rule("linalg.norm")
def linalg_norm(x: Node, ord: float | None = None, dim: Dims = None, keepdim: bool = False) -> Node:
    """Returns the norm of all elements, or of vectors along one axis."""
    axes = axes_of(x.rank, dim)
    check(ord is None or len(axes) == 1, "a norm of matrices")
    return _norm(x, 2.0 if ord is None else float(ord), axes, keepdim)


def _norm(x: Node, order: float, axes: Sequence[int], keepdim: bool) -> Node:
    check(order in (1, 2), f"a norm of order {order}")
    if order == 1:
        return finished(graph.total(graph.unary(x, "abs"), axes), axes, keepdim)
    return finished(root(graph.total(graph.mul(x, x), axes)), axes, keepdim)


@rule("normalize")
def normalize(x: Node, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Node:
    """Returns vectors along an axis divided by their norms, or by eps where these are smaller."""
    size = graph.unary(_norm(x, float(p), axes_of(x.rank, dim), True), "clamp", float(eps), math.inf)
    return mul(x, graph.unary(size, "reciprocal"))


@rule("cosine_similarity")
def cosine_similarity(x1: Node, x2: Node, dim: int = 1, eps: float = 1e-8) -> Node:
    """Returns the cosines of the angles between vectors along an axis."""
    products = mul(x1, x2)
    axes = axes_of(products.rank, dim)
    sizes = [
        graph.unary(root(graph.total(graph.mul(x, x), axes_of(x.rank, dim))), "clamp", float(eps), math.inf)
        for x in (x1, x2)
    ]
    scale = graph.unary(mul(*sizes), "reciprocal")
    return finished(mul(graph.total(products, axes), scale), axes, False)


@rule("mse_loss")
def mse_loss(input: Node, target: Node, reduction: str = "mean") -> Node:
    """Returns the mean of squared differences."""
    check(reduction == "mean", f"mse_loss with reduction={reduction}")
    difference = add(input, target, -1)
    return mean(graph.mul(difference, difference))


# ── the largest ──────────────────────────────────────────────────────────────────────────────────────


@rule("amax")
def amax(x: Node, dim: Dims = (), keepdim: bool = False) -> Node:
    """Returns the largest elements over axes; equal ones share the gradient."""
    axes = axes_of(x.rank, dim)
    largest = x
    for axis in axes:
        largest = graph.maximum(largest, axis)
    below = graph.add(x, graph.affine(graph.expand(largest, x.shape), -1))
    is_largest = graph.affine(graph.unary(below, "sign"), 1, 1)  # the others are below: -1 + 1
    share = graph.unary(graph.total(is_largest, axes), "reciprocal")
    chosen = graph.total(graph.mul(x, is_largest), axes)
    return finished(graph.mul(chosen, share), axes, keepdim)


@rule("amin")
def amin(x: Node, dim: Dims = (), keepdim: bool = False) -> Node:
    """Returns the smallest elements over axes; equal ones share the gradient."""
    return graph.affine(amax(graph.affine(x, -1), dim, keepdim), -1)


@rule("max")
def largest_of_all(x: Node, other: Node | None = None) -> Node:
    """Returns the largest element of all."""
    check(other is None, "torch.max with an axis or a second tensor; torch.amax and torch.maximum have rules")
    return amax(x)


@rule("min")
def smallest_of_all(x: Node, other: Node | None = None) -> Node:
    """Returns the smallest element of all."""
    check(other is None, "torch.min with an axis or a second tensor; torch.amin and torch.minimum have rules")
    return amin(x)


# ── softmax ──────────────────────────────────────────────────────────────────────────────────────────


@rule("softmax", "special.softmax")
def softmax(x: Node, dim: int) -> Node:
    """Returns exp(x), divided by its sum along an axis; no exponential overflows."""
    axis = axes_of(x.rank, dim)
    powers = graph.unary(_below_largest(x, axis[0]), "exp")
    share = graph.unary(graph.total(powers, axis), "reciprocal")
    return graph.mul(powers, graph.expand(share, x.shape))


@rule("softmin")
def softmin(x: Node, dim: int) -> Node:
    """Returns the softmax of -x."""
    return softmax(graph.affine(x, -1), dim)


@rule("log_softmax", "special.log_softmax")
def log_softmax(x: Node, dim: int) -> Node:
    """Returns the logarithm of the softmax."""
    axis = axes_of(x.rank, dim)
    below = _below_largest(x, axis[0])
    logs = graph.unary(graph.total(graph.unary(below, "exp"), axis), "log")
    return graph.add(below, graph.expand(graph.affine(logs, -1), x.shape))


@rule("logsumexp", "special.logsumexp")
def logsumexp(x: Node, dim: int, keepdim: bool = False) -> Node:
    """Returns log Σ exp(x) along an axis."""
    axis = axes_of(x.rank, dim)
    check(len(axis) == 1, "logsumexp over several axes")
    below = _below_largest(x, axis[0])
    logs = graph.unary(graph.total(graph.unary(below, "exp"), axis), "log")
    return finished(graph.add(logs, graph.maximum(x, axis[0])), axis, keepdim)


def _below_largest(x: Node, axis: int) -> Node:
    """Returns x less its largest element along an axis."""
    return graph.add(x, graph.expand(graph.affine(graph.maximum(x, axis), -1), x.shape))
