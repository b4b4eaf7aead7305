"""A model layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.models.autoencoder import Autoencoder


def count_parameters(model: Autoencoder) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def layer_rows(model: Autoencoder) -> list[dict[str, Any]]:
    """One row for each layer that data flows through, in that order.

    Args:
        model: may be on the meta device; nothing is computed but shapes there.

    Returns:
        Rows with `layer` (its name in the state dict), `module`, `output_shape` (of one image) and
        `params`.
    """
    rows: list[dict[str, Any]] = []
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        rows.append(
            {
                "layer": names[module],
                "module": _describe(module),
                "output_shape": list(output.shape[1:]),
                "params": sum(parameter.numel() for parameter in module.parameters()),
            }
        )

    leaves = [m for m in model.modules() if not list(m.children()) and not isinstance(m, nn.Identity)]
    handles = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        device = next(model.parameters()).device
        with torch.inference_mode():
            model(torch.zeros(1, *model.image_shape, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return rows


def _describe(module: nn.Module) -> str:
    return " ".join(str(module).split())
