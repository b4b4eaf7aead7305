"""How data sources tell how far a long task is."""

from __future__ import annotations

from collections.abc import Callable

UpdateTask = Callable[[int, int | None], None]
"""Called as `update(so_far, total)`; the total is None where it is unknown."""
StartTask = Callable[[str, str], UpdateTask]
"""Called as `start("packing photos", "images")`, once for each long task; the unit is "bytes" or what is
counted."""


def ignore_progress(so_far: int, total: int | None) -> None:
    """Shows nothing, as an `UpdateTask`."""


def no_progress(what: str, unit: str) -> UpdateTask:
    """Shows nothing, as a `StartTask`."""
    return ignore_progress
