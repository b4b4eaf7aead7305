"""The graph of a step's gradients and loss.

parameters (N,), images (B, C, H, W) uint8 ─▶ model ─▶ loss () ─▶ backward ─▶ gradients (N,), loss ()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value

from mixcoder.backends.eager import matmuls_in
from mixcoder.backends.fingerprint import code_version, fingerprint
from mixcoder.backends.inductor.compiled_graph import compile_once
from mixcoder.backends.inductor.decompositions import Decompositions
from mixcoder.backends.inductor.shared_gelu import SHARED_GELU
from mixcoder.backends.inductor.sliding_windows import SLIDING_WINDOWS
from mixcoder.backends.losses import LOSSES
from mixcoder.backends.step import StepSpec
from mixcoder.data.split import to_float
from mixcoder.torch_private import trace

if TYPE_CHECKING:
    from torch.fx import GraphModule


def compile_step(spec: StepSpec, images: Tensor) -> Path:
    """Returns the package of the graph for batches like `images`, compiled now where the cache has none.

    The graph takes parameters (N,) and images; it gives gradients (N,) and loss ().

    Raises:
        Exception: whatever tracer and compiler raise.
    """
    examples = spec.parameters.vector.detach(), images
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        return compile_once(_source(spec), partial(_trace, spec, examples), examples)


def _source(spec: StepSpec) -> str | None:
    """Returns a text that the graph follows from; None where only the graph itself tells."""
    if not all(parameter.requires_grad for parameter in spec.model.parameters()):
        return None  # frozen parameters are constants of the graph
    of_model = fingerprint(spec.model)
    if of_model is None:
        return None
    return f"{code_version()} {spec.loss} {spec.precision} {spec.parameters.names} {of_model}"


def _trace(spec: StepSpec, examples: tuple[Tensor, Tensor]) -> GraphModule:
    return trace(_gradients_and_loss(spec), examples, _decompositions(examples[1].device))


def _gradients_and_loss(spec: StepSpec) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Returns the function that is traced."""
    parameters = spec.parameters

    def loss_of(tensors: list[Tensor], inputs: Tensor) -> Tensor:
        weights = dict(zip(parameters.names, tensors, strict=True))
        with matmuls_in(spec.precision, inputs.device):
            outputs = functional_call(spec.model, weights, (inputs,))
        return LOSSES[spec.loss](outputs.float(), inputs)

    def joint(vector: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = to_float(images)
        gradients, loss = grad_and_value(loss_of)(parameters.split(vector), inputs)
        return parameters.join(gradients), loss

    return joint


def _decompositions(device: torch.device) -> Decompositions:
    """Returns the decompositions that were measured to win on a device."""
    return {**SHARED_GELU, **SLIDING_WINDOWS} if device.type == "cpu" else {}
