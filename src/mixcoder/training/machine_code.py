"""What was compiled on this machine, kept in the user's cache: <user's cache>/compiled."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path


def compiled_folder() -> Path:
    """Where it is kept; made now where it is not there."""
    folder = user_cache_path("mixcoder") / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The file called `name`, made now by writing it to a path where it is not there: whole, or not at all.

    Raises:
        Exception: whatever `make` raises.
    """
    path = compiled_folder() / name
    with FileLock(path.with_suffix(".lock")):  # workers that need the same wait for the first of them
        if not path.exists():
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                new = Path(folder) / name
                make(new)
                new.replace(path)
    return path
