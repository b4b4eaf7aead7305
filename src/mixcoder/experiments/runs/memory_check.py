"""Returns whether a run fits into memory.

    Run ─┬▶ memory estimate ─ more than available? ─▶ ArgumentError: needed, available, what to change
         └▶ training ──────── out of memory? ───────▶ TrainingError: the model, what to change

A run is checked before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixcoder.backends.backend import choose_backend
from mixcoder.errors import ArgumentError, TrainingError, is_out_of_memory
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Run
from mixcoder.io.memory_limits import AvailableMemory, available_memory
from mixcoder.models.cost import count_madds
from mixcoder.models.dispatch import without_elements
from mixcoder.models.summary import count_parameters
from mixcoder.text.sanitize import sanitize
from mixcoder.training.memory_estimate import most_training_bytes, training_bytes
from mixcoder.training.ranks import ALONE, Ranks
from mixcoder.training.recipe import Recipe

_SMALL = 20_000_000
"""Parameters up to which a model is built to estimate its memory: 0.3 GB with gradients and optimizer."""
_SPARE = 2
"""How many times its estimate must be available for a batch size to be advised: libraries take some, too."""


def check_memory(
    run: Run, device: torch.device, float32_bytes: int | None = None, ranks: Ranks = ALONE
) -> None:
    """Checks that training fits into memory, with the cheapest estimate that can tell.

    Args:
        run: not begun.
        device: the device to train on.
        float32_bytes: `training_bytes` of the run in float32 by one process, where they are known.
        ranks: the processes that train it together, of which this is one.

    Raises:
        ArgumentError: training does not fit; says how much it takes, how much is available, and which
            setting to change.
    """
    available = available_memory(device, ranks.count_here)
    shard = _with_batches(run.recipe, _shard_size(run.recipe.batch_size, ranks))
    if float32_bytes is None:
        if _is_small(run) and most_training_bytes(run.create_model, shard) <= available.bytes:
            return
        float32_bytes = training_bytes(run.create_model, shard)
    if float32_bytes > available.bytes:
        _check_in_own_precision(run, device, available, ranks)


@contextmanager
def reraise_oom(run: Run) -> Iterator[None]:
    """Context that turns running out of memory into a sentence on the model and the settings to change.

    Raises:
        TrainingError: in place of the error of torch, Python or the system.
    """
    smaller_batch = run.recipe.batch_size // 2
    advice = [f"a training.batch_size of {smaller_batch:,}"] if smaller_batch else []
    advice.append(_smaller_model(run))
    message = f"out of memory while training {_describe(run)}; try {' or '.join(advice)}"
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(message) from error


def _is_small(run: Run) -> bool:
    with without_elements():
        return count_parameters(run.create_model()) < _SMALL


def _check_in_own_precision(run: Run, device: torch.device, available: AvailableMemory, ranks: Ranks) -> None:
    """Checks that training fits in the precision of the run, which may take less than float32.

    Raises:
        ArgumentError: training does not fit.
    """
    with without_elements():
        model = run.create_model()
        workload = run.recipe.workload(model, count_madds(model), 0, device)
        size = _shard_size(run.recipe.batch_size, ranks)
        precision = choose_backend(workload.shard(size)).precision
    needed = _bytes_of_batch(run, size, precision)
    if needed <= available.bytes:
        return
    smaller = run.recipe.batch_size // 2
    while (
        smaller >= ranks.count
        and _SPARE * _bytes_of_batch(run, _shard_size(smaller, ranks), precision) > available.bytes
    ):
        smaller //= 2
    advice = f"a training.batch_size of {smaller:,}" if smaller >= ranks.count else _smaller_model(run)
    sharers = f" in each of {ranks.count} processes" if ranks.count > 1 else ""
    place = f"{sanitize(label(run.values), 200)}: " if run.values else ""
    raise ArgumentError(
        "",
        f"{place}to train {_describe(run)} takes {needed / 1e9:,.1f} GB of memory{sharers} and there "
        f"are {max(0, available.bytes) / 1e9:,.1f} GB {available.where}; try {advice}",
    )


def _bytes_of_batch(run: Run, batch_size: int, precision: torch.dtype) -> int:
    """Returns the bytes that training takes with batches of another size."""
    return training_bytes(run.create_model, _with_batches(run.recipe, batch_size), precision)


def _with_batches(recipe: Recipe, size: int) -> Recipe:
    return recipe.model_copy(update={"batch_size": size})


def _shard_size(batch_size: int, ranks: Ranks) -> int:
    """Returns how many images of a batch this rank computes."""
    place = ranks.shard(batch_size)
    return len(range(place.start, place.stop))


def _describe(run: Run) -> str:
    with without_elements():
        params = count_parameters(run.create_model())
    return f"a {run.model[0]} of {params:,} parameters with batches of {run.recipe.batch_size:,} images"


def _smaller_model(run: Run) -> str:
    """Returns the advice to make the model smaller: by which arguments, and where most parameters are."""
    with without_elements():
        model = run.create_model()
    sizes = " or ".join(f"model.{argument}" for argument in model.sized_by) or "model"
    largest, parameter = max(model.named_parameters(), key=lambda named: named[1].numel())
    return f"a smaller {sizes} ({parameter.numel():,} parameters are in {largest})"
