"""Output that is not taken any more: a pipe without a reader, a terminal that was closed, a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


@contextmanager
def outliving(name: str, failure: type[OSError]) -> Iterator[None]:
    """In the `with` block, a stream that cannot be written to ends nothing: the rest of it goes nowhere.

    Args:
        name: "stdout" or "stderr".
        failure: which failures; others are raised.
    """
    stream: TextIO = getattr(sys, name)
    spared = _Outliving(stream, failure)
    setattr(sys, name, cast(TextIO, spared))
    try:
        yield
    finally:
        spared.flush()
        setattr(sys, name, stream)


class _Outliving:
    """A stream that after a failure to write takes everything and gives it to nobody."""

    def __init__(self, stream: TextIO, failure: type[OSError]) -> None:
        self._stream = stream
        self._failure = failure

    def write(self, text: str) -> int:
        """Writes what can be written."""
        try:
            self._stream.write(text)
        except self._failure:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        try:
            self._stream.flush()
        except self._failure:
            self._give_up()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):  # a stream without a file
            os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
