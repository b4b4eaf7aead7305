"""What people mean by values that are nearly right: a number `10k`, `20,000` or `2e4`, a list `32,32`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from mixcoder.text.sanitize import sanitize

_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000, "b": 1_000_000_000}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)\s*([kKmMgGbB]?)")
_GROUPED = re.compile(r"[0-9]{1,3}([,' .][0-9]{3})+")
_WORD = re.compile(r"[A-Za-z0-9_.+-]+")
_LONGEST = 60


def meant_number(value: Any) -> str:
    """Returns which whole number is meant, to be added to a message; empty where none is."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return f"; did you mean {int(value):_}?"
    if not isinstance(value, str) or len(value) > _LONGEST:
        return ""
    text = value.strip()
    if _GROUPED.fullmatch(text):
        return f"; did you mean {int(re.sub('[^0-9]', '', text)):_}?"
    match = _NUMBER.fullmatch(text)
    number = float(match[1]) * _FACTORS[match[2].lower()] if match else 0.5
    return f"; did you mean {int(number):_}?" if number.is_integer() else ""


def meant_list(value: Any) -> str:
    """Returns which list is meant by a text or one value, to be added to a message; empty where none is."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > _LONGEST:
        return ""
    parts = [part.strip() for part in str(value).strip("()[] ").split(",")]
    if not all(_WORD.fullmatch(part) for part in parts):
        return ""
    return f"; did you mean [{', '.join(parts)}]?"


def meant_names(value: str, key: str, known: Collection[str]) -> str:
    """Returns how to try several names, where a text lists some; empty where it does not."""
    parts = [part.strip() for part in value.split(",")]
    if len(parts) < 2 or not all(part in known for part in parts):
        return ""
    names = sanitize(", ".join(parts), 200)
    return f"; to try each, state matrix: {{{key}: [{names}]}} and {key}: ${{{key}}}"
