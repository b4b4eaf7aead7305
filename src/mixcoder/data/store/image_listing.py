"""The image files of a folder, or of a pattern such as `photos/**/*.jpg`."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixcoder.errors import DataError
from mixcoder.io.user_folders import expand_home
from mixcoder.pixels.codec import suffix_objection, suffixes
from mixcoder.text.sanitize import sanitize

_MAGIC = frozenset("*?[")
_LINK = "is a link to a folder, which is not followed"
_PLURAL = {"has": "have", "ends": "end"}
_MOST_KINDS = 5
"""Reasons for passing over files that a message names: those of most files."""


@dataclass(frozen=True)
class Listing:
    """A listing of image files.

    Attributes:
        root: the folder.
        files: by path below the root, with `/` between its parts, in the order of these names.
        refused: names that must not be opened, and why; they are among `files` too.
        passed_over: files that are not called as images that can be read, and links to folders, by name, and
            why; hidden files are not counted.
        fingerprint: changes when a file comes, goes, or is written.
    """

    root: Path
    files: dict[str, Path]
    refused: dict[str, str]
    passed_over: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class _Found:
    """A root, the files below it named as images, and the reasons for what is passed over, by name."""

    root: Path
    files: list[Path]
    passed_over: dict[str, str]


def list_images(place: str) -> Listing:
    """Returns the image files in the folder `place` and below, or those that fit the pattern `place`.

    In a folder, files that are not called as images are passed over. Links are followed to files inside the
    folder, never out of it.

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    found = _found(place)
    inside = found.root.resolve()
    files: dict[str, Path] = {}
    refused: dict[str, str] = {}
    digest = hashlib.sha256()
    named = {path.relative_to(found.root).as_posix(): path for path in found.files}
    for name, path in sorted(named.items()):
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
        others = describe_passed_over(found.passed_over) or ", ".join(sorted(suffixes()))
        raise DataError(f"{sanitize(place, 200)}: holds no images ({others})")
    return Listing(found.root, files, refused, found.passed_over, digest.hexdigest())


def describe_passed_over(passed_over: Mapping[str, str]) -> str:
    """Returns how many files are passed over for each reason, as part of a sentence; empty where none is."""
    kinds = sorted(Counter(passed_over.values()).items(), key=lambda kind: (-kind[1], kind[0]))
    parts = [_describe(count, reason) for reason, count in kinds[:_MOST_KINDS]]
    if rest := kinds[_MOST_KINDS:]:
        parts.append(f"{sum(count for _, count in rest):,} of {len(rest):,} other kinds are not read either")
    return "; ".join(parts)


def _describe(count: int, reason: str) -> str:
    """Returns the reason with the number of files that it holds for."""
    if count == 1:
        return f"1 file {reason}"
    if reason == _LINK:
        return f"{count:,} are links to folders, which are not followed"
    return f"{count:,} files {_PLURAL[reason.partition(' ')[0]]} {reason.partition(' ')[2]}"


def is_pattern(place: str) -> bool:
    """Returns whether `place` stands for files whose names fit, such as `photos/**/*.jpg`."""
    return bool(_MAGIC.intersection(place))


def _found(place: str) -> _Found:
    root = expand_home(place)
    try:
        if root.is_dir():
            return _walked(root)
        if not is_pattern(place):
            what = "is a file, not a folder" if root.exists() else "there is no such folder"
            raise DataError(f"{sanitize(place, 200)}: {what}")
        parts = root.parts
        fixed = next(i for i, part in enumerate(parts) if is_pattern(part))
        root, pattern = Path(*parts[:fixed]), "/".join(parts[fixed:])
        if not root.is_dir():
            raise DataError(f"{sanitize(place, 200)}: there is no such folder")
        files = [path for path in root.glob(pattern) if not path.is_dir()]
        return _Found(root, files, _unfollowed(root, pattern))
    except (OSError, ValueError) as error:
        raise DataError(f"{sanitize(place, 200)}: cannot be read ({_words(error)})") from error


def _walked(root: Path) -> _Found:
    """Returns the files below `root` named as images, the folders that cannot be read, and all else."""
    unreadable: list[Path] = []
    files: list[Path] = []
    passed_over: dict[str, str] = {}
    known = suffixes()

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    for folder, folders, names in os.walk(root, onerror=note):
        passed_over |= _links(root, folder, folders)
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in known:
                files.append(path)
            elif not name.startswith("."):
                passed_over[path.relative_to(root).as_posix()] = suffix_objection(path)
    if root in unreadable:
        raise DataError(f"{sanitize(str(root), 200)}: cannot be read")
    return _Found(root, [*files, *unreadable], passed_over)


def _unfollowed(root: Path, pattern: str) -> dict[str, str]:
    """Returns the links to folders that a pattern's `**` does not follow."""
    before, stars, _ = pattern.partition("**")
    tops = root.glob(before) if before else [root]
    links: dict[str, str] = {}
    for top in tops if stars else []:
        for folder, folders, _ in os.walk(top):
            links |= _links(root, folder, folders)
    return links


def _links(root: Path, folder: str, folders: list[str]) -> dict[str, str]:
    """Returns the links among `folders`, by their names below `root`, and why they are passed over."""
    paths = (Path(folder, name) for name in sorted(folders))
    return {path.relative_to(root).as_posix(): _LINK for path in paths if path.is_symlink()}


def _objection(path: Path, status: os.stat_result, inside: Path) -> str:
    """Returns why a file must not be opened; empty where it may be."""
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
