"""How we speak to servers: safely, patiently, politely.

    address ─▶ https, or on the loopback? ─▶ looked up ─▶ a trusted host, or a public address? ─▶ connected to

Hosts that a user named are trusted. Any other, be it of a redirect or of a list that was fetched, must have
public addresses alone, so that none leads into the user's own network. What was checked is what is connected
to: a name is not looked up again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

import httpx2

from mixcoder import __version__
from mixcoder.data.net.addresses import Address, GuardedNetwork, Pace, look_up
from mixcoder.text.sanitize import sanitize

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
LONGEST_WAIT = 60.0
"""Seconds that a server may ask us to wait; one that asks for more is taken to have failed."""

SLOWEST = 1024
"""Bytes of content a second; a server that sends fewer is taken to have failed."""
PATIENCE = 60.0
"""Seconds that a server may be slower, also before the first byte of content."""
_MOST_REDIRECTS = 5

REQUEST_ERRORS = (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError)
"""What a request may raise; the last is of hosts whose names cannot be encoded, such as `a_b.xn--p1ai`."""


class WrongContentError(Exception):
    """An answer of a server that is not what was asked for."""


def create_client(
    trusted: Iterable[str] = (), connections: int = 1, timeout: httpx2.Timeout = TIMEOUT
) -> httpx2.Client:
    """Returns a client for nothing but https and the loopback, whom no server sends to a private address.

    Args:
        trusted: hosts that may have any address; where one is the loopback, any name of the loopback may.
        connections: how many there are at a time.
        timeout: for one operation of a connection; a `Pace` holds for an answer.
    """
    hosts = frozenset(trusted)
    client = httpx2.Client(
        timeout=timeout,
        follow_redirects=True,
        max_redirects=_MOST_REDIRECTS,
        event_hooks={"request": [partial(_check_request, trusted=hosts)]},
        headers={"User-Agent": f"mixcoder/{__version__}", "Accept-Encoding": "identity"},
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
    )
    _connect_through(client._transport, GuardedNetwork(partial(_check_addresses, trusted=hosts)))
    for proxy in filter(None, client._mounts.values()):  # which looks names up itself
        _connect_through(proxy, GuardedNetwork(_unchecked))
    return client


def _unchecked(host: str, found: list[Address]) -> list[Address]:
    return found


def _connect_through(transport: httpx2.BaseTransport, network: GuardedNetwork) -> None:
    """Makes a transport connect by `network`, for which the library has no public argument."""
    assert isinstance(transport, httpx2.HTTPTransport)
    assert hasattr(transport._pool, "_network_backend")
    transport._pool._network_backend = network  # type: ignore[assignment]


def retry_after(error: Exception) -> bool | float:
    """Returns whether to try again after `error`: no, yes, or after as many seconds as the server said."""
    if isinstance(error, httpx2.HTTPStatusError):
        if error.response.status_code != 429 and error.response.status_code < 500:
            return False
        wanted = _wanted_wait(error.response.headers.get("Retry-After"))
        return True if wanted is None else wanted if wanted <= LONGEST_WAIT else False
    return isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol)


def answer_pace() -> Pace:
    """Returns that of an answer of any length, which must come at `SLOWEST` or faster."""
    return Pace(PATIENCE, SLOWEST)


def reason_of(error: Exception) -> str:
    """Returns an error in a few words."""
    if isinstance(error, httpx2.HTTPStatusError):
        return f"HTTP {error.response.status_code} {error.response.reason_phrase}".strip()
    return str(error) or type(error).__name__


def _wanted_wait(header: str | None) -> float | None:
    """Returns the seconds of a Retry-After header, a number or a date; None where the header is neither."""
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


def _check_request(request: httpx2.Request, trusted: frozenset[str]) -> None:
    """Checks a request, also those of redirects, before it is sent: a proxy may look the name up."""
    url = request.url
    if not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(url.host))):
        raise httpx2.UnsupportedProtocol(f"{sanitize(str(url), 200)} is not https", request=request)
    if not _is_trusted(url.host, trusted):
        _check_addresses(url.host, look_up(url.host, url.port, TIMEOUT.connect), trusted)


def _check_addresses(host: str, found: list[Address], trusted: frozenset[str]) -> list[Address]:
    """Returns the addresses of a host that is trusted, or is in the public network.

    Raises:
        WrongContentError: an address is not public.
    """
    if not _is_trusted(host, trusted):
        for _, address in found:
            number = ipaddress.ip_address(str(address[0]).partition("%")[0])
            if not _is_public(number):
                raise WrongContentError(
                    f"leads to {sanitize(host, 100)}, whose address {number} is not public"
                )
    return found


def _is_trusted(host: str, trusted: frozenset[str]) -> bool:
    return host in trusted or (_is_loopback(host) and any(map(_is_loopback, trusted)))


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return _is_public(address.ipv4_mapped)
    return address.is_global and not address.is_multicast


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
