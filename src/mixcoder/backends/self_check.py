"""Checks of built steps against eager ones, and of models that only eager steps can compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.fingerprint import has_hooks
from mixcoder.backends.step import StepSpec, UnsupportedError
from mixcoder.errors import first_line
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.torch_private import process_has_hooks

_TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1}
"""By how much of their norm gradients of equal computations may differ."""
_EAGER_AND_MORE = 1.5
"""By how many times as much as eager ones do."""
_OF_EACH, _SMALL = 1e-2, 1e-3
"""The same of one parameter in float32, whose norm counts as no less than this part of the largest."""


def check_pure(model: Autoencoder) -> None:
    """Checks that a step is a function of parameters and images alone.

    Raises:
        UnsupportedError: says why it is not.
    """
    if any(True for _ in model.buffers()):
        raise UnsupportedError("the model has buffers")
    check_no_hooks(model)


def check_no_hooks(model: Autoencoder) -> None:
    """Checks that no hook is called as a model computes, which a step of another backend would skip.

    Raises:
        UnsupportedError: one is.
    """
    hooked = chain(map(has_hooks, model.modules()), map(has_hooks, model.parameters()))
    if process_has_hooks() or any(hooked):
        raise UnsupportedError("the model has hooks")


def check_close(
    found: Sequence[Tensor], expected: Sequence[Tensor], precision: torch.dtype, problem: str
) -> None:
    """Checks that tensors differ by no more than the rounding of a whole model in `precision`.

    Raises:
        UnsupportedError: they differ by more; says `problem`.
    """
    if not _are_close(found, expected, [_TOLERANCES[precision]] * len(expected)):
        raise UnsupportedError(problem)


def check_rounding(found: Sequence[Tensor], expected: Sequence[Tensor], spec: StepSpec, problem: str) -> None:
    """Checks that a built step's gradients and loss differ by no more than rounding from those in float32.

    A model may round more than most, such as one with a steep output. Then the measure is what eager steps
    in the same precision differ by.

    Args:
        found: gradients (N,) and loss () of the built step for `spec.images`.
        expected: those of eager steps in float32.
        spec: of the built step.
        problem: what is wrong where they differ by more.

    Raises:
        UnsupportedError: they do; says `problem`.
    """
    allowed = [_TOLERANCES[spec.precision]] * len(expected)
    if _are_close(found, expected, allowed):
        return
    with torch.random.fork_rng([]):
        rounded = eager_gradients(spec)(spec.images)
    own = [_EAGER_AND_MORE * _difference(one, other) for one, other in zip(rounded, expected, strict=True)]
    if not _are_close(found, expected, list(map(max, allowed, own))):
        raise UnsupportedError(problem)


def _are_close(found: Sequence[Tensor], expected: Sequence[Tensor], allowed: Sequence[float]) -> bool:
    """Returns whether each tensor differs by at most the allowed part of its norm; never where one is NaN."""
    return all(
        _difference(one, other) <= most for one, other, most in zip(found, expected, allowed, strict=True)
    )


def _difference(one: Tensor, other: Tensor) -> float:
    """Returns by how much of the second one's norm two tensors differ; 0 of equal ones."""
    return 0.0 if torch.equal(one, other) else float((one - other).norm() / other.norm())


def check_each_close(found: Sequence[Tensor], expected: Sequence[Tensor], problem: str) -> None:
    """Checks the gradients of each parameter in float32, so that small ones do not hide behind large ones.

    Raises:
        UnsupportedError: some differ by more than the rounding of a whole model; says `problem`.
    """
    least = _SMALL * max((other.norm().item() for other in expected), default=0.0)
    for one, other in zip(found, expected, strict=True):
        if not (one - other).norm() <= _OF_EACH * max(other.norm().item(), least):
            raise UnsupportedError(problem)


@contextmanager
def as_unsupported() -> Iterator[None]:
    """Context that turns whatever tracer, compiler or loader raises into an `UnsupportedError`."""
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:
        raise UnsupportedError(first_line(error)) from error
