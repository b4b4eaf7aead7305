"""Where data lies on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mixcoder.errors import CacheError
from mixcoder.io.user_folders import cache_folder, expand_home

DATA_VARIABLE = "MIXCODER_DATA"


def data_places(name: str, homes: Sequence[str]) -> list[Path]:
    """Returns all folders in which data set `name` is looked for, the first one being where it is fetched to.

    Args:
        name: of the data set.
        homes: folders in which other programs keep it, such as `MNIST/raw`, which belong to it alone.

    Raises:
        CacheError: there is none.
    """
    folders = data_folders(name)
    theirs = [base / home for folder in folders for home in homes for base in (folder, folder.parent)]
    return [*folders, *(folder / "raw" for folder in folders), *theirs]


def data_folders(name: str) -> list[Path]:
    """Returns the folders in which data set `name` is looked for, the first one being where it is fetched to.

    `$MIXCODER_DATA/<name>` where that variable is set, then the user's cache folder.

    Raises:
        CacheError: there is neither.
    """
    chosen = os.environ.get(DATA_VARIABLE)
    roots = [expand_home(chosen)] if chosen else []
    try:
        roots.append(cache_folder())
    except CacheError:
        if not roots:
            raise
    return [root / name for root in roots]
