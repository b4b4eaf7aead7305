"""Values as text."""

from __future__ import annotations

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
