"""The figures of a long run of a harness, kept in a file: what was interrupted goes on from there.

faults/NAME.json   {…figures…, "is_done": whether the goal was reached}
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mixcoder.io.atomic_file import write_atomically

KEPT = Path(__file__).parents[2] / "faults"
"""Where states and failures lie; git ignores it."""


def read_state(path: Path) -> dict[str, Any] | None:
    """What an interrupted run has left; None where there is none, or it had reached its goal."""
    if not path.exists():
        return None
    state: dict[str, Any] = json.loads(path.read_text())
    return None if state["is_done"] else state


def write_state(path: Path, state: dict[str, Any], is_done: bool) -> None:
    """Keeps the figures, whole or not at all."""
    write_atomically(path, json.dumps({**state, "is_done": is_done}, indent=1).encode())


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Leaves the `with` block at Ctrl-C, or when the process is asked to terminate."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here")
