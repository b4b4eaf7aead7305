"""Whether a run fits into memory, said before it begins and where it runs out on the way.

Run ─▶ rehearsed bytes ─ more than there is? ─▶ refused: needed, available, what to change
    └▶ trained ───────── out of memory? ──────▶ the model, what to change
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixcoder.backends.backend import choose_execution
from mixcoder.backends.memory_estimate import most_training_bytes, training_bytes
from mixcoder.errors import ArgumentError, TrainingError, is_out_of_memory
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Run
from mixcoder.io.memory_limits import room_on
from mixcoder.models.summary import count_parameters
from mixcoder.text.sanitize import sanitize

_SMALL = 20_000_000
"""Parameters of a model that may be made just to see what a step takes: 0.3 GB with what goes with them."""
_SPARE = 2
"""A batch size is only advised where there is so many times the memory, as libraries take some too."""


def refuse_unfit(run: Run, device: torch.device) -> None:
    """Refuses a run that cannot fit, as `fitting_bytes` does, and sooner where it clearly can.

    Raises:
        ArgumentError: says how much it takes, how much there is, and which setting to change.
    """
    with torch.device("meta"):
        is_small = count_parameters(run.create_model()) < _SMALL
    if not is_small or most_training_bytes(run.create_model, run.recipe) > room_on(device).bytes:
        fitting_bytes(run, device)


def fitting_bytes(run: Run, device: torch.device) -> int:
    """Bytes that training takes in float32, beside the data; refuses a run that cannot fit.

    Raises:
        ArgumentError: says how much it takes, how much there is, and which setting to change.
    """
    needed = training_bytes(run.create_model, run.recipe)
    if needed > room_on(device).bytes:
        _refuse_if_too_large(run, device)
    return needed


@contextmanager
def telling_of_memory(run: Run) -> Iterator[None]:
    """Turns running out of memory into a sentence that names the model and the setting to change.

    Raises:
        TrainingError: in place of the error of torch, Python or the system.
    """
    batch_size = run.recipe.batch_size
    ways = [f"a training.batch_size of {batch_size // 2:,}"] if batch_size > 1 else []
    sentence = (
        f"out of memory while training {_described(run)}; try {' or '.join([*ways, _smaller_model(run)])}"
    )
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(sentence) from error


def _refuse_if_too_large(run: Run, device: torch.device) -> None:
    """Looks again, in the precision of the run."""
    with torch.device("meta"):
        precision = choose_execution(run.create_model(), run.recipe, 0, device).precision

    def bytes_with(batch_size: int) -> int:
        recipe = run.recipe.model_copy(update={"batch_size": batch_size})
        return training_bytes(run.create_model, recipe, precision)

    needed, room = bytes_with(run.recipe.batch_size), room_on(device)
    if needed <= room.bytes:
        return
    smaller = run.recipe.batch_size // 2
    while smaller and _SPARE * bytes_with(smaller) > room.bytes:
        smaller //= 2
    advice = f"a training.batch_size of {smaller:,}" if smaller else _smaller_model(run)
    which = f"{sanitize(label(run.values), 200)}: " if run.values else ""
    raise ArgumentError(
        "",
        f"{which}to train {_described(run)} takes {needed / 1e9:,.1f} GB of memory and there are "
        f"{max(0, room.bytes) / 1e9:,.1f} GB {room.where}; try {advice}",
    )


def _described(run: Run) -> str:
    with torch.device("meta"):
        params = count_parameters(run.create_model())
    return f"a {run.model[0]} of {params:,} parameters with batches of {run.recipe.batch_size:,} images"


def _smaller_model(run: Run) -> str:
    """Which arguments of the model to make smaller, and where most of it is."""
    with torch.device("meta"):
        model = run.create_model()
    sizes = " or ".join(f"model.{argument}" for argument in model.sized_by) or "model"
    largest, parameter = max(model.named_parameters(), key=lambda named: named[1].numel())
    return f"a smaller {sizes} ({parameter.numel():,} parameters are in {largest})"
