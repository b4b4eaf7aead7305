"""What docstrings say of functions and their arguments, read line by line.

    | Returns a square.             ◀─ summary
    |
    | Args:
    |     side: length of a side,   ◀─ argument_descriptions
    |         in pixels.

Models, data sources and the recipe are described in no other place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any


def summary(function: Callable[..., Any]) -> str:
    """Returns the first line of a docstring, an empty text where there is none."""
    return (function.__doc__ or "").strip().partition("\n")[0]


def argument_descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Returns what the `Args:` of a docstring say of each argument, on one line without its full stop."""
    lines = list(_section(inspect.getdoc(function) or "", "Args:"))
    descriptions: dict[str, str] = {}
    name = ""
    for line in lines:
        if _indent(line) == _indent(lines[0]):
            name, text = _entry(line)
            descriptions[name] = text
        else:
            descriptions[name] += f" {line}"
    return {name: " ".join(text.split()).removesuffix(".") for name, text in descriptions.items()}


def _section(docstring: str, heading: str) -> Iterator[str]:
    """Yields the lines below a heading that are indented, without empty ones."""
    lines = iter(docstring.split("\n"))
    for line in lines:
        if line == heading:
            break
    for line in lines:
        if line.strip() and not _indent(line):
            return
        if line.strip():
            yield line


def _entry(line: str) -> tuple[str, str]:
    """Returns name and description of `name: description` or `name (type): description`."""
    name, _, text = line.strip().partition(":")
    if " (" in name:
        name, _, text = line.strip().partition(" (")
        text = text.partition("):")[2]
    return name, text


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
