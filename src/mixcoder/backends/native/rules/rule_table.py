"""The table from a function of torch to the rule that makes nodes of it.

A rule takes what the function takes, with a `Node` for each tensor of float32; other tensors, such as masks
and indices, come as they are. It returns nodes, or whatever the function would. A parameter that a rule lacks
is an argument that native steps do not support.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mixcoder.backends.step import UnsupportedError

RuleFunction = TypeVar("RuleFunction", bound=Callable[..., Any])

RULES: dict[object, Callable[..., Any]] = {}
"""A rule for each function object; for a property, its getter."""

REFUSED: dict[object, str] = {}
"""Why a function has no rule."""
MISSING: list[str] = []
"""Names that this version of torch does not have; empty with the versions that are tested."""
TRACED: dict[object, Callable[..., Any]] = {}
"""For a function made of functions, which has no rule: takes the tracer, then the function's arguments."""

_SPACES: dict[str, object] = {
    "torch": torch,
    "torch.Tensor": Tensor,
    "torch.nn.functional": F,
    "torch.autograd": torch.autograd,
    "torch.linalg": torch.linalg,
    "torch.special": torch.special,
}
_SAME_MEANING = ("torch", "torch.Tensor", "torch.nn.functional")
_SPACE = re.compile(r"^torch\.(Tensor\.|nn\.functional\.)?")
_names: dict[object, str] = {}


def rule(*functions: str | Callable[..., Any]) -> Callable[[RuleFunction], RuleFunction]:
    """Registers the decorated rule for functions.

    Args:
        functions: themselves; or names: "relu" stands for torch.relu, torch.nn.functional.relu and the method
            of tensors, "linalg.norm" for torch.linalg.norm alone.
    """

    def register(made: RuleFunction) -> RuleFunction:
        for function in functions:
            if not isinstance(function, str):
                RULES[function] = made
                _names[function] = f"{function.__module__}.{function.__qualname__}"
                continue
            for name, found in _called(function):
                RULES[found] = made
                _names.setdefault(found, name)
        return made

    return register


def refuse(reason: str, *names: str) -> None:
    """Registers why functions have no rule."""
    for name in names:
        REFUSED.update((function, reason) for _, function in _called(name))


def native_functions() -> dict[str, list[str]]:
    """Returns the names of all functions of torch that have a rule, under what the rules of a module are of.

    A name stands for the function, that of `torch.nn.functional` and the method alike.
    """
    found: dict[str, set[str]] = {}
    for function, name in _names.items():
        module = sys.modules[RULES[function].__module__]
        heading = (module.__doc__ or "").splitlines()[0].removeprefix("Rules of ").removesuffix(".")
        short = _SPACE.sub("", name)
        if name.startswith("torch") and not short.startswith("_"):
            found.setdefault(heading, set()).add(short)
    return {heading: sorted(names) for heading, names in sorted(found.items())}


def rules_markdown() -> str:
    """Returns a table of the functions that have a rule."""
    rows = [
        f"| {heading} | {', '.join(f'`{name}`' for name in names)} |"
        for heading, names in native_functions().items()
    ]
    return "\n".join(["| rules of | functions |", "|---|---|", *rows])


def _called(name: str) -> Iterator[tuple[str, object]]:
    """Yields the functions of torch that have a name: "relu" of three modules, "linalg.norm" of one."""
    module, _, short = f"torch.{name}".rpartition(".")
    count = 0
    for space in [module] if module != "torch" else _SAME_MEANING:
        found: Any = getattr(_SPACES[space], short, None)
        if not isinstance(found, type) and (callable(found) or hasattr(found, "__get__")):
            count += 1
            yield f"{space}.{short}", found if callable(found) else found.__get__
    if not count:
        MISSING.append(name)


def settings_of(
    defaults: Mapping[str, Any], given: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns settings of a function with many, given in their order or by name.

    Raises:
        UnsupportedError: one is unknown.
    """
    unknown = sorted(set(named) - set(defaults))
    check(not unknown and len(given) <= len(defaults), f"settings {', '.join(unknown) or 'beyond the known'}")
    return {**defaults, **dict(zip(defaults, given, strict=False)), **named}


def check(is_supported: bool, problem: str) -> None:
    """Checks that a rule can do what is asked.

    Raises:
        UnsupportedError: it cannot; says the problem.
    """
    if not is_supported:
        raise UnsupportedError(problem)
