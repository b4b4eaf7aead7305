"""How often the runs of a cluster are heard, and how many wait for a place there.

    runs that have a place ─┬▶ seconds between two news of a run
                            ├▶ seconds between two of its checkpoints
                            └▶ runs that wait for a place

With more runs, the machine that hears them hears each less often: its own time is what they share.
"""

from __future__ import annotations

_SHORTEST_NEWS = 1.0
_ANSWERS_A_SECOND = 500
"""Seconds between two news of a run, and how many news of all runs this machine reads in a second."""
_CHECKPOINT_SHARE = 0.5
"""The largest part of this machine's time that checkpoints take."""
_MANY_WAITING = 100
"""The most runs that wait for a place, or as many as have one: an autoscaler sees enough, and a run that was
lost, which comes behind them, waits for no more. `python -m benchmarks.cluster_costs` shows their memory."""


def news_seconds(placed: int) -> float:
    """Returns the seconds between two news of a run."""
    return max(_SHORTEST_NEWS, placed / _ANSWERS_A_SECOND)


def checkpoint_seconds(placed: int, transfer: float) -> float:
    """Returns the seconds until the next checkpoint of a run is fetched.

    Args:
        placed: runs that have a place.
        transfer: seconds that its last checkpoint took.
    """
    return placed * transfer / _CHECKPOINT_SHARE


def most_waiting(placed: int) -> int:
    """Returns how many runs may wait for a place."""
    return max(_MANY_WAITING, placed)
