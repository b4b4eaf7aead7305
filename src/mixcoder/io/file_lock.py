"""Locks between processes, each a file."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""Errors of file systems without locks, such as some network ones."""


@contextmanager
def file_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Context that holds a lock.

    On a file system without locks, the lock is another file that exists as long: filelock removes the file of
    a process that was killed, if that ran on this machine.

    Args:
        path: a file for this lock alone, created where it is missing.
        timeout: seconds to wait for another process; below 0, for ever.

    Raises:
        Timeout: another process holds the lock.
        OSError: the file cannot be created.
    """
    lock = acquire_lock(path, timeout)
    try:
        yield
    finally:
        lock.release()


def acquire_lock(path: Path, timeout: float = -1) -> BaseFileLock:
    """Acquires the lock of `file_lock`, and returns it for a later release."""
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
