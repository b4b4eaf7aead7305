"""Sliding windows of a tensor and their vjp, by operations that Inductor compiles well.

    x (…, N, …) ─▶ unfold ─▶ (…, N - size + 1, …, size)     a view of x, which is in memory once
    gradients   ◀─ the sum over the `size` places in a window, each shifted back to its origin

By itself, Inductor copies an element for every window that holds it, and adds up gradients element by
element.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mixcoder.backends.inductor.decompositions import AS_TORCH_DOES, Decompositions


def _unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    shape, strides = list(x.shape), list(x.stride())
    shape[dimension] = (shape[dimension] - size) // step + 1
    spacing = strides[dimension]
    strides[dimension] = spacing * step
    return x.as_strided([*shape, size], [*strides, spacing], x.storage_offset())


def _unfold_backward(gradient: Tensor, input_sizes: Sequence[int], dim: int, size: int, step: int) -> Tensor:
    if step != 1:
        return AS_TORCH_DOES
    after = [0, 0] * (len(input_sizes) - 1 - dim)
    places = [F.pad(gradient.select(-1, i), [*after, i, size - 1 - i]) for i in range(size)]
    return sum(places[1:], start=places[0])


SLIDING_WINDOWS: Decompositions = {
    torch.ops.aten.unfold.default: _unfold,
    torch.ops.aten.unfold_backward.default: _unfold_backward,
}
