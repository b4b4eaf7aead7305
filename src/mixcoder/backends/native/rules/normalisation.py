"""Rules of normalisations, made of sums and functions of each element: kernels fuse these by themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.arithmetic import add, mul
from mixcoder.backends.native.rules.rule_table import check, refuse, rule, settings_of
from mixcoder.backends.native.rules.sums import centred, mean_over, root
from mixcoder.torch_private import weight_norm_function

_INSTANCE_NORM = {"weight": None, "bias": None, "use_input_stats": True, "momentum": 0.1, "eps": 1e-5}


@rule("layer_norm")
def layer_norm(
    input: Node,
    normalized_shape: Sequence[int],
    weight: Node | None = None,
    bias: Node | None = None,
    eps: float = 1e-5,
) -> Node:
    """Returns x over its last axes with mean 0 and variance 1, times a weight, plus a bias."""
    axes = _last_axes(input, normalized_shape)
    return _scaled(_over_deviation(centred(input, axes), axes, eps), weight, bias)


@rule("rms_norm")
def rms_norm(
    input: Node, normalized_shape: Sequence[int], weight: Node | None = None, eps: float | None = None
) -> Node:
    """Returns x over its last axes with a mean square of 1, times a weight."""
    axes = _last_axes(input, normalized_shape)
    return _scaled(
        _over_deviation(input, axes, torch.finfo(torch.float32).eps if eps is None else eps), weight
    )


@rule("group_norm")
def group_norm(
    input: Node, num_groups: int, weight: Node | None = None, bias: Node | None = None, eps: float = 1e-5
) -> Node:
    """Returns x (B, C, …), each group of its channels with mean 0 and variance 1."""
    batch, channels, *places = input.shape
    groups = graph.reshape(input, (batch, num_groups, channels // num_groups * math.prod(places)))
    normal = graph.reshape(_over_deviation(centred(groups, [2]), [2], eps), input.shape)
    return _scaled(normal, *(_of_channels(part, input.rank) for part in (weight, bias)))


@rule("instance_norm")
def instance_norm(
    input: Node,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    *given: Any,
    **named: Any,
) -> Node:
    """Returns x (B, C, …), each channel of each image with mean 0 and variance 1."""
    settings = settings_of(_INSTANCE_NORM, given, named)
    has_running = running_mean is not None or running_var is not None
    check(not has_running and settings["use_input_stats"], "a norm with running statistics")
    return group_norm(input, input.shape[1], settings["weight"], settings["bias"], settings["eps"])


refuse("its statistics are those of the whole batch, not of a shard", "batch_norm")


@rule(weight_norm_function())
def weight_norm(v: Node, g: Node, dim: int = 0) -> Node:
    """Returns v with the norms g: one for each element of an axis, or one for all where `dim` is -1."""
    axes = [axis for axis in range(v.rank) if dim == -1 or axis != dim]
    norms = root(graph.total(graph.mul(v, v), axes))
    return mul(v, mul(g, graph.unary(norms, "reciprocal")))


def _over_deviation(x: Node, axes: Sequence[int], eps: float) -> Node:
    """Returns x divided by the root of its mean square over axes, plus eps."""
    scale = graph.unary(graph.affine(mean_over(graph.mul(x, x), axes), 1, eps), "rsqrt")
    return graph.mul(x, graph.expand(scale, x.shape))


def _last_axes(x: Node, shape: Sequence[int]) -> range:
    """Returns the axes of x that have a shape, which are the last ones."""
    axes = range(x.rank - len(shape), x.rank)
    if x.shape[axes.start :] != tuple(shape):
        raise ValueError(f"a norm over {tuple(shape)} of a tensor {x.shape}")
    return axes


def _scaled(x: Node, weight: Node | None, bias: Node | None = None) -> Node:
    x = x if weight is None else mul(x, weight)
    return x if bias is None else add(x, bias)


def _of_channels(part: Node | None, rank: int) -> Node | None:
    """Returns an element for each channel (C,) in the shape (C, 1, …) that broadcasts to (B, C, …)."""
    return None if part is None else graph.reshape(part, (*part.shape, *(1,) * (rank - 2)))
