"""Where the relative paths of a data source begin.

data.path in a file            ─▶ the folder of that file, or `relative_to` there
data.path on the command line  ─▶ the current folder
data.path: ${axis}             ─▶ as that of the axis
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixcoder.data import SOURCES
from mixcoder.experiments.file.matrix import REFERENCE
from mixcoder.experiments.file.yaml_file import Document
from mixcoder.registry.problems import Path as KeyPath

Choice = tuple[str, dict[str, Any]]
"""The name of something registered, and the arguments it is built with."""


def with_root(data: Choice, stated: Document) -> tuple[Choice, Path]:
    """Returns the data source with the one folder in which all its relative paths begin.

    Where some are of a file and some of the command line, those of the command line are made absolute.

    Args:
        data: a source's name and its arguments.
        stated: the document that states them, its references not replaced yet.
    """
    name, arguments = data
    source, here = SOURCES[name], Path()
    roots = {key: _root(stated, key) for key in arguments}
    paths = {
        key: root
        for key, root in roots.items()
        if source.located({key: arguments[key]}, root.absolute()) != {key: arguments[key]}
    }
    root = next((root for root in paths.values() if root != here), here)
    apart = [key for key, other in paths.items() if other != root]
    absolute = [source.located({key: arguments[key]}, paths[key].absolute()) for key in apart]
    return (name, {**arguments, **{key: value for each in absolute for key, value in each.items()}}), root


def _root(stated: Document, key: str) -> Path:
    """Returns the folder in which a relative path of `data.<key>` begins."""
    place = _place(stated, key)
    other = stated.data.get("relative_to")
    if stated.file(place) is None or not isinstance(other, str):
        return _folder(stated, place)
    return _folder(stated, ("relative_to",)) / other


def _folder(stated: Document, place: KeyPath) -> Path:
    """Returns the folder of the file that states a key; the current one for the command line."""
    file = stated.file(place)
    return file.parent if file else Path()


def _place(stated: Document, key: str) -> KeyPath:
    """Returns where the beginning of `data.<key>` is stated: there, or on the axis it refers to."""
    data = stated.data["data"]
    value = data.get(key) if isinstance(data, dict) else data
    reference = REFERENCE.match(value) if isinstance(value, str) else None
    return ("matrix", reference[1].strip().partition(".")[0]) if reference else ("data", key)
