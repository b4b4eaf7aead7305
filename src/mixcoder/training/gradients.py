"""The loss of a batch and its gradients, in one of two equal ways.

    images (B, C, H, W) uint8 ─▶ float in [0, 1] ─▶ model ─▶ loss ()
                              └─ backward ─▶ gradients (N,), as `FlatParameters` lays them

* eager: operation by operation, as torch does by itself;
* compiled: forward and backward traced once, for images of one shape, into one graph that becomes machine
  code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch._ops import OpOverload
from torch.func import functional_call, grad_and_value
from torch.fx.experimental.proxy_tensor import make_fx

from mixcoder.data.images import to_float
from mixcoder.errors import first_line
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.training.compiled_graph import compile_graph
from mixcoder.training.flat_parameters import FlatParameters
from mixcoder.training.losses import LOSSES
from mixcoder.training.shared_gelu import SHARED_GELU

Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes images (B, C, H, W) uint8; returns gradients (N,) and loss ()."""


class CompileError(Exception):
    """A training step cannot be compiled here."""


def eager_gradients(
    model: Autoencoder, parameters: FlatParameters, loss: str, precision: torch.dtype
) -> Gradients:
    """Loss and gradients, operation by operation."""

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = to_float(images)
        with _products_in(precision, images.device):
            outputs = model(inputs)
        value = LOSSES[loss](outputs.float(), inputs)
        gradients = torch.autograd.grad(value, parameters.parameters, materialize_grads=True)
        return parameters.join(gradients), value.detach()

    return gradients_of


def compiled_gradients(
    model: Autoencoder, parameters: FlatParameters, loss: str, precision: torch.dtype, images: Tensor
) -> Gradients:
    """Loss and gradients as one compiled graph for batches like `images`; compiles now.

    Raises:
        CompileError: there is no compiler, or the model does what none can take; says what.
    """

    def joint(vector: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = to_float(images)

        def loss_of(tensors: list[Tensor]) -> Tensor:
            weights = dict(zip(parameters.names, tensors, strict=True))
            with _products_in(precision, images.device):
                outputs = functional_call(model, weights, (inputs,))
            return LOSSES[loss](outputs.float(), inputs)

        gradients, value = grad_and_value(loss_of)(parameters.split(vector))
        return parameters.join(gradients), value

    vector = parameters.vector.detach()
    devices = [images.device] if images.device.type == "cuda" else []
    try:
        if any(True for _ in model.buffers()):
            raise CompileError("the model has buffers")
        with torch.random.fork_rng(devices), torch.no_grad():
            decompositions = _decompositions(precision, images.device)
            graph = make_fx(joint, decomposition_table=decompositions)(vector, images)
            graph.graph = fx_graph_cse(graph.graph)
            graph.recompile()
            compiled = compile_graph(graph, (vector, images))
            compiled(vector, images)
    except CompileError:
        raise
    except Exception as error:  # of the tracer, the compiler's front end, its code, or the machine's compiler
        raise CompileError(first_line(error)) from error

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gradients, value = compiled(vector, images)
        return gradients, value

    return gradients_of


def _decompositions(precision: torch.dtype, device: torch.device) -> dict[OpOverload, Callable[..., Tensor]]:
    """Operations that the compiler is better given in parts, where they were measured to win."""
    return SHARED_GELU if (precision, device.type) == (torch.float32, "cpu") else {}


def _products_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Within it, matrix products and convolutions are computed in `precision`."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)
