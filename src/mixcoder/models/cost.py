"""What a model costs to compute, counted on the meta device by torch's own formulas.

    model ─▶ passes of two and of three images ─▶ their difference: what one image adds

What depends on weights alone, such as the Kronecker product of two matrices, is computed once a batch. It is
in both passes, and so in no count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import flop_registry

from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.dispatch import OperationMode, compute, leaves
from mixcoder.models.modes import evaluation_mode, keeping_modes
from mixcoder.torch_private import OpOverload

_FEW = 2
"""Images of the smaller pass: with a single one, a norm over the batch could not be trained."""


class Costs(NamedTuple):
    """What a model costs for each image, whatever backend computes it.

    Attributes:
        encode_madds: multiply-adds of encoding, steps down the decoder's gradient included.
        decode_madds: multiply-adds of decoding.
        train_madds: multiply-adds of a training step, forward and backward, second derivatives included,
            but not the optimizer; the mean where the steps of a refinement are drawn.
        train_elements: elements that all other operations of a training step write, such as activations and
            their derivatives.
    """

    encode_madds: int
    decode_madds: int
    train_madds: int
    train_elements: int

    @property
    def madds(self) -> int:
        """Multiply-adds of encoding an image and of decoding its code."""
        return self.encode_madds + self.decode_madds


def count_costs(model: Autoencoder) -> Costs:
    """Returns what a model costs for each image: multiply-adds are those of matmuls and convolutions.

    Args:
        model: on the meta device, where a training step leaves no trace in it.
    """
    encoding, decoding = _count_inference(model)
    training = _count_training(model)
    return Costs(encoding.madds, decoding.madds, training.madds, training.elements)


def cost_measures(costs: Costs) -> dict[str, int]:
    """Returns multiply-adds by the keys of their measures."""
    keys = ("encode_madds", "decode_madds", "train_madds")
    return {"madds": costs.madds, **{key: getattr(costs, key) for key in keys}}


def count_madds(model: Autoencoder) -> int:
    """Returns the multiply-adds of encoding an image and of decoding its code, as `count_costs` does.

    Args:
        model: on any device.
    """
    return sum(count.madds for count in _count_inference(model))


class _Count(NamedTuple):
    """Multiply-adds, and elements that other operations write."""

    madds: int
    elements: int

    def added_to(self, fewer: _Count) -> _Count:
        """Returns the difference to the count of fewer images."""
        return _Count(max(0, self.madds - fewer.madds), max(0, self.elements - fewer.elements))


def _count_inference(model: Autoencoder) -> tuple[_Count, _Count]:
    """Returns the counts of encoding an image, and of decoding its code."""
    with evaluation_mode(model):
        (few, few_latents), (more, more_latents) = (_run(model.encode, x) for x in _two_batches(model))
        decoded_few, decoded_more = (_run(model.decode, x)[0] for x in (few_latents, more_latents))
    return more.added_to(few), decoded_more.added_to(decoded_few)


def _count_training(model: Autoencoder) -> _Count:
    """Returns the count of an image in a training step, without the optimizer.

    Where the steps of a refinement are drawn for each batch, this is the mean: that of the fewest and the
    most, as each of them costs the same.
    """
    refinement = model.refinement
    if refinement is None or refinement.fewest == refinement.steps:
        return _count_step(model)
    try:
        refinement.steps_now = refinement.fewest
        few = _count_step(model)
    finally:
        refinement.steps_now = refinement.steps
    most = _count_step(model)
    return _Count((few.madds + most.madds) // 2, (few.elements + most.elements) // 2)


def _count_step(model: Autoencoder) -> _Count:
    """Returns the count of an image in a training step, with the refinement's steps of now."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def step(images: Tensor) -> None:
        loss = F.mse_loss(model(images), images)
        if loss.requires_grad:
            torch.autograd.grad(loss, trained, allow_unused=True)

    with keeping_modes(model), torch.inference_mode(False), torch.enable_grad():
        if not model.training:  # submodules in evaluation mode stay so, as a frozen norm
            model.train()
        few, more = (_run(step, images)[0] for images in _two_batches(model))
    return more.added_to(few)


def _two_batches(model: Autoencoder) -> list[Tensor]:
    device, dtype = device_and_dtype(model)
    return [torch.zeros(n, *model.image_shape, device=device, dtype=dtype) for n in (_FEW, _FEW + 1)]


def _run(function: Callable[[Tensor], Any], batch: Tensor) -> tuple[_Count, Any]:
    """Returns the count of a function's operations, and its result."""
    with _Counting() as counting:
        result = function(batch)
    return _Count(counting.operations // 2, counting.elements), result  # a multiply-add is two operations


class _Counting(OperationMode):
    """A count of operations.

    Attributes:
        operations: floating point ones of matmuls and convolutions, so far.
        elements: that all others have written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = compute(func, args, kwargs)
        if formula := flop_registry.get(func.overloadpacket):
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        elif not _is_view(func):
            self.elements += sum(made.numel() for made in leaves(result) if isinstance(made, Tensor))
        return result


@cache
def _is_view(operation: OpOverload) -> bool:
    """Returns whether an operation writes nothing, since its result shares the memory of an argument."""
    if str(operation) == "aten._unsafe_view.default":  # the only one that does not state so
        return True
    shared = (made.alias_info for made in operation._schema.returns)
    return any(alias is not None and not alias.is_write for alias in shared)
