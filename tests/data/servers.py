"""A real HTTP server on the loopback that serves files well and badly."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class FileServer:
    """Serves `files` by path; `faults` maps a path to a list of faults for its next requests.

    A fault is an HTTP status, or "cut" for a body that ends early, or "drip" for one that comes a byte at a
    time, or "redirect:ADDRESS".
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.faults: dict[str, list[int | str]] = {}
        self.requests: list[str] = []
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.requests.append(path)
        fault = self.faults.get(path, []).pop(0) if self.faults.get(path) else None
        if isinstance(fault, int):
            handler.send_error(fault)
        elif isinstance(fault, str) and fault.startswith("redirect:"):
            handler.send_response(302)
            handler.send_header("Location", fault.removeprefix("redirect:"))
            handler.end_headers()
        elif path not in self.files:
            handler.send_error(404)
        else:
            body = self.files[path]
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            if fault == "drip":
                self.drip(handler, body)
            else:
                handler.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def drip(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with suppress(OSError):  # whoever asked has left
            for at in range(len(body)):
                handler.wfile.write(body[at : at + 1])
                time.sleep(0.01)


@contextmanager
def serving(files: dict[str, bytes], secured: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    """A `FileServer` that answers at its `address` until the block ends; over TLS where that is `secured`."""
    state = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if secured:
        server.socket = secured.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.address = f"{'https' if secured else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
