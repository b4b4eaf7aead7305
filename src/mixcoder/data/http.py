"""How we speak to servers: safely, patiently, politely."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from mixcoder import __version__

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
LONGEST_WAIT = 60.0
"""Seconds that a server may ask us to wait; one that asks for more is taken to have failed."""

REQUEST_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)
"""What a request may raise; the last is of hosts whose names cannot be encoded, such as `a_b.xn--p1ai`."""


class WrongContentError(Exception):
    """The server answered, but not with what was asked for."""


def create_client(connections: int = 1, timeout: httpx2.Timeout = TIMEOUT) -> httpx2.Client:
    """A client that follows redirects, but goes to nothing but https and the loopback."""
    return httpx2.Client(
        timeout=timeout,
        follow_redirects=True,
        event_hooks={"request": [_refuse_unsafe_request]},
        headers={"User-Agent": f"mixcoder/{__version__}"},
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
    )


def retry_after(error: Exception) -> bool | float:
    """Whether to try again after `error`: no, yes, or after how many seconds, where the server said it."""
    if isinstance(error, httpx2.HTTPStatusError):
        if error.response.status_code != 429 and error.response.status_code < 500:
            return False
        wanted = _wanted_wait(error.response.headers.get("Retry-After"))
        return True if wanted is None else wanted if wanted <= LONGEST_WAIT else False
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)


def reason_of(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    return str(error) or type(error).__name__


def _wanted_wait(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date; None where it holds neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


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
