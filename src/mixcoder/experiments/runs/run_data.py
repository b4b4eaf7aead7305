"""The data that a run names, opened only where that is allowed.

A run directory may be somebody else's, and its configuration may name any folder of this machine, or a data
set to be fetched from the network.
"""

from __future__ import annotations

from collections.abc import Callable

from mixcoder.data import SOURCES, DataSource, ImageData
from mixcoder.errors import DataError
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Run
from mixcoder.text.sanitize import sanitize

MayOpen = Callable[[DataSource], bool]
"""Returns whether a data source may be opened."""


def allow_all(source: DataSource) -> bool:
    """Allows every data source: the user has named it, or asked for what a run names."""
    return True


def allow_local(source: DataSource) -> bool:
    """Allows data sources that are known by name alone and are on this machine; no place that a run names."""
    return source.is_known_by_name and source.is_fetched()


def load_run_data(run: Run, may_open: MayOpen) -> ImageData:
    """Returns the images that a run was trained on.

    Raises:
        DataError: the images may not be opened, are not here, or damaged.
    """
    source = run.create_source()
    if not may_open(source):
        name, stated = run.data
        arguments = SOURCES[name].located(stated, run.root)
        places = label({key: value for key, value in arguments.items() if isinstance(value, str)})
        data = sanitize(f"{name} ({places})" if places else name, 200)
        raise DataError(f"the data that the run names, {data}, is opened only with --open-data")
    return source.load()
