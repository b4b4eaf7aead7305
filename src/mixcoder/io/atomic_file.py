"""Files that are whole or not there.

    .NAME.<random>.part ─▶ filled ─▶ mode, fsync ─▶ replaces NAME ─▶ fsync of the folder

A process that dies before the end leaves the old file and a part, which `remove_parts` deletes. A file that
replaces another keeps the mode of that; a new one has the mode of the umask.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixcoder.errors import WriteError

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""Errors of file systems that cannot sync a folder."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that yields a new, empty file to fill, which replaces `path` at the end of the `with` block.

    At any moment the old file or the new one is there; after the block it is the new one, even after a power
    cut.

    Raises:
        WriteError: the file could not be written, or not for certain.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            mode = _create(part)
            yield part
            _complete(part, _mode_of(path, mode))
            os.replace(part, path)  # noqa: PTH105 - one module for all calls, so that tests can fail each
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def write_atomically(path: Path, *contents: bytes | memoryview) -> None:
    """Writes `contents`, one after the other, to a file that replaces `path`, as `replacing` does.

    Raises:
        WriteError: the file could not be written, or not for certain.
    """
    with replacing(path) as part:
        _write(part, contents)


def remove_parts(folder: Path) -> None:
    """Deletes the parts of processes that died while writing below `folder`, where no process writes now."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def _create(part: Path) -> int:
    """Creates an empty file; returns its mode, which the umask gives."""
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def _mode_of(path: Path, mode: int) -> int:
    """Returns the mode of the file at `path`, or `mode` where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return mode
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else mode


def _write(path: Path, contents: Iterable[bytes | memoryview]) -> None:
    """Fills an empty file."""
    handle = os.open(path, os.O_WRONLY | _BINARY)
    try:
        for content in contents:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def _complete(part: Path, mode: int) -> None:
    """Sets the mode of a file, and syncs it."""
    handle = os.open(part, os.O_RDWR | _BINARY)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) != mode:
            with suppress(PermissionError):  # a file system on which all files have one mode
                os.chmod(part, mode)  # noqa: PTH101 - as above
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Syncs the entries of a folder, after a rename."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)
