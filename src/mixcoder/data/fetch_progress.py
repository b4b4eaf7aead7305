"""How data sources tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called as `progress(so_far, in_all_or_None)`."""
StartProgress = Callable[[str, str], Progress]
"""Called as `start("packing photos", "images")`, once for each thing that takes its time; the unit is "bytes"
or what is counted."""


def no_progress(what: str, unit: str) -> Progress:
    """A `StartProgress` that shows nothing."""
    return lambda so_far, in_all: None
