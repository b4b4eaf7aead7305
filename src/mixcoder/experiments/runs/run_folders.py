"""Where runs are below a folder."""

from __future__ import annotations

import os
from pathlib import Path

_MARKS = {"config.yml", "result.json"}
"""Either is enough: a run whose config is gone is still one, and a dangling link is a config that is lost."""
_DEPTH = 2
"""Levels below the folder, as in runs/<experiment>/<run>."""


def find_run_folders(folder: Path) -> list[Path]:
    """Returns the run directories at or up to two levels below `folder`, those of a level by name.

    A folder that cannot be listed is among them: it may be a run.
    """
    found: list[Path] = []
    level = [folder]
    for _ in range(_DEPTH + 1):
        below: list[Path] = []
        for path in level:
            entries = _entries(path)
            if entries is None or any(entry.name in _MARKS for entry in entries):
                found.append(path)
            below += [path / entry.name for entry in entries or [] if _is_folder(entry)]
        level = below
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]] | None:
    """Returns the entries of a folder, by name, or None where this user may not list it."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError:
        return None
    except OSError:  # no folder, or gone meanwhile
        return []
