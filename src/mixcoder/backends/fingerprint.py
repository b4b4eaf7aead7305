"""What a model computes, told without running it: equal fingerprints, equal computations.

model ─▶ classes, plain attributes, parameters ─▶ text
           └─ anything else: no fingerprint, and whoever asked must run the model to know
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules import module as all_modules

import mixcoder

_OURS = ("mixcoder.", "torch.nn.modules.")
"""Whose classes compute what their attributes and their version say."""
_GLOBAL_HOOKS = ("forward_pre", "forward", "backward_pre", "backward")
_KEPT_APART = {*vars(nn.Module()), "training"}
"""Of every module: parameters and modules, told by themselves, and hooks, of which there must be none."""


def fingerprint(model: nn.Module) -> str | None:
    """A text that says all that the computation of `model` follows from, but the values of its parameters.

    None for a model with layers of others, with hooks, or with attributes that are more than plain values.
    """
    modules = dict(model.named_modules())
    if not all(_is_plain(module) for module in modules.values()):
        return None
    seen: dict[int, int] = {}
    parameters = [
        (name, tuple(it.shape), str(it.dtype), it.requires_grad, seen.setdefault(id(it), len(seen)))
        for name, it in model.named_parameters(remove_duplicate=False)
    ]
    structure = [
        (name, type(it).__module__, type(it).__qualname__, it.training, sorted(_attributes(it).items()))
        for name, it in modules.items()
    ]
    return repr((structure, parameters))


@cache
def code_version() -> str:
    """A digest of this package's own code."""
    root = Path(mixcoder.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


def has_hooks(it: nn.Module | nn.Parameter) -> bool:
    """Whether something is called before or after a module, or with a gradient, that may change results."""
    if isinstance(it, nn.Parameter):
        return bool(it._backward_hooks)
    names = (name for name in vars(it) if name.endswith("_hooks") and "state_dict" not in name)
    return any(getattr(it, name) for name in names)


def has_global_hooks() -> bool:
    """Whether something is called before or after every module of this process."""
    return any(getattr(all_modules, f"_global_{name}_hooks") for name in _GLOBAL_HOOKS)


def python_state(model: nn.Module) -> list[object]:
    """What the modules of a model keep beside parameters and buffers; equal as long as nothing changes it."""
    return [
        (module_name, name, repr(value) if _is_value(value) else id(value))
        for module_name, module in model.named_modules()
        for name, value in _attributes(module).items()
    ]


def _is_plain(module: nn.Module) -> bool:
    ours = type(module).__module__.startswith(_OURS)
    return ours and not has_hooks(module) and not module._buffers and _is_value(_attributes(module))


def _attributes(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _KEPT_APART}


def _is_value(it: Any) -> bool:
    if isinstance(it, dict):
        return all(isinstance(key, str) and _is_value(value) for key, value in it.items())
    if isinstance(it, list | tuple):
        return all(map(_is_value, it))
    return it is None or isinstance(it, bool | int | float | str)
