"""The user's own folders: home, and the cache of this package."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from mixcoder.errors import CacheError


def cache_folder() -> Path:
    """Returns the user's cache folder of this package, which need not be there.

    Raises:
        CacheError: nothing says where it is.
    """
    try:
        folder = user_cache_path("mixcoder")
    except RuntimeError:  # neither $HOME nor an entry of the user, as in a container with a number for a user
        folder = Path()
    if not folder.is_absolute():
        raise CacheError("there is no home folder for the cache; set XDG_CACHE_HOME to the path of a folder")
    return folder


def expand_home(place: str) -> Path:
    """Returns a path with `~` and `~name` replaced by home folders; as it is where there is no such home."""
    return Path(os.path.expanduser(place))  # noqa: PTH111 - that of pathlib raises
