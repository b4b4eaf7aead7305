"""What torch computes, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixcoder.torch_private import OpOverload, TorchDispatchMode, tree_leaves


class OperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that passes every operation of eager computations to its `__torch_dispatch__`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leaves out torch's own, which marks the subclass for the compiler and imports that: two seconds."""
        super(TorchDispatchMode, cls).__init_subclass__(**kwargs)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]


class CheapShapes(OperationMode):
    """A mode in which the most frequent operations on meta tensors take little time, as `compute` says."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return compute(func, args, kwargs)


def compute(operation: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """Returns what an operation gives; of the most frequent ones on meta tensors, an empty tensor at once.

    torch finds their shapes in Python, after an import of its compiler: a second, and then 0.3 ms each. What
    does not fit together is left to torch, which says what is wrong.
    """
    shape_of = _SHAPES.get(operation)
    if shape_of is not None and not kwargs:
        tensors = [arg for arg in tree_leaves(args) if isinstance(arg, Tensor)]
        is_meta = any(tensor.is_meta for tensor in tensors)
        if is_meta and all(t.is_meta and t.dtype == torch.float32 for t in tensors if t.ndim):
            with suppress(_UnfitError, ValueError):
                return torch.empty(shape_of(*args), device="meta")
    return operation(*args, **(kwargs or {}))


class _UnfitError(Exception):
    """Arguments do not fit together."""


def _check(fits: bool) -> None:
    if not fits:
        raise _UnfitError


def _broadcast(*args: Any) -> tuple[int, ...]:
    """Returns the shape to which all tensors broadcast; numbers, as in `images / 255`, have none."""
    return np.broadcast_shapes(*(arg.shape for arg in args if isinstance(arg, Tensor)))


def _scalar(*_: Any) -> tuple[int, ...]:
    return ()


def _of_addmm(bias: Tensor, left: Tensor, right: Tensor) -> tuple[int, ...]:
    shape = _of_mm(left, right)
    _check(np.broadcast_shapes(bias.shape, shape) == shape)
    return shape


def _of_mm(left: Tensor, right: Tensor) -> tuple[int, ...]:
    _check(
        left.ndim == right.ndim and left.shape[-1] == right.shape[-2] and left.shape[:-2] == right.shape[:-2]
    )
    return *left.shape[:-1], right.shape[-1]


def _of_reduction(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> tuple[int, ...]:
    _check(all(-x.ndim <= dim < x.ndim for dim in dims or ()))
    reduced = {dim % x.ndim for dim in dims or range(x.ndim)}
    sizes = [1 if dim in reduced else size for dim, size in enumerate(x.shape)]
    return tuple(size for dim, size in enumerate(sizes) if keepdim or dim not in reduced)


def _of_convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> tuple[int, ...]:
    stride, padding, dilation, is_transposed, output_padding, groups = settings
    taken, made = (0, 1) if is_transposed else (1, 0)  # dimensions of the weight: channels in and out
    factor_in, factor_out = (1, groups) if is_transposed else (groups, 1)
    channels = weight.shape[made] * factor_out
    places = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    if is_transposed:
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + out + 1 for n, k, s, p, d, out in places]
    else:
        sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in places]
    _check(x.shape[1] == weight.shape[taken] * factor_in and channels % groups == 0 and min(sizes) > 0)
    _check(bias is None or tuple(bias.shape) == (channels,))
    return x.shape[0], channels, *sizes


def _of_cat(tensors: Sequence[Tensor], dim: int = 0) -> tuple[int, ...]:
    shape = list(tensors[0].shape)
    _check(-len(shape) <= dim < len(shape))
    others = [[size for i, size in enumerate(t.shape) if i != dim % t.ndim] for t in tensors if t.ndim]
    _check(len(others) == len(tensors) and all(other == others[0] for other in others))
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return tuple(shape)


_aten = torch.ops.aten
_ELEMENTWISE = (
    *(_aten.add.Tensor, _aten.sub.Tensor, _aten.mul.Tensor, _aten.div.Tensor),
    *(_aten.gelu.default, _aten.gelu_backward.default, _aten.silu.default, _aten.silu_backward.default),
    *(_aten.relu.default, _aten.threshold_backward.default, _aten.mse_loss_backward.default),
    *(_aten.hardtanh.default, _aten.hardtanh_backward.default),
)
_SHAPES: dict[OpOverload, Callable[..., tuple[int, ...]]] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    _aten.mse_loss.default: _scalar,
    _aten.addmm.default: _of_addmm,
    **dict.fromkeys((_aten.mean.dim, _aten.sum.dim_IntList), _of_reduction),
    _aten.convolution.default: _of_convolution,
    _aten.mm.default: _of_mm,
    _aten.bmm.default: _of_mm,
    _aten.cat.default: _of_cat,
}
"""The shape of the result, from the arguments."""
