"""Checkpoints: one safetensors file, written new and then swapped in.

    {model.<name>: weights, optimizer.<k>.<i>.<name>: its state, random.<device>: random state}
    + metadata {state: JSON with the step, the clock and the hash of the images}

A checkpoint may come from a stranger, or be damaged: first its state is checked, then its header against
what this run would save at that step; only then a tensor is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from torch import Tensor

from mixcoder.errors import RunDirectoryError
from mixcoder.io.safetensors_file import read_metadata, read_tensors, write_tensors
from mixcoder.registry.problems import first_problem
from mixcoder.text.sanitize import sanitize
from mixcoder.training.clock import TrainingClock
from mixcoder.training.optimizers import init_optimizer_state

_UNREADABLE = "is not a readable checkpoint"
_OF_ANOTHER_RUN = "is not a checkpoint of this run"
_LAST_STEP_COUNTED = 1 << 24
"""Steps, from which on a count in float32 no longer grows."""
_OF_A_GPU = {"random.cuda"}
"""Tensors that a checkpoint holds only where there is a GPU; a run may go on without one, or with one."""


class CheckpointState(BaseModel):
    """Where a run stands, beside its tensors."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    step: NonNegativeInt
    clock: TrainingClock
    data_hash: str | None = None


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: CheckpointState) -> None:
    """Writes tensors and state to one file, atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    write_tensors(path, tensors, {"state": state.model_dump_json()})


def read_state(path: Path, total_steps: int) -> CheckpointState:
    """Returns the state of a checkpoint of a run of `total_steps` steps.

    Raises:
        RunDirectoryError: the file is missing, damaged, or beyond the run's end.
    """
    metadata = read_metadata(path, _UNREADABLE)
    if "state" not in metadata:
        raise RunDirectoryError(f"{path}: {_UNREADABLE} (it does not state its step)")
    try:
        state = CheckpointState.model_validate_json(metadata["state"])
    except ValidationError as error:
        problem = first_problem(error, CheckpointState, "state")
        raise RunDirectoryError(f"{path}: {_UNREADABLE} ({problem})") from error
    if state.step > total_steps:
        where = f"step {sanitize(f'{state.step:,}')} of {total_steps:,}"
        raise RunDirectoryError(f"{path}: {_OF_ANOTHER_RUN} ({where})")
    return state


def check_data(path: Path, state: CheckpointState, data_hash: str) -> None:
    """Checks that a checkpoint is of a run on these images.

    Raises:
        RunDirectoryError: it is of others; says what to do.
    """
    if state.data_hash not in (None, data_hash):
        raise RunDirectoryError(
            f"{path}: was saved by a run on other images ({short_hash(state.data_hash)}, "
            f"now they are {short_hash(data_hash)}); bring those back, or delete {path.parent} to begin anew"
        )


def short_hash(data_hash: str | None) -> str:
    """Returns a hash as it stands in a message."""
    return sanitize(data_hash or "", 12)


def check_step_counts(path: Path, tensors: Mapping[str, Tensor], step: int) -> None:
    """Checks that a checkpoint's optimizers have counted the steps of the run.

    Raises:
        RunDirectoryError: one has not; names the first.
    """
    for name, value in tensors.items():
        if name.startswith("optimizer.") and name.endswith(".step"):
            count = value.item()
            if count != min(step, _LAST_STEP_COUNTED):
                raise RunDirectoryError(f"{path}: {_OF_ANOTHER_RUN} ({name} is {count:g}, not {step})")


def load_checkpoint(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a checkpoint, on the CPU.

    Args:
        path: the file.
        expected: tensors like those that this run would save now.

    Raises:
        RunDirectoryError: the file is missing or damaged, or holds others.
    """
    try:
        return read_tensors(path, expected, _OF_ANOTHER_RUN, optional=_OF_A_GPU)
    except RunDirectoryError as error:
        if f"{_OF_ANOTHER_RUN} (optimizer." not in str(error):
            raise
        hint = f"if an older Mixcoder saved it, delete {path.parent} to begin anew"
        raise RunDirectoryError(f"{error}; {hint}") from error


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Returns the state of the optimizers by name: the very tensors that they use."""
    return {
        f"optimizer.{k}.{i}.{name}": value
        for k, optimizer in enumerate(optimizers)
        for i, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def reset_optimizer_state(optimizers: Sequence[torch.optim.Optimizer], step: int) -> None:
    """Gives the optimizers the tensors that they have after `step` steps, of any values."""
    for optimizer in optimizers:
        optimizer.state.clear()
    if step:
        init_optimizer_state(optimizers)


@contextmanager
def keeping_state(optimizers: Sequence[torch.optim.Optimizer]) -> Iterator[None]:
    """Context that restores the optimizers when it fails."""
    before = [
        (optimizer, dict(optimizer.state), [group["lr"] for group in optimizer.param_groups])
        for optimizer in optimizers
    ]
    try:
        yield
    except BaseException:
        for optimizer, state, rates in before:
            optimizer.state.clear()
            optimizer.state.update(state)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        raise


def restore_optimizers(optimizers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Restores the tensors of `optimizer_tensors` to optimizers that have their state."""
    for name, value in optimizer_tensors(optimizers).items():
        value.copy_(tensors[name])


def random_tensors() -> dict[str, Tensor]:
    """Returns the random state of the CPU, and that of the GPU where there is one."""
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random.cuda"] = torch.cuda.get_rng_state()
    return states


def restore_random(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Restores the tensors of `random_tensors` from the checkpoint at `path`.

    Raises:
        RunDirectoryError: it is not a random state.
    """
    before = torch.get_rng_state()
    try:
        torch.set_rng_state(tensors["random.cpu"])
        if torch.cuda.is_available() and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
    except RuntimeError as error:
        torch.set_rng_state(before)
        raise RunDirectoryError(f"{path}: {_UNREADABLE} (its random state is none)") from error
