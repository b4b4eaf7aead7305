"""Which photos there are and where: read from an archive's table, kept as a small list of ours.

archive.zip ─▶ photos.tsv000 (or .csv000, …), streamed, never unpacked ─▶ Photo, … ─▶ photos.csv
"""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO, TextIOWrapper
from pathlib import Path, PurePosixPath

from mixcoder.errors import DataError
from mixcoder.io.atomic_file import write_atomically
from mixcoder.text.sanitize import sanitize

_TABLE = re.compile(r"photos\.(tsv|csv)\d*")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLUMNS = ("photo_id", "photo_image_url", "photo_width", "photo_height")
_LONGEST_LINE = 1 << 20
_MOST_CHARACTERS = 1 << 30
_MOST_PHOTOS = 1_000_000


@dataclass(frozen=True)
class Photo:
    """A photo that can be asked for.

    Attributes:
        id: letters, digits, - and _: fit for a file's name.
        url: of its image.
        size: width and height in pixels, where they are known.
    """

    id: str
    url: str
    size: tuple[int, int] | None


def read_archive(path: Path) -> list[Photo]:
    """Returns the photos in the table of the zip archive at `path`, in its order, each once.

    The archive is read as a stream: nothing of it is unpacked to the disk.

    Raises:
        DataError: it is not a zip archive, or holds no table of photos.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if _TABLE.fullmatch(PurePosixPath(name).name)]
            if not names:
                raise DataError(f"{path}: holds no photos.tsv or photos.csv")
            with archive.open(min(names)) as table:
                photos = list(_photos(_lines(TextIOWrapper(table, "utf-8", errors="replace", newline=""))))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, zipfile.BadZipFile, zlib.error, csv.Error, EOFError, NotImplementedError) as error:
        raise DataError(f"{path}: is not a whole zip archive of photos ({error})") from error
    except (RuntimeError, ValueError) as error:  # encrypted, or too large a table
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not photos:
        raise DataError(f"{path}: its table of photos is empty")
    return photos


def write_list(path: Path, photos: Iterable[Photo]) -> None:
    """Keeps `photos` as comma-separated values.

    Raises:
        WriteError: it cannot be written.
    """
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((photo.id, photo.url, *(photo.size or ("", ""))) for photo in photos)
    write_atomically(path, text.getvalue().encode())


def read_list(path: Path) -> list[Photo]:
    """Returns the photos that `write_list` kept.

    Raises:
        DataError: the list is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(_photos(_lines(file)))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: is damaged ({error}); delete it, and it will be made anew") from error


def _photos(lines: Iterable[str]) -> Iterator[Photo]:
    """Yields the photos of a table with a header, whose separator all lines share."""
    lines = iter(lines)
    header = next(lines, "")
    delimiter = "\t" if "\t" in header else ","
    names = next(csv.reader([header.lstrip("\ufeff")], delimiter=delimiter), [])
    missing = [name for name in _COLUMNS[:2] if name not in names]
    if missing:
        found = sanitize(", ".join(names), 200)
        raise DataError(f"the table of photos has no column '{missing[0]}', but {found}")
    seen: set[str] = set()
    for number, row in enumerate(csv.DictReader(lines, names, delimiter=delimiter)):
        if number == _MOST_PHOTOS:
            raise ValueError(f"more than {_MOST_PHOTOS:,} photos")
        identity, url = row["photo_id"] or "", row["photo_image_url"] or ""
        if not _ID.fullmatch(identity) or identity in seen:
            continue
        seen.add(identity)
        yield Photo(identity, url.strip(), _size(row.get("photo_width"), row.get("photo_height")))


def _size(width: str | None, height: str | None) -> tuple[int, int] | None:
    sizes = [int(text) if text and text.isdecimal() and len(text) < 10 else 0 for text in (width, height)]
    return (sizes[0], sizes[1]) if all(sizes) else None


def _lines(file: TextIOWrapper) -> Iterator[str]:
    """Yields the lines of a table, none and all of them not longer than can be."""
    total = 0
    while line := file.readline(_LONGEST_LINE):
        total += len(line)
        if len(line) == _LONGEST_LINE or total > _MOST_CHARACTERS:
            raise ValueError("its table of photos is too large")
        yield line
