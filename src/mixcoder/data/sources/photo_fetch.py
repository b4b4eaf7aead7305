"""Fetches many photos, several at a time, from servers that scale them.

Photo, … ─▶ threads: request(w, h) ─▶ checked as an image ─▶ <folder>/<id>.jpg, whole or not there
│ again and again, as the server wishes
└─ given up ─▶ why
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count, islice
from pathlib import Path

import httpx2

from mixcoder.data.fetch_progress import UpdateTask
from mixcoder.data.net.addresses import Pace, paced
from mixcoder.data.net.http import REQUEST_ERRORS, WrongContentError, create_client, reason_of, retry_after
from mixcoder.data.sources.photo_list import Photo
from mixcoder.errors import DataError
from mixcoder.io.atomic_file import write_atomically
from mixcoder.pixels.codec import Fit, ImageError, decode_bytes

CONNECTIONS = 16
ATTEMPTS = 5
TIMEOUT = httpx2.Timeout(10.0)
_LONGEST_ANSWER = 60.0
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 10.0
"""Seconds before a photo is asked for again; each wait is twice the one before."""
_MAX_BYTES = 20 * 2**20
_QUALITY = 90
_UNKNOWN_EDGE = 320
_HOPELESS = 100
"""So many photos one after the other that no server brought: there is no network."""


def photo_path(folder: Path, photo: Photo) -> Path:
    """Returns where a fetched photo is."""
    return folder / f"{photo.id}.jpg"


def fetch_photos(
    photos: Sequence[Photo], folder: Path, fit: Fit, trusted: Sequence[str], progress: UpdateTask
) -> dict[str, str]:
    """Fetches the photos that are not in `folder` yet; each appears there whole or not at all.

    Args:
        photos: what to fetch, in this order.
        folder: where to.
        fit: how large they are asked for.
        trusted: hosts that may have addresses that are not public.
        progress: told of the photos that are there or given up.

    Returns:
        The ids of the photos that could not be had, and why.

    Raises:
        DataError: nothing can be reached.
        WriteError: a photo cannot be written.
    """
    missing = [photo for photo in photos if not photo_path(folder, photo).exists()]
    there = len(photos) - len(missing)
    progress(there, len(photos))
    with create_client(trusted, CONNECTIONS, TIMEOUT) as client, ThreadPoolExecutor(CONNECTIONS) as pool:
        fetcher = _Fetcher(client, folder, fit)
        try:
            return _failures(fetcher.run(pool, missing), there, len(photos), progress)
        finally:
            fetcher.is_stopped.set()
            pool.shutdown(cancel_futures=True)


Outcome = tuple[Photo, str, bool]
"""The photo, why it could not be had ("" where it was), and whether its server was reached."""


def _failures(outcomes: Iterable[Outcome], there: int, total: int, progress: UpdateTask) -> dict[str, str]:
    """Returns the ids of the photos that could not be had, and why; gives up where there is no network."""
    failures: dict[str, str] = {}
    unreached = 0
    for done, (photo, failure, is_reached) in enumerate(outcomes, start=1):
        if failure:
            failures[photo.id] = failure
        unreached = 0 if is_reached else unreached + 1
        if unreached == _HOPELESS:
            raise DataError(
                f"{_HOPELESS} photos one after the other could not be fetched ({failure}); "
                "the same command goes on from there"
            )
        progress(there + done, total)
    return failures


class _Fetcher:
    """A fetcher of photos, shared by all threads."""

    def __init__(self, client: httpx2.Client, folder: Path, fit: Fit) -> None:
        self.client = client
        self.folder = folder
        self.fit = fit
        self.is_stopped = threading.Event()
        self.pause_end = 0.0

    def run(self, pool: ThreadPoolExecutor, photos: Iterable[Photo]) -> Iterator[Outcome]:
        """Yields the outcomes as they come; never more requests waiting than connections can soon take."""
        left = iter(photos)
        waiting: set[Future[Outcome]] = set()
        while True:
            for photo in islice(left, 2 * CONNECTIONS - len(waiting)):
                waiting.add(pool.submit(self.fetch, photo))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)

    def fetch(self, photo: Photo) -> Outcome:
        try:
            write_atomically(photo_path(self.folder, photo), self.content(photo))
        except (WrongContentError, ImageError) as error:
            return photo, str(error), True
        except REQUEST_ERRORS as error:
            return photo, reason_of(error), retry_after(error) is False
        return photo, "", True

    def content(self, photo: Photo) -> bytes:
        """Returns a photo's file, scaled by the server and seen to be an image."""
        url = self.url(photo)
        for attempt in count():
            try:
                content = self.answer(url)
                break
            except httpx2.HTTPError as error:
                if attempt == ATTEMPTS - 1 or not self.is_worth_another(error):
                    raise
            self.is_stopped.wait(min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
        decode_bytes(content, self.fit)
        return content

    def answer(self, url: httpx2.URL) -> bytes:
        if self.is_stopped.wait(self.pause_end - time.monotonic()):
            raise httpx2.ReadError("stopped")
        with paced(Pace(_LONGEST_ANSWER, None, self.is_stopped)) as pace:
            try:
                return self.body(url)
            except httpx2.TimeoutException:
                if pace.is_over():
                    raise WrongContentError(f"took longer than {_LONGEST_ANSWER:.0f} seconds") from None
                raise

    def body(self, url: httpx2.URL) -> bytes:
        content = bytearray()
        with self.client.stream("GET", url) as response:
            response.raise_for_status()
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _MAX_BYTES:
                    raise WrongContentError(f"is longer than {_MAX_BYTES:,} bytes")
        return bytes(content)

    def is_worth_another(self, error: httpx2.HTTPError) -> bool:
        """Returns whether to try again; where a server asks for patience, all requests wait."""
        wanted = retry_after(error)
        if not isinstance(wanted, bool):
            self.pause_end = max(self.pause_end, time.monotonic() + wanted)
        return wanted is not False and not self.is_stopped.is_set()

    def url(self, photo: Photo) -> httpx2.URL:
        """Returns the address of the photo in the size it is stored in, as the image server takes it."""
        width, height = self.fit.size(*photo.size) if photo.size else (_UNKNOWN_EDGE, _UNKNOWN_EDGE)
        if not photo.url:
            raise httpx2.InvalidURL("has no address")
        return httpx2.URL(photo.url).copy_merge_params(
            {"w": str(width), "h": str(height), "fm": "jpg", "q": str(_QUALITY)}
        )
