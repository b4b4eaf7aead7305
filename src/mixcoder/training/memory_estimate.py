"""How much memory training takes: a memory estimate by a dry run with tensors that hold no elements.

    model, batch without elements ─▶ a training step ─▶ bytes of all tensors that live at once ─▶ their peak

An eager step is counted; a compiled one makes no more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.eager import EAGER
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.dispatch import OperationMode, compute
from mixcoder.torch_private import fake_tensors, storage_id, tree_leaves
from mixcoder.training.optimizers import init_optimizer_state
from mixcoder.training.recipe import Recipe

BEYOND_ALL_MACHINES = 2**63
"""Bytes of what torch cannot even count."""


def training_bytes(
    create_model: Callable[[], Autoencoder], recipe: Recipe, precision: torch.dtype = torch.float32
) -> int:
    """Returns the bytes that training holds at once: parameters, gradients, optimizer state, activations.

    The data and what libraries take for themselves are not counted: a run takes some more.

    Args:
        create_model: called where its elements take no memory.
        recipe: how it is to be trained.
        precision: of matrix products and convolutions.
    """
    try:
        with _without_elements(precision), _LiveBytes() as live:
            return sum(_count_bytes(create_model(), recipe, precision, live))
    except Exception as error:
        if "overflow" in str(error):
            return BEYOND_ALL_MACHINES
        return 0  # a plugin's layer that needs elements: nothing is known


def most_training_bytes(create_model: Callable[[], Autoencoder], recipe: Recipe) -> int:
    """Returns a bound on `training_bytes`, from one step with two images that is really computed.

    For a small model this takes a fraction of the time: tensors without elements need half a compiler. The
    bound holds for all models whose tensors grow no faster than the batch. With a single image, a norm over
    the batch could not be computed.
    """
    count = min(2, recipe.batch_size)
    few = recipe.model_copy(update={"batch_size": count})
    with torch.random.fork_rng([]), _LiveBytes() as live:
        persistent, transient = _count_bytes(create_model(), few, torch.float32, live)
    return persistent + -(-recipe.batch_size * transient // count)


def _without_elements(precision: torch.dtype) -> AbstractContextManager[object]:
    """Context in which tensors are shapes alone; meta ones are faster, but lack mixed precision."""
    return torch.device("meta") if precision == torch.float32 else fake_tensors()


def _count_bytes(
    model: Autoencoder, recipe: Recipe, precision: torch.dtype, live: _LiveBytes
) -> tuple[int, int]:
    """Returns the persistent bytes, and the peak transient bytes within a step."""
    parameters = FlatParameters(model)
    optimizers = recipe.create_optimizers(parameters)
    init_optimizer_state(optimizers)
    average = recipe.create_average(parameters)
    persistent = live.now
    images = torch.zeros(recipe.batch_size, *model.image_shape, dtype=torch.uint8)
    spec = StepSpec(
        model,
        parameters,
        recipe.loss,
        images,
        optimizers,
        clip_norm=recipe.clip_norm,
        average=average,
    )
    step, _ = build_step(spec, BackendChoice(EAGER, precision))
    live.take_peak()
    step(images)
    return persistent, live.take_peak() - persistent


class _LiveBytes(OperationMode):
    """Counts the bytes of all tensors that are created within this context and still live.

    Attributes:
        now: bytes at this moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._peak = 0
        self._storages: set[int] = set()

    def take_peak(self) -> int:
        """Returns the most bytes since the last call."""
        peak, self._peak = self._peak, self.now
        return peak

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = compute(func, args, kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage_id(storage), storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self.now += size
        self._peak = max(self._peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.remove(key)
        self.now -= size
