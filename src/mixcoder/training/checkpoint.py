"""Checkpoints: one safetensors file, written new and then swapped in.

    {model.<name>: weights, optimizer.<k>.<i>.<name>: its state, random.<device>: random state}
    + metadata {state: JSON with the step and the clock}

One may come from a stranger, or be damaged: first its state is checked, then its header against what this run
would save at that step, and only then a tensor is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from torch import Tensor

from mixcoder.errors import RunDirectoryError
from mixcoder.problems import problems_of
from mixcoder.safe_text import sanitize
from mixcoder.safetensors_file import read_metadata, read_tensors, write_tensors
from mixcoder.training.clock import TrainingClock

_UNREADABLE = "is not a readable checkpoint"
_OF_ANOTHER_RUN = "is not a checkpoint of this run"
_OF_A_GPU = {"random.cuda"}
"""What a checkpoint holds only where there is a GPU; a run may go on without one, or with one."""


class CheckpointState(BaseModel):
    """Where a run stands, beside its tensors."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    step: NonNegativeInt
    clock: TrainingClock


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: CheckpointState) -> None:
    """Writes tensors and state to one file, atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    write_tensors(path, tensors, {"state": state.model_dump_json()})


def read_state(path: Path, total_steps: int) -> CheckpointState:
    """The state of a checkpoint of a run of so many steps.

    Raises:
        RunDirectoryError: the file is missing, damaged, or beyond the run's end.
    """
    metadata = read_metadata(path, _UNREADABLE)
    if "state" not in metadata:
        raise RunDirectoryError(f"{path}: {_UNREADABLE} (it does not state its step)")
    try:
        state = CheckpointState.model_validate_json(metadata["state"])
    except ValidationError as error:
        keys, problem = problems_of(error, CheckpointState)[0]
        place = sanitize(".".join(("state", *map(str, keys))))
        raise RunDirectoryError(f"{path}: {_UNREADABLE} ({place}: {problem})") from error
    if state.step > total_steps:
        where = f"step {sanitize(f'{state.step:,}')} of {total_steps:,}"
        raise RunDirectoryError(f"{path}: {_OF_ANOTHER_RUN} ({where})")
    return state


def load_checkpoint(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU.

    Args:
        path: the file.
        expected: tensors like those that this run would save now.

    Raises:
        RunDirectoryError: the file is missing or damaged, or holds others.
    """
    return read_tensors(path, expected, _OF_ANOTHER_RUN, optional=_OF_A_GPU)


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers as flat tensors, the very ones that they use."""
    return {
        f"optimizer.{k}.{i}.{name}": value
        for k, optimizer in enumerate(optimizers)
        for i, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def give_state(optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
    """Gives the optimizers the tensors that they have after so many steps, whatever their numbers.

    They make them in their first step; here in one of no length, which leaves the parameters as they are.
    """
    for optimizer in optimizers:
        optimizer.state.clear()
        if step:
            _take_empty_step(optimizer)


def _take_empty_step(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # the trainer sets it before each step
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def restore_optimizers(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out, once they have their state."""
    for name, value in optimizer_tensors(optimizers).items():
        value.copy_(tensors[name])


def random_tensors() -> dict[str, Tensor]:
    """The random state of the CPU, and that of the GPU where there is one."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Puts back what `random_tensors` took out of the checkpoint at `path`.

    Raises:
        RunDirectoryError: it is not a random state.
    """
    try:
        torch.set_rng_state(tensors["random.cpu"])
        if torch.cuda.is_available() and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
    except RuntimeError as error:
        raise RunDirectoryError(f"{path}: {_UNREADABLE} (its random state is none)") from error
