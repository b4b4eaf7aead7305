"""Connections to checked addresses, with time limits, that a caller can interrupt at once.

    with paced(pace): client ─▶ GuardedNetwork ─ looked up, checked ─▶ address ─▶ Stream ─ in slices ─▶ bytes

The client's own time limits hold for one operation of a socket. Headers, answers that only say "wait" and the
frames of chunks are many small operations, so that a server could keep a client for ever. Here every
operation waits in slices, between which the pace of the answer is looked at.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import httpx2

_SLICE = 0.25
"""Seconds between two checks of a wait whether to end."""
_NO_LIMIT = 3600.0

Address = tuple[int, Any]
"""A family of addresses, and what a socket of that family connects to."""
Result = TypeVar("Result")


class Pace:
    """A time limit of an answer: some seconds to begin with, and more for content that comes.

    Args:
        patience: seconds in the beginning, and the most that there ever are.
        slowest: bytes of content for which there is another second; None where none buys any.
        stopped: set when the caller waits no longer.
    """

    def __init__(self, patience: float, slowest: int | None, stopped: threading.Event | None = None) -> None:
        self._patience = patience
        self._slowest = slowest
        self._stopped = stopped
        self._start = time.monotonic()
        self._end = self._start + patience
        self._received = 0

    def receive(self, count: int) -> None:
        """Notes that `count` bytes of content came."""
        self._received += count
        if self._slowest:
            self._end = min(self._end + count / self._slowest, time.monotonic() + self._patience)
        self.check()

    def is_over(self) -> bool:
        """Returns whether no time is left."""
        return time.monotonic() > self._end

    def check(self) -> None:
        """Raises ReadTimeout when the time is over, and ReadError when the caller waits no longer."""
        if self._stopped and self._stopped.is_set():
            raise httpx2.ReadError("stopped")
        if self.is_over():
            seconds = time.monotonic() - self._start
            raise httpx2.ReadTimeout(f"sent {self._received:,} bytes in {seconds:.0f} seconds")


_current: ContextVar[Pace | None] = ContextVar("pace", default=None)


@contextmanager
def paced(pace: Pace) -> Iterator[Pace]:
    """Makes `pace` hold for all that this thread does on the network during the `with` block."""
    token = _current.set(pace)
    try:
        yield pace
    finally:
        _current.reset(token)


class GuardedNetwork:
    """What a client connects with, in place of its own.

    Args:
        choose: from a host and its addresses to those that it may be connected to.
    """

    def __init__(self, choose: Callable[[str, list[Address]], list[Address]]) -> None:
        self._choose = choose

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[tuple[Any, ...]] | None = None,
    ) -> Stream:
        """Returns a connection to an address of the host that was chosen; its name is not looked up again."""
        failure: OSError = OSError("no address is known")
        for family, address in self._choose(host, look_up(host, port, timeout)):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                _connect(connection, address, timeout)
            except BaseException as error:
                connection.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Stream(connection)
        raise httpx2.ConnectError(failure.strerror or str(failure)) from failure

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Stream:
    """A connection that is open."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return self._in_slices(partial(self._connection.recv, max_bytes), timeout)
        except TimeoutError:
            raise httpx2.ReadTimeout(f"sent nothing for {timeout:.0f} seconds") from None
        except OSError as error:
            raise httpx2.ReadError(error.strerror or str(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                rest = rest[self._in_slices(partial(self._connection.send, rest), timeout) :]
        except TimeoutError:
            raise httpx2.WriteTimeout(f"took nothing for {timeout:.0f} seconds") from None
        except OSError as error:
            raise httpx2.WriteError(error.strerror or str(error)) from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> Stream:
        stream = self
        try:
            secured = ssl_context.wrap_socket(
                self._connection, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            stream = Stream(secured)  # the plain socket is part of it now
            stream._in_slices(secured.do_handshake, timeout)
        except BaseException as error:
            stream.close()
            if isinstance(error, TimeoutError):
                raise httpx2.ConnectTimeout(f"no secure connection within {timeout:.0f} seconds") from None
            if isinstance(error, OSError):
                raise httpx2.ConnectError(error.strerror or str(error)) from error
            raise
        return stream

    def close(self) -> None:
        self._connection.close()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            with suppress(OSError, ValueError):
                return bool(select.select([self._connection], [], [], 0)[0])
            return True
        return {"socket": self._connection}.get(info)

    def _in_slices(self, operation: Callable[[], Result], timeout: float | None) -> Result:
        """Returns the result of an operation; raises TimeoutError after `timeout` seconds."""
        self._connection.settimeout(_SLICE)
        for _ in _slices(timeout):
            with suppress(TimeoutError):
                return operation()
        raise TimeoutError


def look_up(host: str, port: int | None, timeout: float | None = None) -> list[Address]:
    """Returns the addresses of a host; none where nobody here knows it, or nobody says so in time.

    The system's own look-up cannot be interrupted: it goes on in a thread that nobody waits for.
    """
    answers: queue.SimpleQueue[list[Address]] = queue.SimpleQueue()

    def ask() -> None:
        found: list[Address] = []
        with suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [(int(entry[0]), entry[4]) for entry in entries]
        answers.put(found)

    threading.Thread(target=ask, daemon=True).start()
    for _ in _slices(timeout):
        with suppress(queue.Empty):
            return answers.get(timeout=_SLICE)
    return []


def _connect(connection: socket.socket, address: Any, timeout: float | None) -> None:
    """Connects a socket; raises OSError where that fails, or takes longer than `timeout` seconds."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        connection.connect(address)
    for _ in _slices(timeout):
        if select.select([], [connection], [connection], _SLICE)[1]:
            code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            return
    raise OSError("timed out")


def _slices(timeout: float | None) -> Iterator[None]:
    """Goes on for `timeout` seconds; raises what the pace of this thread's answer raises."""
    pace = _current.get()
    end = time.monotonic() + (_NO_LIMIT if timeout is None else timeout)
    while time.monotonic() < end:
        if pace:
            pace.check()
        yield
