"""Functions made of functions: traced through their own Python code, or through that of their arguments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F

from mixcoder.backends.native import graph
from mixcoder.backends.native.derivatives import gradients, substitute
from mixcoder.backends.native.rules.rule_table import TRACED, check
from mixcoder.backends.native.rules.shapes import filled
from mixcoder.models.pull_back import pull_back
from mixcoder.torch_private import without_override_check

Composition = Callable[..., Any]


def _traced(function: Callable[..., Any]) -> Composition:
    """Returns what traces the body of a function, which would else hand itself over to the tracer."""
    body = without_override_check(function)

    def compose(tracer: AbstractContextManager[object], *args: Any, **kwargs: Any) -> Any:
        with tracer:
            return body(*args, **kwargs)

    return compose


TRACED[F.multi_head_attention_forward] = _traced(F.multi_head_attention_forward)


def _pull_back(
    tracer: Any, function: Callable[[Any], Any], point: Any, cotangent: Callable[[Any], Any]
) -> Any:
    """Returns the symbol of a function's gradient: what `pull_back` says, made by a walk through its graph.

    The function is traced at a place of its own, so that other uses of the point are no part of its Jacobian.
    """
    place = graph.images(tracer.node_of(point).shape)
    argument = tracer.symbol(place)
    with torch.enable_grad(), tracer:
        made = function(argument)
        seed = cotangent(made)
    result, of_result = tracer.node_of(made), tracer.node_of(seed)
    check(result.shape == of_result.shape, f"pull_back: {of_result.shape} for a result of {result.shape}")
    [gradient] = gradients([result], [of_result], [place])
    if gradient is None:
        gradient = filled(place.shape, 0.0)
    [gradient] = substitute([gradient], place, tracer.node_of(point))
    return tracer.symbol(gradient if torch.is_grad_enabled() else graph.stop(gradient))


TRACED[pull_back] = _pull_back
