"""Output that cannot be written any more: a pipe without a reader, a closed terminal, a full disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


@contextmanager
def ignore_failures(name: str, failure: type[OSError]) -> Iterator[None]:
    """Context in which a stream that cannot be written to raises no error: the rest of its text is dropped.

    Args:
        name: "stdout" or "stderr".
        failure: the errors to ignore; others are raised.
    """
    stream: TextIO = getattr(sys, name)
    tolerant = _TolerantStream(stream, failure)
    setattr(sys, name, cast(TextIO, tolerant))
    try:
        yield
    finally:
        tolerant.flush()
        setattr(sys, name, stream)


class _TolerantStream:
    """A stream that drops all text after a failure to write."""

    def __init__(self, stream: TextIO, failure: type[OSError]) -> None:
        self._stream = stream
        self._failure = failure

    def write(self, text: str) -> int:
        """Writes to the stream, until that fails."""
        try:
            self._stream.write(text)
        except self._failure:
            self._redirect_to_null()
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, until that fails."""
        try:
            self._stream.flush()
        except self._failure:
            self._redirect_to_null()

    def _redirect_to_null(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError):  # a stream without a file
            os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
