"""Rules of functions of each element."""

from __future__ import annotations

import math
from collections.abc import Callable

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.arithmetic import is_above, mul
from mixcoder.backends.native.rules.rule_table import check, rule


def _named(name: str) -> Callable[[Node], Node]:
    """Returns the rule of a function that the graph has under its own name."""

    def apply(x: Node) -> Node:
        return graph.unary(x, name)

    return apply


for _name in (
    *("exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "sign", "erf", "sin", "cos"),
    *("tanh", "sigmoid", "relu", "silu", "relu6"),
):
    rule(_name)(_named(_name))
rule("absolute")(_named("abs"))
rule("special.erf")(_named("erf"))
rule("special.expit")(_named("sigmoid"))


@rule("gelu")
def gelu(x: Node, approximate: str = "none") -> Node:
    """Returns x · Φ(x), or its form with tanh."""
    check(approximate in ("none", "tanh"), f"gelu with approximate={approximate}")
    return graph.unary(x, "gelu" if approximate == "none" else "gelu_tanh")


@rule("leaky_relu")
def leaky_relu(x: Node, negative_slope: float = 0.01) -> Node:
    """Returns x above 0, a share of it below."""
    return graph.unary(x, "leaky_relu", float(negative_slope))


@rule("prelu")
def prelu(x: Node, weight: Node) -> Node:
    """Returns x above 0, and below it x times a weight, one for all or one for each channel."""
    slope = weight
    if weight.size > 1:
        slope = graph.reshape(weight, [weight.size if i == 1 else 1 for i in range(x.rank)])
    above = graph.unary(x, "relu")
    below = graph.add(x, graph.affine(above, -1))
    return graph.add(above, mul(below, slope))


@rule("elu")
def elu(x: Node, alpha: float = 1.0) -> Node:
    """Returns x above 0, alpha · (exp(x) - 1) below."""
    return graph.unary(x, "elu", float(alpha))


@rule("selu")
def selu(x: Node) -> Node:
    """Returns the ELU that keeps mean and variance."""
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return graph.affine(elu(x, alpha), scale)


@rule("celu")
def celu(x: Node, alpha: float = 1.0) -> Node:
    """Returns the ELU of x / alpha, times alpha."""
    return graph.affine(elu(graph.affine(x, 1 / alpha), 1.0), alpha)


@rule("hardtanh")
def hardtanh(x: Node, min_val: float = -1.0, max_val: float = 1.0) -> Node:
    """Returns x within bounds."""
    if (min_val, max_val) == (0, 6):
        return graph.unary(x, "relu6")
    return graph.unary(x, "hardtanh", float(min_val), float(max_val))


@rule("hardsigmoid")
def hardsigmoid(x: Node) -> Node:
    """Returns relu6(x + 3) / 6."""
    return graph.affine(graph.unary(graph.affine(x, 1, 3), "relu6"), 1 / 6)


@rule("hardswish")
def hardswish(x: Node) -> Node:
    """Returns x · relu6(x + 3) / 6."""
    return graph.mul(x, hardsigmoid(x))


@rule("softplus")
def softplus(x: Node, beta: float = 1.0, threshold: float = 20.0) -> Node:
    """Returns log(1 + exp(beta · x)) / beta."""
    check(threshold >= 15, "softplus with a threshold below 15")
    return graph.affine(graph.unary(graph.affine(x, beta), "softplus"), 1 / beta)


@rule("logsigmoid")
def logsigmoid(x: Node) -> Node:
    """Returns the logarithm of the sigmoid."""
    return graph.affine(graph.unary(graph.affine(x, -1), "softplus"), -1)


@rule("mish")
def mish(x: Node) -> Node:
    """Returns x · tanh(softplus(x))."""
    return graph.mul(x, graph.unary(graph.unary(x, "softplus"), "tanh"))


@rule("softsign")
def softsign(x: Node) -> Node:
    """Returns x / (1 + |x|)."""
    return graph.mul(x, graph.unary(graph.affine(graph.unary(x, "abs"), 1, 1), "reciprocal"))


@rule("tanhshrink")
def tanhshrink(x: Node) -> Node:
    """Returns x - tanh(x)."""
    return graph.add(x, graph.affine(graph.unary(x, "tanh"), -1))


@rule("softshrink")
def softshrink(x: Node, lambd: float = 0.5) -> Node:
    """Returns x moved towards 0 by lambd, as far as 0."""
    inside = graph.unary(x, "clamp", -float(lambd), float(lambd))
    return graph.add(x, graph.affine(inside, -1))


@rule("hardshrink")
def hardshrink(x: Node, lambd: float = 0.5) -> Node:
    """Returns x where it is further from 0 than lambd, 0 elsewhere."""
    is_inside = graph.unary(x, "clamp'", -float(lambd), float(lambd))
    return graph.keep(x, graph.affine(is_inside, -1, 1))


@rule("threshold")
def threshold(x: Node, threshold: float, value: float) -> Node:
    """Returns x above a threshold, a value elsewhere."""
    above = is_above(x, threshold)
    return graph.add(graph.keep(x, above), graph.affine(above, -value, value))


@rule("glu")
def glu(x: Node, dim: int = -1) -> Node:
    """Returns the first half of an axis times the sigmoid of the second."""
    axis = dim % x.rank
    half = x.shape[axis] // 2
    gate = graph.unary(graph.part(x, axis, half, 2 * half), "sigmoid")
    return graph.mul(graph.part(x, axis, 0, half), gate)


@rule("exp2", "special.exp2")
def exp2(x: Node) -> Node:
    """Returns 2 to the power of x."""
    return graph.unary(graph.affine(x, math.log(2)), "exp")


@rule("log2")
def log2(x: Node) -> Node:
    """Returns the logarithm to the basis 2."""
    return graph.affine(graph.unary(x, "log"), 1 / math.log(2))


@rule("log10")
def log10(x: Node) -> Node:
    """Returns the logarithm to the basis 10."""
    return graph.affine(graph.unary(x, "log"), 1 / math.log(10))


@rule("log1p", "special.log1p")
def log1p(x: Node) -> Node:
    """Returns log(1 + x)."""
    return graph.unary(graph.affine(x, 1, 1), "log")


@rule("expm1", "special.expm1")
def expm1(x: Node) -> Node:
    """Returns exp(x) - 1."""
    return graph.affine(graph.unary(x, "exp"), 1, -1)


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout")
def dropout(x: Node, p: float = 0.5, training: bool = True, train: bool | None = None) -> Node:
    """Returns x, where no element is dropped."""
    drops = training if train is None else train
    check(p == 0 or not drops, "dropout, whose numbers are random")
    return x
