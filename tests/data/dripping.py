"""A server on the loopback that never comes to an end, in every way that HTTP knows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

START = b"HTTP/1.1 200 OK\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
WAYS: dict[str, tuple[bytes, bytes]] = {
    "nothing at all": (b"", b""),
    "the first line": (b"", b"H"),
    "a header": (START + b"X-Name: ", b"x"),
    "headers": (START, b"X-Name: x\r\n"),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "answers that say to wait": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a body": (START + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "a body without a length": (START + b"\r\n", b"x"),
    "the length of a chunk": (CHUNKED, b"0"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "chunks with long extensions": (CHUNKED, b"1;" + b"x" * 200 + b"\r\ny\r\n"),
    "trailers": (CHUNKED + b"1\r\ny\r\n0\r\n", b"X-Name: x\r\n"),
}
"""What is sent first, and what then, again and again."""
_PAUSE = 0.02


class DrippingServer:
    """Answers everybody in one of the `WAYS`, until the block of `dripping` ends."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.requests = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.ended = Event()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        first, again = WAYS[self.way]
        with suppress(OSError), connection:
            connection.recv(65_536)
            self.requests += 1
            connection.sendall(first)
            while not self.ended.wait(_PAUSE):
                connection.sendall(again)


@contextmanager
def dripping(way: str) -> Iterator[DrippingServer]:
    server = DrippingServer(way)
    thread = Thread(target=server.accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join()
