"""Locks between processes, each a file."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems answer that have no locks, such as some network ones."""


@contextmanager
def file_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Holds a lock during the `with` block.

    On a file system without locks, another file that is there as long takes their place: filelock removes the
    one of a process that was killed, if that ran on this machine.

    Args:
        path: a file for this lock alone, made where it is not there.
        timeout: seconds to wait for another process; below 0, for ever.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be made.
    """
    lock = acquire_lock(path, timeout)
    try:
        yield
    finally:
        lock.release()


def acquire_lock(path: Path, timeout: float = -1) -> BaseFileLock:
    """Returns the same lock, held until it is released."""
    lock: BaseFileLock = FileLock(path, timeout)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # filelock's own, where it does the same
            lock.acquire()
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}.held"), timeout)
        lock.acquire()
    return lock
