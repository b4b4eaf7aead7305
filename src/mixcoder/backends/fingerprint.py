"""A text for what a model computes, found without running it: equal fingerprints, equal computations.

model ─▶ classes, plain attributes, parameters ─▶ text
           └─ anything else: no fingerprint; the model must be traced
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import mixcoder
from mixcoder.torch_private import gradient_has_hooks, has_buffers, module_has_hooks, tensor_version

_OURS = ("mixcoder.", "torch.nn.modules.")
"""Where the classes come from whose computations follow from their attributes and their version."""
_KEPT_APART = {*vars(nn.Module()), "training"}
"""Attributes of every module: parameters and modules, listed apart, and hooks, of which there are none."""
_DEPTH = 4
"""Objects within objects in which changes are looked for."""
_CODE = ("backends", "models", "data/split.py", "device.py", "torch_private.py")
"""Modules and rooms that a step's computation follows from."""


def fingerprint(model: nn.Module) -> str | None:
    """Returns a text of all that the computation of `model` follows from but the values of its parameters.

    None for a model with foreign layers, with hooks, or with attributes that are more than plain values.
    """
    modules = dict(model.named_modules())
    if not all(_is_plain(module) for module in modules.values()):
        return None
    seen: dict[int, int] = {}
    parameters = [
        (name, tuple(p.shape), str(p.dtype), p.requires_grad, seen.setdefault(id(p), len(seen)))
        for name, p in model.named_parameters(remove_duplicate=False)
    ]
    structure = [
        (name, type(m).__module__, type(m).__qualname__, m.training, sorted(_attributes(m).items()))
        for name, m in modules.items()
    ]
    return repr((structure, parameters))


@cache
def code_version() -> str:
    """Returns a digest of this package's code, as far as a step's computation follows from it."""
    root = Path(mixcoder.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(code_files(root)):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def code_files(root: Path) -> Iterator[Path]:
    """Yields the files of the package at `root` that a step's computation follows from."""
    for name in _CODE:
        path = root / name
        files = path.rglob("*.*") if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in (".py", ".cpp", ".h"))


def has_hooks(module: nn.Module | nn.Parameter) -> bool:
    """Returns whether hooks that may change results are called with a module, or with a gradient."""
    return gradient_has_hooks(module) if isinstance(module, nn.Parameter) else module_has_hooks(module)


def python_state(model: nn.Module) -> list[object]:
    """Returns what a model keeps beside parameters and buffers; equal lists where nothing changed it.

    A change deep within objects, or of what a function finds outside of its closure, does not show.
    """
    return [
        (module_name, name, _object_state(value, _DEPTH))
        for module_name, module in model.named_modules()
        for name, value in _attributes(module).items()
    ]


def _object_state(value: object, depth: int) -> object:
    """Returns what shows that a value, or what it holds, has changed."""
    if _is_value(value) or isinstance(value, count):
        return repr(value)
    match value:
        case Tensor():
            return id(value), tensor_version(value)
        case torch.Generator():
            return value.get_state().tolist()
        case random.Random():
            return value.getstate()
        case np.random.Generator():
            return repr(value.bit_generator.state)
    held = [] if depth == 0 else [_object_state(part, depth - 1) for part in _held_by(value)]
    return id(value), held


def _held_by(value: object) -> list[object]:
    """Returns what containers, functions and objects hold; nothing of modules and classes."""
    match value:
        case dict():
            return [*value.keys(), *value.values()]
        case list() | tuple() | deque():
            return [*value]
        case set() | frozenset():
            return sorted(value, key=id)
        case FunctionType():
            return [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        case ModuleType() | type() | nn.Module():
            return []
    return [*getattr(value, "__dict__", {}).values()]


def _is_filled(cell: CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:  # of a function that was defined before what it uses
        return False
    return True


def _is_plain(module: nn.Module) -> bool:
    is_ours = type(module).__module__.startswith(_OURS)
    return is_ours and not has_hooks(module) and not has_buffers(module) and _is_value(_attributes(module))


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _KEPT_APART}


def _is_value(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_value(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_value, value))
    return value is None or isinstance(value, bool | int | float | str)
