"""Files that grow, in folders that a stranger may have made: a link there is an error, and not followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Set
from pathlib import Path
from typing import BinaryIO

from mixcoder.errors import WriteError, system_reason

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_UNFOLLOWED = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""No link is followed, and no pipe waited for."""
_LINK = "is a link, which may lead anywhere; delete it"


def open_to_append(path: Path) -> BinaryIO:
    """Opens a plain file to append to, and creates one that is missing.

    Raises:
        WriteError: it is a link, a pipe or a device, or cannot be written.
    """
    try:
        if path.is_symlink():
            raise WriteError(f"cannot write {path}: it {_LINK}")
        handle = os.open(path, _FLAGS | _UNFOLLOWED, 0o666)
    except OSError as error:
        reason = f"it {_LINK}" if error.errno == errno.ELOOP else system_reason(error)
        raise WriteError(f"cannot write {path}: {reason}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise WriteError(f"cannot write {path}: it is no plain file")
    return os.fdopen(handle, "ab")


def check_no_links(folder: Path, files: Set[str]) -> None:
    """Checks that in a folder no link stands for a folder, or for one of `files`.

    Raises:
        WriteError: one does; names the link.
    """
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and (entry.name in files or entry.is_dir()):
            raise WriteError(f"cannot write {entry}: it {_LINK}")
