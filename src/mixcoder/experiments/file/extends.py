"""An experiment file merged over the one that it extends, and `key=value` from the command line.

file ─▶ the file that it extends, and so on ─▶ merged key by key ─▶ key=value overrides ─▶ Document
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.yaml_file import Document, parse_assignment, read_document
from mixcoder.registry.problems import describe_value
from mixcoder.text.sanitize import sanitize
from mixcoder.training.recipe import DURATIONS


def read_extended(path: Path, below: tuple[Path, ...] = ()) -> Document:
    """Returns the document of a file, merged over the one that it extends, if any.

    Args:
        path: of the file.
        below: files that extend this one, which it must not extend in turn.

    Raises:
        ExperimentError: a file is missing, wrong or extends itself.
    """
    document = read_document(path)
    if "extends" not in document.data:
        return document
    base_name = document.data.pop("extends")
    if not isinstance(base_name, str):
        message = f"must be the name of a file, not {describe_value(base_name)}"
        raise ExperimentError([document.problem(("extends",), message)])
    base_path = path.parent / base_name
    if not _is_file(base_path):
        message = f"there is no file '{sanitize(str(base_path), 200)}'"
        raise ExperimentError([document.problem(("extends",), message)])
    if base_path.resolve() in (file.resolve() for file in (*below, path)):
        raise ExperimentError([document.problem(("extends",), f"'{base_name}' extends this file in turn")])
    base = read_extended(base_path, (*below, path))
    anew = {key for key, value in document.data.items() if _replaces(key, base.data.get(key), value)}
    kept = {place: at for place, at in base.places.items() if place[:1] not in {(key,) for key in anew}}
    return Document(document.source, _merged(base.data, document.data), kept | document.places)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a character that no name may have
        return False


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with `changes`: maps key by key, anything else replaced.

    A section that names another type or source starts anew, as does a matrix, and a duration replaces
    any other.
    """
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if not _replaces(key, before, value):
            merged[key] = _merged(base[key], value)
        else:
            if key in DURATIONS:
                merged = {name: stated for name, stated in merged.items() if name not in DURATIONS}
            merged[key] = value
    return merged


def _replaces(section: str, before: Any, after: Any) -> bool:
    """Returns whether what a file states of a section stands for all of it."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return True
    return section == "matrix" or any(
        key in before and key in after and before[key] != after[key] for key in ("type", "source")
    )


def apply_override(document: Document, override: str) -> None:
    """Puts the value of a `key=value` into the document, in the place of what a file states.

    Raises:
        ExperimentError: it is not of that form, or its key leads through a value that is no map.
    """
    key, value = parse_assignment(override)
    place = f"command line, '{override}'"
    path = tuple(key.split("."))
    target = document.data
    for depth, part in enumerate(path[:-1], start=1):
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            holder = ".".join(path[:depth])
            raise ExperimentError([f"{place}: {holder} is not a map, it has no key '{path[depth]}'"])
    if path[:-1] == ("training",) and path[-1] in DURATIONS:
        for duration in DURATIONS:
            target.pop(duration, None)
    target[path[-1]] = value
    document.places = {known: at for known, at in document.places.items() if known[: len(path)] != path}
    for depth in range(1, len(path) + 1):
        document.places.setdefault(path[:depth], place)
