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

import mixcoder

_OURS = ("mixcoder.", "torch.nn.modules.")
"""Whose classes compute what their attributes and their version say."""
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


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after the module itself that may change what it computes."""
    return any(value for name, value in vars(module).items() if name.endswith("_hooks"))


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
