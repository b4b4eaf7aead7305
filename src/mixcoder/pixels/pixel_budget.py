"""A limit of the pixels that all threads together decode at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """A number of pixels that threads take and give back.

    Args:
        pixels: how many there are; a thread that wants more takes all, and so works alone.
    """

    def __init__(self, pixels: int) -> None:
        self._all = pixels
        self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Waits until so many pixels are left, and keeps them during the `with` block."""
        taken = min(pixels, self._all)
        with self._changed:
            while self._left < taken:
                self._changed.wait()
            self._left -= taken
        try:
            yield
        finally:
            with self._changed:
                self._left += taken
                self._changed.notify_all()
