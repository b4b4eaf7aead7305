"""Fetches a file: with retries, resumed, bounded, checked, and moved into place only when whole.

    target's folder:  .NAME.part        what has come so far
                      .NAME.part.etag   which state of the file on the server it belongs to

A download that was cut off goes on where the server names its files' states, and begins anew where it does
not.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx2
import stamina

from mixcoder.data.fetch_progress import UpdateTask, ignore_progress
from mixcoder.data.net.addresses import Pace, paced
from mixcoder.data.net.http import (
    REQUEST_ERRORS,
    WrongContentError,
    answer_pace,
    create_client,
    reason_of,
    retry_after,
)
from mixcoder.errors import DataError
from mixcoder.io.file_lock import file_lock

ATTEMPTS = 4
_READ_BYTES = 1 << 20


def download(
    urls: Iterable[str],
    target: Path,
    *,
    checksum: str | None,
    max_bytes: int,
    progress: UpdateTask = ignore_progress,
) -> None:
    """Fetches the first of `urls` that answers well to `target`, which appears only whole and checked.

    Args:
        urls: mirrors of the same file, tried in order; https, or http on the loopback.
        target: the file to make; its folder is made too.
        checksum: the published one, such as "md5:…" or "sha256:…" in hex; None where there is none.
        max_bytes: refuse a longer answer.
        progress: told of the bytes as they come.

    Raises:
        DataError: no mirror brought the file; says what each of them answered.
    """
    failures = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(target)
        with file_lock(target.with_name(f".{target.name}.lock")):  # which stays: another may wait for it
            for url in urls:
                failure = _try_mirror(url, part, checksum, max_bytes, progress)
                if not failure:
                    return
                failures.append(f"{url}: {failure}")
    except OSError as error:
        raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    raise DataError(f"could not fetch {target.name}: {'; '.join(failures)}")


def _try_mirror(url: str, part: _Part, checksum: str | None, max_bytes: int, progress: UpdateTask) -> str:
    """Fetches and checks the file from one mirror; returns why that failed, empty where it did not."""
    try:
        _download_from(url, part, max_bytes, progress)
        check(part.path, checksum)
    except WrongContentError as error:
        part.forget()
        return str(error)
    except REQUEST_ERRORS as error:
        return reason_of(error)
    else:
        part.finish()
        return ""
    finally:
        part.tidy()


class _Part:
    """A partly fetched file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.part")
        self.etag_path = target.with_name(f".{target.name}.part.etag")

    def resume_headers(self) -> dict[str, str]:
        """Returns headers that ask for the rest, if the file on the server is still the same."""
        if not (self.path.exists() and self.etag_path.exists()):
            return {}
        return {"Range": f"bytes={self._size()}-", "If-Range": self.etag_path.read_text("ascii")}

    def open(self, response: httpx2.Response) -> BinaryIO:
        """Returns the part to write to: at its end where the answer goes on from there, else empty."""
        start = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if response.status_code == 206 and start and start[1] == str(self._size()):
            return self.path.open("ab")
        if response.status_code != 200:
            self.forget()
            raise httpx2.RemoteProtocolError(f"answered {response.status_code} to a request for the rest")
        etag = response.headers.get("ETag", "")
        if etag.isascii() and etag.startswith('"'):  # a strong one
            self.etag_path.write_text(etag, "ascii")
        else:
            self.etag_path.unlink(missing_ok=True)
        return self.path.open("wb")

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
        self.etag_path.unlink(missing_ok=True)

    def finish(self) -> None:
        self.path.replace(self.target)
        self.etag_path.unlink(missing_ok=True)

    def _size(self) -> int | None:
        return self.path.stat().st_size if self.path.exists() else None

    def tidy(self) -> None:
        """Removes what nothing could go on from."""
        if not self.etag_path.exists():
            self.forget()


def _download_from(url: str, part: _Part, max_bytes: int, progress: UpdateTask) -> None:
    for attempt in stamina.retry_context(on=retry_after, attempts=ATTEMPTS, timeout=None):
        with (
            attempt,
            paced(answer_pace()) as pace,
            create_client([httpx2.URL(url).host]) as client,
            client.stream("GET", url, headers=part.resume_headers()) as response,
        ):
            if response.status_code == 416:  # the part is longer than the file
                part.forget()
                raise httpx2.RemoteProtocolError("has no such range")
            response.raise_for_status()
            with part.open(response) as file:
                for chunk in _bounded(response, pace, file.tell(), max_bytes, progress):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())


def _bounded(
    response: httpx2.Response, pace: Pace, start: int, max_bytes: int, progress: UpdateTask
) -> Iterator[bytes]:
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    received = start
    for chunk in response.iter_raw():
        pace.receive(len(chunk))
        received += len(chunk)
        if max(received, total or 0) > max_bytes:
            raise WrongContentError(f"is longer than the {max_bytes:,} bytes to expect")
        progress(received, total)
        yield chunk


def check(path: Path, checksum: str | None) -> None:
    """Compares a file with a published checksum, where there is one.

    Raises:
        WrongContentError: they differ.
    """
    if checksum is None:
        return
    algorithm, _, published = checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != published.lower():
        name = algorithm.upper().replace("SHA", "SHA-")
        raise WrongContentError(f"its {name} is {digest.hexdigest()}, the published one {published}")
