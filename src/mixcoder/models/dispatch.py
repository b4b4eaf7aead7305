"""What torch computes, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixcoder.torch_private import OpOverload, TorchDispatchMode


class OperationMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that passes every operation of eager computations to its `__torch_dispatch__`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leaves out torch's own, which marks the subclass for the compiler and imports that: two seconds."""
        super(TorchDispatchMode, cls).__init_subclass__(**kwargs)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]


class CheapShapes(OperationMode):
    """A mode in which operations on meta tensors take little time, as `compute` says."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return compute(func, args, kwargs)


@contextmanager
def without_elements() -> Iterator[None]:
    """Context in which tensors are made on the meta device, and have a shape but no elements."""
    with torch.device("meta"), CheapShapes():
        yield


def compute(operation: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
    """Returns what an operation gives; on meta tensors empty tensors, without an import of torch's compiler.

    torch finds their shapes in Python: that import takes a second, and then each operation 0.3 ms. Here the
    most frequent shapes are stated, and small arrays are computed as if they were on the CPU. What does not
    fit together is left to torch, which says what is wrong.
    """
    kwargs = kwargs or {}
    if operation is torch.ops.aten.normal_.default and args[0].is_meta:
        return args[0]  # filled, as far as a tensor without elements can be
    with suppress(_UnfitError, ValueError, RuntimeError, NotImplementedError):
        return _from_stated_shape(operation, args, kwargs)
    with suppress(_UnfitError, RuntimeError, NotImplementedError):
        return _from_stand_ins(operation, args, kwargs)
    return operation(*args, **kwargs)


def _from_stated_shape(operation: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Returns an empty tensor on the meta device, of the shape that `_SHAPES` states.

    Raises:
        _UnfitError: it states none, or not for these arguments.
    """
    _check(operation in _SHAPES and set(kwargs) <= _WITHOUT_SHAPE)
    tensors = _tensors(args)
    _check(any(tensor.is_meta for tensor in tensors))
    _check(all(tensor.is_meta and tensor.dtype == torch.float32 for tensor in tensors if tensor.ndim))
    return torch.empty(_SHAPES[operation](*args), device="meta")


_WITHOUT_SHAPE = {"approximate"}
"""Arguments by name, here that of GELU, that change no shape."""
_MOST_ELEMENTS = 2**20
"""Of all arguments, or of the result, of an operation that is computed to see the shape of its result."""
_META = torch.device("meta")


def _from_stand_ins(operation: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns empty tensors on the meta device like those that the CPU computes from any elements.

    Raises:
        _UnfitError: it is no operation on small meta tensors that makes new ones, whatever their elements.
    """
    tensors = _tensors((args, kwargs))
    if kwargs.get("device") == _META:
        _check(math.prod(size for size in leaves(args) if type(size) is int) <= _MOST_ELEMENTS)
    else:
        _check(any(tensor.is_meta for tensor in tensors))
    _check(sum(tensor.numel() for tensor in tensors) <= _MOST_ELEMENTS)
    _check(
        not operation._schema.is_mutable
        and all(made.alias_info is None for made in operation._schema.returns)
    )
    _check(not {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & {*operation.tags})
    is_random = torch.Tag.nondeterministic_seeded in operation.tags
    with torch.random.fork_rng([], enabled=is_random):
        made = operation(
            *_mapped(_stand_in, args), **{key: _mapped(_stand_in, kwargs[key]) for key in kwargs}
        )
    return _mapped(_emptied, made)


def _stand_in(value: Any) -> Any:
    """Returns zeros on the CPU in the place of a meta tensor, and the CPU in the place of that device."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            return value
        extent = sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
        return _zeros(max(_MOST_ELEMENTS, extent + 1), value.dtype).as_strided(value.shape, value.stride())
    return torch.device("cpu") if value == _META else value


@lru_cache(maxsize=8)
def _zeros(count: int, dtype: torch.dtype) -> Tensor:
    """Returns zeros on the CPU that all stand-ins share, as nothing changes them: new ones would take longer
    than most operations.
    """
    with torch.inference_mode(False):
        return torch.zeros(count, dtype=dtype, device="cpu")


def _emptied(value: Any) -> Any:
    """Returns a meta tensor in the place of a tensor."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in leaves(values) if isinstance(value, Tensor)]


def leaves(values: Any) -> Iterator[Any]:
    """Yields what is in an argument or a result, and in its lists: all that operations take and give."""
    if isinstance(values, list | tuple):
        for value in values:
            yield from leaves(value)
    elif isinstance(values, dict):
        yield from leaves([*values.values()])
    else:
        yield values


def _mapped(function: Callable[[Any], Any], values: Any) -> Any:
    """Returns an argument or a result with a function of each of its leaves."""
    if isinstance(values, list | tuple):
        return type(values)([_mapped(function, value) for value in values])
    return function(values)


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
    *(_aten.sigmoid.default, _aten.sigmoid_backward.default),
    *(_aten.tanh.default, _aten.tanh_backward.default),
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
