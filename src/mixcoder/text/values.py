"""Values as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def format_value(value: Any) -> str:
    """Returns a value as people read it: `1,2` for a list, its name for a map that has one."""
    if isinstance(value, dict):
        return str(value["name"]) if "name" in value else "+".join(map(format_value, value.values()))
    if isinstance(value, list):
        return ",".join(map(format_value, value)) or "none"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_count(number: int) -> str:
    """Returns 1234567 as 1,234,567."""
    return f"{number:,}"


def format_shape(sizes: Sequence[int]) -> str:
    """Returns (16, 4, 4) as 16 x 4 x 4."""
    return " x ".join(map(str, sizes))


def is_number(value: Any) -> bool:
    """Returns whether a value is a number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def strict_json(content: Any) -> Any:
    """Returns plain data that JSON can hold: a number that is not finite becomes None."""
    if isinstance(content, dict):
        return {key: strict_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [strict_json(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
