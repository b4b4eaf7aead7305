"""Files that are whole or not there.

    .NAME.<random>.part ─▶ filled ─▶ fsync ─▶ replaces NAME ─▶ fsync of the folder

A process that dies on the way leaves the old file and a part, which `remove_parts` clears away.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixcoder.errors import WriteError

_BINARY = getattr(os, "O_BINARY", 0)
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that cannot make a folder's entries last."""


@contextmanager
def swapped_in(path: Path) -> Iterator[Path]:
    """A new file, to be filled during the `with` block, that takes the place of `path` at its end.

    Whatever happens on the way, the old file or the new one is there. After the block the new one is, even
    after a power cut.

    Raises:
        WriteError: it could not be written, or not for certain.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            _sync(part)
            os.replace(part, path)  # noqa: PTH105 - one module for all calls, so that tests can fail each
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Makes `path` hold `content`, as `swapped_in` does.

    Raises:
        WriteError: it could not be written, or not for certain.
    """
    with swapped_in(path) as part:
        _write(part, content)


def remove_parts(folder: Path) -> None:
    """Clears away what processes that died while writing below `folder` have left.

    Nobody may be writing there.
    """
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Writes a new file."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o644)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(handle, rest) :]
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Makes what a file holds last."""
    handle = os.open(path, os.O_RDWR | _BINARY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Makes what was renamed in `folder` last."""
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
