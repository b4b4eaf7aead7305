"""Contexts that use a model, and leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Context that restores the training mode of each submodule afterwards, such as that of a frozen norm."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context for inference: no dropout, running statistics as they are, no gradients.

    Tensors made within it are ordinary ones, also where the caller is in torch's inference mode: those of
    inference mode cannot be changed or trained on, and a model may keep one. A generator must not `yield`
    within it, or its caller would be in evaluation mode too.
    """
    with keeping_modes(model), torch.inference_mode(False), torch.no_grad():
        model.eval()
        yield


def joined(batches: Iterable[Tensor]) -> Tensor:
    """Returns tensors (B, …) as one (N, …), an ordinary one also in torch's inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat(list(batches))


def make_trainable(model: nn.Module) -> None:
    """Replaces the weights of a model that was built in torch's inference mode by ones that can change.

    Raises:
        ArgumentError: something else holds on to them.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_inference():
            clone: Tensor = tensor.detach().clone()
            if isinstance(tensor, nn.Parameter):
                clone = nn.Parameter(clone, tensor.requires_grad)
            try:
                torch.utils.swap_tensors(tensor, clone)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise ArgumentError(
                    "", "the model was built in torch.inference_mode(); build it outside to train it"
                ) from error
