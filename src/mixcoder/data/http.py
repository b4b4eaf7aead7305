"""How we speak to servers: safely, patiently, politely.

    address ─▶ https, or on the loopback? ─▶ answer ─▶ elsewhere? ─ a public host, or this one ─▶ address

Names are looked up before a redirect is followed, so that none leads into the user's own network.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from mixcoder import __version__
from mixcoder.safe_text import sanitize

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
LONGEST_WAIT = 60.0
"""Seconds that a server may ask us to wait; one that asks for more is taken to have failed."""

SLOWEST = 1024
"""Bytes a second; a server that sends fewer is taken to have failed."""
PATIENCE = 60.0
"""Seconds over which that is measured."""
_MOST_REDIRECTS = 5

REQUEST_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)
"""What a request may raise; the last is of hosts whose names cannot be encoded, such as `a_b.xn--p1ai`."""


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WrongContentError(Exception):
    """The server answered, but not with what was asked for."""


def create_client(connections: int = 1, timeout: httpx2.Timeout = TIMEOUT) -> httpx2.Client:
    """A client for nothing but https and the loopback, whom no server sends to a private address."""
    return httpx2.Client(
        timeout=timeout,
        follow_redirects=True,
        max_redirects=_MOST_REDIRECTS,
        event_hooks={"request": [_refuse_unsafe_request], "response": [_refuse_unsafe_redirect]},
        headers={"User-Agent": f"mixcoder/{__version__}", "Accept-Encoding": "identity"},
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


def refuse_dripping(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Passes on what comes, for as long as it comes at `SLOWEST` or faster.

    Raises:
        ReadTimeout: too little came in the last `PATIENCE` seconds.
    """
    start, received = time.monotonic(), 0
    for chunk in chunks:
        received += len(chunk)
        seconds = time.monotonic() - start
        if seconds >= PATIENCE:
            if received < SLOWEST * seconds:
                raise httpx2.ReadTimeout(f"sent {received:,} bytes in {seconds:.0f} seconds")
            start, received = time.monotonic(), 0
        yield chunk


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
    if not _is_safe(request.url):
        raise httpx2.UnsupportedProtocol(f"{sanitize(str(request.url), 200)} is not https", request=request)


def _refuse_unsafe_redirect(response: httpx2.Response) -> None:
    """Runs before every redirect is followed."""
    if not response.has_redirect_location:
        return
    here = response.request.url
    there = here.join(response.headers["Location"])
    stays = there.host == here.host or (_is_loopback(here.host) and _is_loopback(there.host))
    if stays or not _is_safe(there):  # which is refused as a request
        return
    private = [str(address) for address in _addresses(there.host) if not _is_public(address)]
    if private:
        address = sanitize(str(there), 200)
        raise WrongContentError(f"redirects to {address}, whose address {private[0]} is not public")


def _is_safe(url: httpx2.URL) -> bool:
    return url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))


def _addresses(host: str) -> list[Address]:
    """The addresses of a host; none where nobody here knows it."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return _is_public(address.ipv4_mapped)
    return address.is_global and not address.is_multicast


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
