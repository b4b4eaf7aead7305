"""How much memory training takes, found by rehearsing it with tensors that hold no numbers.

    model, batch without numbers ─▶ a training step ─▶ bytes of all tensors that live at once ─▶ their peak

What is counted is what a step makes in eager mode; a compiled one makes no more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from mixcoder.backends.gradients import eager_gradients
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import create_step
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.dispatch import OperationMode, compute
from mixcoder.training.optimizers import create_optimizers
from mixcoder.training.recipe import Recipe

BEYOND_ALL_MACHINES = 2**63
"""Bytes of what torch cannot even count."""


def training_bytes(
    create_model: Callable[[], Autoencoder], recipe: Recipe, precision: torch.dtype = torch.float32
) -> int:
    """Bytes that training holds at once, beside the data: parameters, gradients, optimizer, activations.

    What libraries take for themselves is not counted: a run takes some more.

    Args:
        create_model: called where its numbers take no memory.
        recipe: how it is to be trained.
        precision: of matrix products and convolutions.
    """
    try:
        with _without_numbers(precision), _LiveBytes() as live:
            return sum(_rehearse(create_model(), recipe, precision, live))
    except Exception as error:
        if "overflow" in str(error):
            return BEYOND_ALL_MACHINES
        return 0  # a plugin's layer that cannot do without numbers: nothing is known


def most_training_bytes(create_model: Callable[[], Autoencoder], recipe: Recipe) -> int:
    """A bound on `training_bytes`, from one step with two images that is really taken.

    For a small model it is found in a fraction of the time: tensors without numbers need half a compiler.
    It holds for all models whose tensors grow no faster than the batch. With a single image, a norm over the
    batch could not be computed.
    """
    count = min(2, recipe.batch_size)
    few = recipe.model_copy(update={"batch_size": count})
    with torch.random.fork_rng([]), _LiveBytes() as live:
        lasting, passing = _rehearse(create_model(), few, torch.float32, live)
    return lasting + -(-recipe.batch_size * passing // count)


def _without_numbers(precision: torch.dtype) -> AbstractContextManager[object]:
    """Within it, tensors are shapes alone; meta ones are faster, but mixed precision does not know them."""
    return torch.device("meta") if precision == torch.float32 else FakeTensorMode()


def _rehearse(
    model: Autoencoder, recipe: Recipe, precision: torch.dtype, live: _LiveBytes
) -> tuple[int, int]:
    """The bytes that last from step to step, and the most that there are beside them within one.

    Those are there while gradients come, or while the optimizer uses them.
    """
    parameters = FlatParameters(model)
    gradients_of = eager_gradients(model, parameters, recipe.loss, precision)
    peaks = []

    def observed(images: Tensor) -> tuple[Tensor, Tensor]:
        result = gradients_of(images)
        peaks.append(live.take_peak())
        return result

    step = create_step(observed, parameters, create_optimizers(parameters, recipe))
    lasting = live.now
    images = torch.zeros(recipe.batch_size, *model.image_shape, dtype=torch.uint8)
    before = live.now
    step(images)
    state = live.now - before
    lasting += state
    return lasting, max(peaks[0] + state, live.take_peak()) - lasting


class _LiveBytes(OperationMode):
    """Counts the bytes of all tensors that come to be within it and are still there.

    Attributes:
        now: bytes at this moment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._peak = 0
        self._storages: set[int] = set()

    def take_peak(self) -> int:
        """The most bytes that there were since this was last asked."""
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
        key, size = storage._cdata, storage.nbytes()
        if key in self._storages:
            return
        self._storages.add(key)
        self.now += size
        self._peak = max(self._peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._storages.remove(key)
        self.now -= size
