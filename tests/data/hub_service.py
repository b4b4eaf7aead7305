"""The Hugging Face hub on the loopback: one data set, as much of the protocol as its client needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = hashlib.sha1(b"the only commit", usedforsecurity=False).hexdigest()


class HubService:
    """Serves `files` by path as those of the data set `name`."""

    def __init__(self, name: str, files: dict[str, bytes]) -> None:
        self.name = name
        self.files = files
        self.requests: list[str] = []
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = urlsplit(handler.path).path
        self.requests.append(f"{handler.command} {handler.path}")
        api, resolve = f"/api/datasets/{self.name}", f"/datasets/{self.name}/resolve/"
        if path.startswith(resolve):
            _, _, file = path.removeprefix(resolve).partition("/")
            if file in self.files:
                return self._send_file(handler, self.files[file])
        elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            return _send_json(handler, self._description())
        elif path.startswith(f"{api}/tree/"):
            _, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            return _send_json(handler, self._tree(folder))
        elif path.startswith(f"{api}/paths-info/"):
            return _send_json(handler, [])
        handler.send_response(404)
        code = "EntryNotFound" if path.startswith((resolve, api)) else "RepoNotFound"
        handler.send_header("X-Error-Code", code)
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", "0")
        return handler.end_headers()

    def _description(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "sha": COMMIT,
            "private": False,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 1,
            "likes": 0,
            "siblings": [{"rfilename": file} for file in self.files],
        }

    def _tree(self, folder: str) -> list[dict[str, Any]]:
        """What lies right in `folder`, which is "" for the root."""
        prefix = f"{folder}/" if folder else ""
        below = [file.removeprefix(prefix) for file in self.files if file.startswith(prefix)]
        folders = {file.partition("/")[0] for file in below if "/" in file}
        entries: list[dict[str, Any]] = [
            {"type": "directory", "path": prefix + name, "oid": _oid(name.encode())} for name in folders
        ]
        for file in below:
            if "/" not in file:
                content = self.files[prefix + file]
                entries.append(
                    {"type": "file", "path": prefix + file, "size": len(content), "oid": _oid(content)}
                )
        return entries

    def _send_file(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("ETag", f'"{_oid(content)}"')
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Accept-Ranges", "bytes")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _send_json(handler: BaseHTTPRequestHandler, content: Any) -> None:
    body = json.dumps(content).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def serving_hub(name: str, files: dict[str, bytes]) -> Iterator[HubService]:
    """A `HubService` that answers at its `address` until the block ends."""
    service = HubService(name, files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            service.answer(self)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that the server calls

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    service.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
