"""Checkpoints: one safetensors file, written new and then swapped in.

{model.<name>: weights, optimizer.<k>.<i>.<name>: its state, random.<device>: random state}
+ metadata {state: JSON with the step, the clock and the optimizers' settings}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mixcoder.atomic_file import write_atomically
from mixcoder.errors import RunDirectoryError


def save_checkpoint(path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Writes tensors and a JSON-able state to one file, atomically.

    Raises:
        WriteError: the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, metadata={"state": json.dumps(state)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the state of a checkpoint.

    Raises:
        RunDirectoryError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunDirectoryError(f"{path}: is not a readable checkpoint ({error})") from error
    return tensors, state


def optimizer_tensors(optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers as flat tensors."""
    return {
        f"optimizer.{k}.{i}.{name}": value
        for k, optimizer in enumerate(optimizers)
        for i, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
        if isinstance(value, Tensor)
    }


def restore_optimizers(optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Puts back what `optimizer_tensors` took out."""
    for k, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition(".")
            if kind == "optimizer" and rest.startswith(f"{k}."):
                _, index, name = rest.split(".", 2)
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
