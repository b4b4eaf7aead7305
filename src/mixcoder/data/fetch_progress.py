"""How data sources tell how far a long task is."""

from __future__ import annotations

from collections.abc import Callable

UpdateTask = Callable[[int, int | None], None]
"""Called as `update(so_far, total)`; the total is None where it is unknown."""
StartTask = Callable[[str, str], UpdateTask]
"""Called as `start("packing photos", "images")`, once for each long task; the unit is "bytes" or what is
counted."""


def no_progress(what: str, unit: str) -> UpdateTask:
    """A `StartTask` that shows nothing."""
    return lambda so_far, total: None
