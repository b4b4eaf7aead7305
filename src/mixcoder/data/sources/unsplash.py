"""Unsplash Lite: 25,000 photos, scaled to at least 96 pixels a side and cropped to 96 x 96.

    archive (zip) ─▶ photos.csv ─▶ photos/<id>.jpg, each scaled by the image server ─▶ packed store
                                       └─ what could not be had ─▶ left-out.csv

All of it lies in `$MIXCODER_DATA/unsplash`, or in the user's cache; `fetched` is there once all photos were
asked for. The archive may be put there by hand as well.

Source: https://unsplash.com/data. Some of its rows have no working address: issue 61 of the tracker at
https://github.com/unsplash/datasets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple
from io import StringIO
from pathlib import Path

import httpx2

from mixcoder.data.crops import CropSplit
from mixcoder.data.data_folders import data_folders
from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.net.download import check, download
from mixcoder.data.net.http import WrongContentError
from mixcoder.data.source import DataSource, register_source
from mixcoder.data.sources.photo_fetch import fetch_photos, photo_path
from mixcoder.data.sources.photo_list import Photo, read_archive, read_list, write_list
from mixcoder.data.split import ImageData
from mixcoder.data.store.image_store import ImageStore
from mixcoder.data.store.pack_cache import describe_left_out, pack_into, pack_path
from mixcoder.errors import DataError, WriteError
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.file_lock import file_lock
from mixcoder.io.user_folders import expand_home
from mixcoder.pixels.codec import Fit, Pixels, decode_file
from mixcoder.text.sanitize import csv_cell

PHOTOS = 25_000
VALIDATION_PHOTOS = 100
CROP = (96, 96)
FIT = Fit(channels=3, longest_edge=160, shortest_edge=96)
ARCHIVE = "https://unsplash.com/data/lite/1.4.1"
ARCHIVE_SHA256 = "aa0fcb859040ed64e93817d1d878d0c6f861763283261ba1a6aa5d8d4af6aec6"
_MAX_ARCHIVE_BYTES = 4 * 2**30


@register_source("unsplash")
class Unsplash(DataSource):
    """Random 96 x 96 crops of 25,000 photos to train on, centre crops of the first 100 to validate on.

    Args:
        horizontal_flips: mirrors half of the training crops.
    """

    is_known_by_name = True
    image_shape = (3, *CROP)

    def __init__(self, horizontal_flips: bool = False) -> None:
        self.horizontal_flips = horizontal_flips
        self.folder = next(filter(_is_begun, data_folders("unsplash")), data_folders("unsplash")[0])

    @property
    def training_images(self) -> int:  # type: ignore[override]
        """As many as were fetched; before that, as many as the data set has."""
        return len(self.load().train) if self.is_fetched() else PHOTOS - VALIDATION_PHOTOS

    def is_fetched(self) -> bool:
        parts = (self._fetched_path, self._list_path, self._left_out_path, self._photos)
        return all(path.exists() for path in parts)

    def status(self) -> str:
        if self.is_fetched():
            return f"ready in {self.folder}"
        if _is_begun(self.folder):
            return f"partly fetched to {self.folder}"
        return "not fetched yet"

    def prepare(self, progress: StartTask = no_progress) -> str:
        if not self.is_fetched():
            self.fetch(progress=progress)
        return self._describe(self._store(progress))

    def load(self) -> ImageData:
        if not self.is_fetched():
            self.fetch()
        store = self._store()
        if len(store) <= VALIDATION_PHOTOS:
            raise DataError(
                f"unsplash: {len(store):,} photos are not enough: the first {VALIDATION_PHOTOS} validate, "
                f"the rest train; {self._left_out_path} says what could not be had"
            )
        rows = range(len(store))
        return ImageData(
            "unsplash",
            CropSplit.of(store, rows[VALIDATION_PHOTOS:], CROP, self.horizontal_flips),
            CropSplit.of(store, rows[:VALIDATION_PHOTOS], CROP).centre_crops(),
            {**self._missing(), **store.left_out},
        )

    def fetch(
        self,
        origin: str | None = None,
        sha256: str | None = None,
        progress: StartTask = no_progress,
    ) -> None:
        """Brings the photos that are not there yet to this machine.

        Args:
            origin: the path of the data set's zip archive, or an address to fetch it from.
            sha256: its published checksum (hex), to be checked.
            progress: told of the archive and of the photos.

        Raises:
            DataError: archive or photos cannot be had.
            WriteError: there is no room for them.
        """
        try:
            listed, is_by_hand = None, not origin and any(self.folder.glob("*.zip"))
            if origin or not self._list_path.exists():
                listed = read_archive(self._archive(origin, sha256, progress))
            self._photos.mkdir(parents=True, exist_ok=True)
            with file_lock(self.folder / ".lock"):
                if listed:
                    self._fetched_path.unlink(missing_ok=True)
                    self._list_path.unlink(missing_ok=True)
                    if not is_by_hand:  # by an earlier fetch, or a user who knows where it is from
                        write_atomically(self._origin_path, _host_of(origin).encode())
                    write_list(self._list_path, listed)
                self._fetch_listed(progress)
        except OSError as error:
            raise WriteError(f"cannot write {self.folder}: {error.strerror or error}") from error

    def _fetch_listed(self, progress: StartTask) -> None:
        photos = read_list(self._list_path)
        for leftover in self._photos.glob(".*.part"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        report = progress("fetching photos", "photos")
        failures = fetch_photos(photos, self._photos, FIT, self._trusted(), report)
        self._write_left_out(photos, failures)
        write_atomically(self._fetched_path, b"")

    @property
    def _list_path(self) -> Path:
        return self.folder / "photos.csv"

    @property
    def _origin_path(self) -> Path:
        return self.folder / "origin"

    def _trusted(self) -> list[str]:
        """Returns the host of the archive: addresses in the archive may lead there, and to public hosts."""
        try:
            return self._origin_path.read_text("utf-8", errors="replace").split()
        except FileNotFoundError:
            return []

    @property
    def _photos(self) -> Path:
        return self.folder / "photos"

    @property
    def _left_out_path(self) -> Path:
        return self.folder / "left-out.csv"

    @property
    def _fetched_path(self) -> Path:
        return self.folder / "fetched"

    def _archive(self, origin: str | None, sha256: str | None, progress: StartTask) -> Path:
        """Returns the archive on this machine: the named one, one put there by hand, or the one to fetch."""
        if origin and "://" not in origin:
            return _check_archive(expand_home(origin), sha256)
        by_hand = sorted(self.folder.glob("*.zip"))
        if by_hand and not origin:
            return _check_archive(by_hand[-1], sha256)
        target = self.folder / "unsplash-lite.zip"
        published = sha256 or (None if origin else ARCHIVE_SHA256)
        try:
            download(
                [origin or ARCHIVE],
                target,
                checksum=f"sha256:{published}" if published else None,
                max_bytes=_MAX_ARCHIVE_BYTES,
                progress=progress("fetching the archive", "bytes"),
            )
        except DataError as error:
            raise DataError(
                f"unsplash is not on this machine and cannot be fetched; put its zip archive into "
                f"{self.folder} ({error})"
            ) from error
        return target

    def _write_left_out(self, photos: Sequence[Photo], failures: dict[str, str]) -> None:
        text = StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("image", "reason", "address"))
        for photo in photos:
            if photo.id in failures:
                writer.writerow((photo.id, csv_cell(failures[photo.id]), csv_cell(photo.url)))
        write_atomically(self._left_out_path, text.getvalue().encode())

    def _missing(self) -> dict[str, str]:
        """Returns the photos that could not be had, and why."""
        with self._left_out_path.open(encoding="utf-8", newline="") as file:
            return {row["image"]: row["reason"] for row in csv.DictReader(file)}

    def _store(self, progress: StartTask = no_progress) -> ImageStore:
        expected = {photo.id: photo_path(self._photos, photo) for photo in read_list(self._list_path)}
        paths = {name: path for name, path in expected.items() if path.exists()}

        def decode(name: str) -> Pixels:
            return decode_file(paths[name], FIT)

        states = ((name, path.stat()) for name, path in paths.items())
        content = repr([(name, state.st_size, state.st_mtime_ns) for name, state in states])
        target = pack_path("unsplash", f"{self._photos.absolute()} {astuple(FIT)}", content)
        report = no_progress if target.exists() else progress
        return pack_into(target, list(paths), decode, report("packing photos", "images"))

    def _describe(self, store: ImageStore) -> str:
        missing = len(self._missing())
        note = f"{missing:,} of {missing + len(store) + len(store.left_out):,} photos could not be fetched: "
        notes = [f"{note}{self._left_out_path} says why" if missing else "", describe_left_out(store)]
        return "; ".join(filter(None, notes))


def _host_of(origin: str | None) -> str:
    """Returns the host of an address; empty for a file, and for the well-known address."""
    return httpx2.URL(origin).host if origin and "://" in origin else ""


def _is_begun(folder: Path) -> bool:
    """Returns whether there is anything of the data set in `folder`."""
    return (folder / "photos.csv").exists() or any(folder.glob("*.zip"))


def _check_archive(path: Path, sha256: str | None) -> Path:
    try:
        check(path, f"sha256:{sha256}" if sha256 else None)
    except (OSError, WrongContentError) as error:
        raise DataError(f"{path}: {error}") from error
    return path
