"""The photo service on the loopback: a zip archive with a table of photos, and a server that scales them."""

from __future__ import annotations

import io
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image

HEADER = ("photo_id", "photo_url", "photo_image_url", "photo_width", "photo_height", "photo_description")
PAGE = b"<!doctype html><title>Not here</title><p>This photo has moved."


@dataclass
class PhotoService:
    """Photos by id, each one of the `originals`.

    Attributes:
        originals: image files.
        count: how many photos there are: `photo-0000` and so on.
        faults: by id, what happens at the next requests: an HTTP status, "cut", "page", "stall:SECONDS", or
            "later:WHEN" for a 503 that says when to come back, or "moved:ADDRESS" for a redirect.
        addresses: by id, what the table states in place of the photo's address.
        delay: seconds that every photo takes.
        served: how often a photo was sent whole.
        asked: the queries of the requests for a photo.
        times: when a photo was asked for.
    """

    originals: list[Path]
    count: int
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    address: str = ""
    served: Counter[str] = field(default_factory=Counter)
    asked: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    active: int = 0
    most_active: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ids(self) -> list[str]:
        return [f"photo-{i:04}" for i in range(self.count)]

    @cached_property
    def sizes(self) -> list[tuple[int, int]]:
        sizes = []
        for path in self.originals:
            with Image.open(path) as image:
                sizes.append(image.size)
        return sizes

    def table(self, delimiter: str = "\t") -> str:
        """The table of photos."""
        lines = [delimiter.join(HEADER)]
        for i, identity in enumerate(self.ids):
            url = self.addresses.get(identity, f"{self.address}/{identity}?ixlib=rb-4.0.3")
            width, height = self.sizes[i % len(self.sizes)]
            lines.append(
                delimiter.join((identity, "https://x.org", url, str(width), str(height), '"one,\ttwo"'))
            )
        return "\n".join(lines) + "\n"

    def archive(self, member: str = "photos.tsv000", delimiter: str = "\t") -> bytes:
        """A zip archive with the table, and other files beside it."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.md", "A data set.")
            archive.writestr("keywords.tsv000", "photo_id\tkeyword\n")
            archive.writestr(member, self.table(delimiter))
            archive.writestr("../../escaped.txt", "out of the folder")
        return content.getvalue()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        identity = url.path.strip("/")
        if identity == "archive.zip":
            return _send(handler, self.archive(), "application/zip")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        with self.lock:
            self.asked.setdefault(identity, []).append(query)
            self.times.append(time.monotonic())
            self.active += 1
            self.most_active = max(self.most_active, self.active)
            fault = self.faults[identity].pop(0) if self.faults.get(identity) else None
        try:
            time.sleep(self.delay)
            self._answer_photo(handler, identity, query, fault)
        finally:
            with self.lock:
                self.active -= 1
        return None

    def _answer_photo(
        self, handler: BaseHTTPRequestHandler, identity: str, query: dict[str, str], fault: int | str | None
    ) -> None:
        if isinstance(fault, int):
            return handler.send_error(fault)
        if fault == "page":
            return _send(handler, PAGE, "text/html")
        if fault is not None and fault.startswith("later:"):
            handler.send_response(503)
            handler.send_header("Retry-After", fault.removeprefix("later:"))
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if fault is not None and fault.startswith("moved:"):
            handler.send_response(302)
            handler.send_header("Location", fault.removeprefix("moved:"))
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        if fault is not None and fault.startswith("stall:"):
            time.sleep(float(fault.removeprefix("stall:")))
        number = re.fullmatch(r"photo-(\d{4})", identity)
        if not number or int(number[1]) >= self.count:
            return handler.send_error(404)
        body = self._scaled(int(number[1]), query)
        _send(handler, body, "image/jpeg", body[: len(body) // 2] if fault == "cut" else body)
        if fault is None:
            with self.lock:
                self.served[identity] += 1
        return None

    def _scaled(self, number: int, query: dict[str, str]) -> bytes:
        """As the real server: fitted into w x h, as JPEG of quality q."""
        with Image.open(self.originals[number % len(self.originals)]) as image:
            image.draft("RGB", (int(query["w"]), int(query["h"])))
            scaled = image.convert("RGB")
        scaled.thumbnail((int(query["w"]), int(query["h"])))
        content = io.BytesIO()
        scaled.save(content, {"jpg": "JPEG"}[query["fm"]], quality=int(query["q"]))
        return content.getvalue()


def _send(handler: BaseHTTPRequestHandler, body: bytes, kind: str, part: bytes | None = None) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body if part is None else part)


@contextmanager
def serving_photos(originals: list[Path], count: int) -> Iterator[PhotoService]:
    """A `PhotoService` that answers at its `address` until the block ends."""
    service = PhotoService(originals, count)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):  # a client that was killed, or gave up
                service.answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
