"""A text for what a model computes, found without running it: equal fingerprints, equal computations.

model ─▶ classes, plain attributes, parameters ─▶ text
           └─ anything else: no fingerprint; the model must be traced
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

import mixcoder
from mixcoder.torch_private import gradient_has_hooks, has_buffers, module_has_hooks

_OURS = ("mixcoder.", "torch.nn.modules.")
"""Where the classes come from whose computations follow from their attributes and their version."""
_KEPT_APART = {*vars(nn.Module()), "training"}
"""Attributes of every module: parameters and modules, listed apart, and hooks, of which there are none."""
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
    """Returns what a model keeps beside parameters and buffers; equal lists where nothing changed it."""
    return [
        (module_name, name, repr(value) if _is_value(value) else id(value))
        for module_name, module in model.named_modules()
        for name, value in _attributes(module).items()
    ]


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
