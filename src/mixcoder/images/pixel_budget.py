"""How many pixels are decoded at a time, by all threads together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """So many pixels, to be taken by threads and given back.

    Args:
        pixels: how many there are; whoever wants more takes them all, and so works alone.
    """

    def __init__(self, pixels: int) -> None:
        self._all = pixels
        self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until so many pixels are left, and keeps them during the `with` block."""
        share = min(pixels, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()
