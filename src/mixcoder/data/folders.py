"""Where data lies on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

DATA_VARIABLE = "MIXCODER_DATA"


def data_folders(name: str) -> list[Path]:
    """The folders in which data set `name` is looked for, the first one being where it is fetched to.

    `$MIXCODER_DATA/<name>` where that variable is set, then the user's cache folder.
    """
    roots = [user_cache_path("mixcoder")]
    if chosen := os.environ.get(DATA_VARIABLE):
        roots.insert(0, Path(chosen))
    return [root / name for root in roots]
