"""Times as people write them."""

from __future__ import annotations


def format_duration(minutes: float) -> str:
    """Returns minutes as 20 s, 12 min, 3 h 05 min or 2 d 4 h: to about a hundredth, no finer than that."""
    seconds = round(minutes * 60)
    if seconds < 1:
        return f"{minutes * 60:.1g} s"
    if seconds < 100:
        return f"{seconds} s"
    whole = round(minutes)
    if whole < 100:
        return f"{whole} min"
    hours, rest = divmod(whole, 60)
    if hours < 48:
        return f"{hours} h {rest:02d} min"
    return f"{round(minutes / 60) // 24} d {round(minutes / 60) % 24} h"


def format_clock(seconds: float) -> str:
    """Returns seconds as 3:05 for minutes and seconds, 12:03:05 with hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
