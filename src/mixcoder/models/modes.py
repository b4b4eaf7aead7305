"""A model at work, and afterwards as its owner left it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """The training mode of each submodule is afterwards as before, such as that of a frozen norm."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, is_training in modes:
            module.training = is_training


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context for inference: no dropout, running statistics as they are, no gradients.

    Tensors made within it are ordinary ones, whatever the program around us is in: those of torch's inference
    mode refuse to be changed or trained on, also where a model keeps one for later. No `yield` of a generator
    may stand within it, or the caller would be in it, too.
    """
    with keeping_modes(model), torch.inference_mode(False), torch.no_grad():
        model.eval()
        yield


def joined(parts: Iterable[Tensor]) -> Tensor:
    """Returns tensors (B, …) as one (N, …), an ordinary one also in torch's inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat(list(parts))


def make_trainable(model: nn.Module) -> None:
    """Gives a model that was built in torch's inference mode weights that can change.

    Raises:
        ArgumentError: something else holds on to them.
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_inference():
            copy: Tensor = tensor.detach().clone()
            if isinstance(tensor, nn.Parameter):
                copy = nn.Parameter(copy, tensor.requires_grad)
            try:
                torch.utils.swap_tensors(tensor, copy)  # type: ignore[no-untyped-call]
            except RuntimeError as error:
                raise ArgumentError(
                    "", "the model was built in torch.inference_mode(); build it outside to train it"
                ) from error
