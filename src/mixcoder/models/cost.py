"""What a model costs to compute, counted in one forward of a single image."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.dispatch import OperationMode, compute
from mixcoder.models.modes import evaluation_mode


def count_madds(model: Autoencoder) -> int:
    """Returns the multiply-adds of one image through encoder and decoder: those of matmuls and convolutions.

    Args:
        model: on any device; on the meta device only shapes are computed. Counted is its own forward pass,
            whatever backend trains it.
    """
    device, dtype = device_and_dtype(model)
    counting = _Counting()
    with evaluation_mode(model), counting:
        model(torch.zeros(1, *model.image_shape, device=device, dtype=dtype))
    return counting.operations // 2  # a multiply-add is two operations


class _Counting(OperationMode):
    """A count of operations, by torch's own formulas.

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
