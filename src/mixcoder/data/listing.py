"""The image files of a folder, or of a pattern such as `photos/**/*.jpg`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixcoder.data.decode import SUFFIXES
from mixcoder.errors import DataError
from mixcoder.safe_text import sanitize
from mixcoder.user_folders import expand_home

_MAGIC = frozenset("*?[")


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        files: by path below the root, with `/` between its parts, in the order of these names.
        refused: names that must not be opened, and why; they are among `files` too.
        fingerprint: changes when a file comes, goes, or is written.
    """

    files: dict[str, Path]
    refused: dict[str, str]
    fingerprint: str


def list_images(place: str) -> Listing:
    """The image files in the folder `place` and below, or those that fit the pattern `place`.

    In a folder, files that are not called as images are passed over. Links are followed to files inside the
    folder, never out of it.

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    root, paths = _found(place)
    inside = root.resolve()
    files: dict[str, Path] = {}
    refused: dict[str, str] = {}
    digest = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        name = path.relative_to(root).as_posix()
        files[name] = path
        try:
            status = path.stat()
            reason = _objection(path, status, inside)
        except (OSError, RuntimeError) as error:  # a link to nothing, or to itself
            status, reason = None, f"cannot be read: {_words(error)}"
        if reason:
            refused[name] = reason
        state = (reason,) if status is None or reason else (status.st_size, status.st_mtime_ns)
        digest.update(repr((name, *state)).encode())
    if not files:
        raise DataError(f"{sanitize(place, 200)}: holds no images ({', '.join(sorted(SUFFIXES))})")
    return Listing(files, refused, digest.hexdigest())


def is_pattern(place: str) -> bool:
    """Whether `place` stands for files whose names fit, such as `photos/**/*.jpg`."""
    return bool(_MAGIC.intersection(place))


def _found(place: str) -> tuple[Path, list[Path]]:
    """The root, and the files below it."""
    root = expand_home(place)
    try:
        if root.is_dir():
            return root, list(_walk(root))
        if not is_pattern(place):
            what = "is a file, not a folder" if root.exists() else "there is no such folder"
            raise DataError(f"{sanitize(place, 200)}: {what}")
        parts = root.parts
        fixed = next(i for i, part in enumerate(parts) if is_pattern(part))
        root, pattern = Path(*parts[:fixed]), "/".join(parts[fixed:])
        if not root.is_dir():
            raise DataError(f"{sanitize(place, 200)}: there is no such folder")
        return root, [path for path in root.glob(pattern) if not path.is_dir()]
    except (OSError, ValueError) as error:
        raise DataError(f"{sanitize(place, 200)}: cannot be read ({_words(error)})") from error


def _walk(root: Path) -> Iterator[Path]:
    """What is called like an image below `root`, and the folders that cannot be read; no link to a folder
    is followed.
    """
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    for folder, _, names in os.walk(root, onerror=note):
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES:
                yield path
    if root in unreadable:
        raise DataError(f"{sanitize(str(root), 200)}: cannot be read")
    yield from unreadable


def _objection(path: Path, status: os.stat_result, inside: Path) -> str:
    """Why a file must not be opened; empty where it may be."""
    if not path.resolve().is_relative_to(inside):
        return "is a link out of the folder"
    if stat.S_ISDIR(status.st_mode):
        return "is a folder that cannot be read"
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    return ""


def _words(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.lower()
