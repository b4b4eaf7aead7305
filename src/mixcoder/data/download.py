"""Fetches files: with retries, bounded, checked, and moved into place only when whole."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import httpx2
import stamina

from mixcoder.data.progress import Progress
from mixcoder.errors import DataError

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
ATTEMPTS = 4


def download(
    urls: Iterable[str], target: Path, *, md5: str, max_bytes: int, progress: Progress | None = None
) -> None:
    """Fetches the first of `urls` that answers well to `target`, which appears only whole and checked.

    Args:
        urls: mirrors of the same file, tried in order; https, or http on the loopback.
        target: the file to make; its folder is made too.
        md5: the published checksum (hex).
        max_bytes: refuse a longer answer.
        progress: told of the bytes as they come.

    Raises:
        DataError: no mirror brought the file; says what each of them answered.
    """
    failures = []
    for url in urls:
        try:
            _download_from(url, target, md5, max_bytes, progress)
            return
        except _WrongContentError as error:
            failures.append(f"{url}: {error}")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            failures.append(f"{url}: {_reason(error)}")
        except OSError as error:
            raise DataError(f"cannot write {target}: {error.strerror or error}") from error
    raise DataError(f"could not fetch {target.name}: {'; '.join(failures)}")


class _WrongContentError(Exception):
    """The server answered, but not with the file."""


def _download_from(url: str, target: Path, md5: str, max_bytes: int, progress: Progress | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for attempt in stamina.retry_context(on=_is_worth_retrying, attempts=ATTEMPTS, timeout=300):
                with attempt:
                    file.seek(0)
                    file.truncate()
                    digest = hashlib.md5(usedforsecurity=False)
                    for chunk in _chunks(url, max_bytes, progress):
                        digest.update(chunk)
                        file.write(chunk)
            if digest.hexdigest() != md5:
                raise _WrongContentError(f"its MD5 is {digest.hexdigest()}, the published one {md5}")
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _chunks(url: str, max_bytes: int, progress: Progress | None) -> Iterable[bytes]:
    hooks = {"request": [_refuse_unsafe_request]}
    with (
        httpx2.Client(timeout=TIMEOUT, follow_redirects=True, event_hooks=hooks) as client,
        client.stream("GET", url) as response,
    ):
        response.raise_for_status()
        expected = response.headers.get("Content-Length")
        received = 0
        for chunk in response.iter_raw():
            received += len(chunk)
            if received > max_bytes:
                raise _WrongContentError(f"is longer than the {max_bytes:,} bytes to expect")
            if progress:
                progress(received, int(expected) if expected and expected.isdigit() else None)
            yield chunk


def _refuse_unsafe_request(request: httpx2.Request) -> None:
    """Runs before every request, those of redirects included."""
    if request.url.scheme == "https" or _is_loopback(request.url.host):
        return
    raise httpx2.UnsupportedProtocol(f"{request.url} is not https", request=request)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_worth_retrying(error: Exception) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}"
    return str(error) or type(error).__name__
