"""What a model costs to compute, counted in one forward of a single image."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.dispatch import Watching, compute
from mixcoder.models.modes import evaluation_mode


def count_madds(model: Autoencoder) -> int:
    """Multiply-adds of one image through encoder and decoder: those of matrix products and convolutions.

    Args:
        model: on any device; on the meta device nothing is computed but shapes. How it is computed in
            training, where that is otherwise, does not count.
    """
    device, dtype = device_and_dtype(model)
    counting = _Counting()
    with evaluation_mode(model), counting:
        model(torch.zeros(1, *model.image_shape, device=device, dtype=dtype))
    return counting.operations // 2  # a multiply-add is two operations


class _Counting(Watching):
    """Counts operations as torch's own formulas have them.

    Attributes:
        operations: floating point ones, so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = compute(func, args, kwargs)
        if formula := flop_registry.get(func.overloadpacket):
            self.operations += formula(*args, **(kwargs or {}), out_val=result)
        return result
