"""The loss of a batch and its gradients, in one of four equal ways.

    images (B, C, H, W) uint8 ─▶ float in [0, 1] ─▶ model ─▶ loss ()
                              └─ backward ─▶ gradients (N,), as `FlatParameters` lays them

* eager: operation by operation, as torch does by itself;
* compiled: forward and backward traced once, for images of one shape, into one graph that becomes machine
  code;
* split: such a graph for a part of the batch, and a thread for each part;
* native: a list of operations of our own for each part, where the model is made of layers that have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value

from mixcoder.backends.fingerprint import code_version, fingerprint, has_global_hooks, has_hooks, python_state
from mixcoder.backends.inductor.compiled_graph import compiled_once, load_graph
from mixcoder.backends.inductor.decompositions import Decompositions
from mixcoder.backends.inductor.package_runner import NativeGraph
from mixcoder.backends.inductor.shared_gelu import SHARED_GELU
from mixcoder.backends.inductor.sliding_windows import SLIDING_WINDOWS
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.threads import one_thread, over_parts, side_by_side
from mixcoder.data.split import to_float
from mixcoder.device import factory_defaults
from mixcoder.errors import first_line
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.training.losses import LOSSES

if TYPE_CHECKING:
    from torch.fx import GraphModule

Gradients = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Takes images (B, C, H, W) uint8; returns gradients (N,) and loss ()."""


_ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""By how much of their norm gradients of equal computations may differ."""


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
    _check_compilable(model)
    vector = parameters.vector.detach()
    with _as_compile_error():
        graph = load_graph(_compile(model, parameters, loss, precision, images))
        graph(vector, images)

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gradients, value = graph(vector, images)
        return gradients, value

    return gradients_of


def split_gradients(
    model: Autoencoder,
    parameters: FlatParameters,
    loss: str,
    precision: torch.dtype,
    images: Tensor,
    parts: int,
) -> Gradients:
    """Loss and gradients by one compiled graph on `parts` of a batch like `images` side by side.

    A part has a thread to itself: small models gain more by that than by threads that share each operation.
    Whoever calls this stays within `one_thread` from step to step: threads that share an operation wait for
    the next one busily, and would take the time of these.

    Raises:
        CompileError: there is no compiler, the model does what none can take, or it is one whose loss over a
            batch is not the mean of its losses over the parts.
    """
    _check_compilable(model)
    eager = eager_gradients(model, parameters, loss, torch.float32)
    with torch.random.fork_rng([]):
        whole = eager(images)
        if not _are_close(_mean([eager(part) for part in images.chunk(parts)]), whole, torch.float32):
            raise CompileError("the images of a batch depend on each other")
    vector = parameters.vector.detach()
    with _as_compile_error(), one_thread():
        package = _compile(model, parameters, loss, precision, images[: len(images) // parts])
        graph = partial(NativeGraph(package, parts), vector)
        gradients_of = _side_by_side([graph] * parts)
        if not _are_close(gradients_of(images), whole, precision):
            raise CompileError("the compiled graph computes something else")
    return gradients_of


def native_gradients(
    model: Autoencoder,
    parameters: FlatParameters,
    loss: str,
    precision: torch.dtype,
    images: Tensor,
    parts: int,
) -> Gradients:
    """Loss and gradients by operations of our own on `parts` of a batch like `images` side by side.

    Whoever calls this stays within `one_thread` from step to step, as with `split_gradients`.

    Raises:
        CompileError: the model has a layer without such operations, or they cannot be compiled here.
    """
    _check_compilable(model)
    with _as_compile_error(), one_thread(), factory_defaults():
        gradients_of = NativeStep(model, parameters, loss, precision, len(images), parts)
        whole = eager_gradients(model, parameters, loss, torch.float32)(images)
        if not _are_close(gradients_of(images), whole, precision):
            raise CompileError("the operations compute something else")
    return gradients_of


def _side_by_side(ways: Sequence[Gradients]) -> Gradients:
    """Each way computes an equal part of the batch, in a thread of its own."""

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        parts = images.chunk(len(ways))
        with torch.no_grad():
            return _mean(side_by_side([partial(way, part) for way, part in zip(ways, parts, strict=True)]))

    return gradients_of


def _mean(results: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The gradients and the loss of a batch, from those of its equal parts; the first gradients become it."""
    (mean, *others), values = zip(*results, strict=True)

    def make_mean(part: slice) -> None:
        for count, other in enumerate(others, start=2):
            mean[part].lerp_(other[part], 1 / count)

    over_parts(len(mean), make_mean)
    return mean, sum(values) / len(results)


def _compile(
    model: Autoencoder, parameters: FlatParameters, loss: str, precision: torch.dtype, images: Tensor
) -> Path:
    """The package of a graph that takes parameters (N,) and images; gives gradients (N,) and loss ()."""

    def joint(vector: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        inputs = to_float(images)

        def loss_of(tensors: list[Tensor]) -> Tensor:
            weights = dict(zip(parameters.names, tensors, strict=True))
            with _products_in(precision, images.device):
                outputs = functional_call(model, weights, (inputs,))
            return LOSSES[loss](outputs.float(), inputs)

        gradients, value = grad_and_value(loss_of)(parameters.split(vector))
        return parameters.join(gradients), value

    examples = parameters.vector.detach(), images
    devices = [images.device] if images.device.type == "cuda" else []

    def trace() -> GraphModule:
        from mixcoder.backends.inductor.tracing import traced

        before = python_state(model)
        graph = traced(joint, examples, _decompositions(images.device))
        if python_state(model) != before:
            raise CompileError("the model changes itself as it computes")
        return graph

    is_frozen = not all(it.requires_grad for it in model.parameters())  # those are constants of the graph
    model_told = None if is_frozen else fingerprint(model)
    told = model_told and f"{code_version()} {loss} {precision} {parameters.names} {model_told}"
    with torch.random.fork_rng(devices), torch.no_grad():
        return compiled_once(told, trace, examples)


def _check_compilable(model: Autoencoder) -> None:
    """Refuses a model of which a step is more than a function of parameters and images.

    Raises:
        CompileError: says why.
    """
    if any(True for _ in model.buffers()):
        raise CompileError("the model has buffers")
    hooked = chain(map(has_hooks, model.modules()), map(has_hooks, model.parameters()))
    if has_global_hooks() or any(hooked):
        raise CompileError("the model has hooks")


@contextmanager
def _as_compile_error() -> Iterator[None]:
    """Makes one kind of error of what tracer, compiler, loader and the machine's compiler raise."""
    try:
        yield
    except CompileError:
        raise
    except Exception as error:
        raise CompileError(first_line(error)) from error


def _are_close(ones: Sequence[Tensor], others: Sequence[Tensor], precision: torch.dtype) -> bool:
    """Whether tensors differ by no more than the rounding of a whole model in `precision`."""
    pairs = zip(ones, others, strict=True)
    return all(bool((one - other).norm() <= _ROUNDING[precision] * other.norm()) for one, other in pairs)


def _decompositions(device: torch.device) -> Decompositions:
    """Operations that the compiler is better given in parts, where they were measured to win."""
    return {**SHARED_GELU, **SLIDING_WINDOWS} if device.type == "cpu" else {}


def _products_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Within it, matrix products and convolutions are computed in `precision`."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)
