"""Whether a refinement reaches the codes of a model: a plugin's own methods may pass it by."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from mixcoder.errors import ArgumentError
from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.modes import evaluation_mode


def check_refinable(name: str, model: Autoencoder) -> None:
    """Checks that the refinement of a model, which a plugin may have written, changes its codes.

    Raises:
        ArgumentError: no gradient comes through the decoder, the model's own `encode` takes no steps, or its
            forward does not refine.
    """
    if not _is_differentiable(model):
        raise ArgumentError(
            "refine", f"has no effect on model '{name}': no gradient comes through its decoder to the code"
        )
    _check_own_methods(name, model)


def _is_differentiable(model: Autoencoder) -> bool:
    """Returns whether the decoded image has a gradient by the code."""
    device, dtype = device_and_dtype(model)
    with evaluation_mode(model), torch.enable_grad():
        code = torch.zeros(1, *model.latent_shape, device=device, dtype=dtype, requires_grad=True)
        values = model._decode_before_output(code).sum()
        if not values.requires_grad:
            return False
        [gradient] = torch.autograd.grad(values, code, allow_unused=True)
    return gradient is not None


def _check_own_methods(name: str, model: Autoencoder) -> None:
    halves = ("encode", "forward")
    own = [half for half in halves if getattr(type(model), half) is not getattr(Autoencoder, half)]
    if not own:
        return
    if "encode" in own and "steps" not in inspect.signature(model.encode).parameters:
        raise ArgumentError(
            "refine",
            f"needs `encode(self, images, steps=None)`, and `encode` of model '{name}' has no `steps`",
        )
    if not _is_refining(model):
        way = "does not call that of mixcoder.Autoencoder" if own == ["encode"] else "does not call `encode`"
        raise ArgumentError("refine", f"has no effect on model '{name}', whose own `{own[-1]}` {way}")


def _is_refining(model: Autoencoder) -> bool:
    """Returns whether a forward refines its codes."""
    reached: list[nn.Module] = []

    def note(refinement: nn.Module, *_: Any) -> None:
        reached.append(refinement)

    assert model.refinement is not None
    device, dtype = device_and_dtype(model)
    with model.refinement.register_forward_pre_hook(note), evaluation_mode(model):
        model(torch.zeros(1, *model.image_shape, device=device, dtype=dtype))
    return bool(reached)
