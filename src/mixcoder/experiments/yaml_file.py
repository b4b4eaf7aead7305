"""Reads YAML as plain data that remembers its lines, and nothing but plain data.

No tag is followed, no alias expands without bound, and every error names file and line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mixcoder.errors import ExperimentError
from mixcoder.problems import Path as KeyPath

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_MAX_BYTES = 1_000_000
_MAX_NODES = 100_000
_MAX_DEPTH = 20


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None) with the place that each key came from."""

    source: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where the key at `path` stands, or the nearest key around it: `file:line`."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.source)

    def problem(self, path: KeyPath, message: str) -> str:
        """One line of an error: `file:line: key: what is wrong`."""
        key = ".".join(map(str, path))
        return f"{self.place(path)}: {key}: {message}" if key else f"{self.place(path)}: {message}"


def read_document(path: Path) -> Document:
    """The map that a YAML file holds.

    Raises:
        ExperimentError: no such file, not YAML, a key twice, or not a map.
    """
    try:
        if path.is_dir():
            raise ExperimentError([f"{path}: is a folder; name an experiment file, such as {path}/first.yml"])
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ExperimentError(
                [f"{path}: is larger than {_MAX_BYTES:,} bytes, too large for an experiment"]
            )
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ExperimentError([f"{path}: is not a text file in UTF-8 ({error.reason})"]) from None
    except OSError as error:
        raise ExperimentError([f"{path}: {(error.strerror or str(error)).lower()}"]) from None
    except ValueError as error:  # a NUL in the name
        raise ExperimentError([f"{str(path)!r}: is not a file name ({error})"]) from None

    node = _parse(text, str(path))
    document = Document(str(path), {})
    document.places[()] = f"{path}:1"
    data = _Plain(document).convert(node, ())
    if not isinstance(data, dict):
        raise ExperimentError([f"{path}:1: must be a map of keys and values, such as 'name: my-experiment'"])
    document.data = data
    return document


def parse_value(text: str, source: str) -> Any:
    """The plain value that `text` is in YAML: `3e-4` a number, `[1, 2]` a list, `mlp` a text.

    Raises:
        ExperimentError: it is not YAML.
    """
    return _Plain(Document(source, {})).convert(_parse(text, source), ())


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Key and plain value of a `key=value` from the command line; the key may have dots.

    Raises:
        ExperimentError: it is not of that form.
    """
    key, equals, text = assignment.partition("=")
    place = f"command line, '{assignment}'"
    if not equals or not _KEY.fullmatch(key.strip()):
        raise ExperimentError([f"{place}: must be key=value, such as training.inputs=50_000"])
    return key.strip(), parse_value(text, place)


def _parse(text: str, source: str) -> Any:
    try:
        return YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "a key"
        raise ExperimentError(
            [f"{source}:{_line(error)}: {key}: stands here a second time; keep one of the two"]
        ) from None
    except MarkedYAMLError as error:
        problem = " ".join(str(error.problem or error.context or "unreadable").split())
        raise ExperimentError([f"{source}:{_line(error)}: is not valid YAML: {problem}"]) from None
    except RecursionError:
        raise ExperimentError([f"{source}: is nested too deeply"]) from None
    except (YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ExperimentError([f"{source}: is not valid YAML: {reason}"]) from None


def _line(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


class _Plain:
    """Converts what the YAML reader gives to plain data, noting the line of every key."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def convert(self, node: Any, path: KeyPath) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise ExperimentError([self.document.problem((), "is nested too deeply or expands too far")])
        if isinstance(node, CommentedMap):
            return {self.key(key, node, path): self.convert(node[key], (*path, str(key))) for key in node}
        if isinstance(node, CommentedSeq):
            return [self.item(i, node, path) for i in range(len(node))]
        if isinstance(node, TaggedScalar) or getattr(getattr(node, "tag", None), "value", None):
            raise ExperimentError(
                [self.document.problem(path, f"tags such as '{node.tag.value}' are not allowed")]
            )
        for plain in (bool, int, float, str):
            if isinstance(node, plain):
                return plain(node)
        if node is None:
            return None
        raise ExperimentError(
            [
                self.document.problem(
                    path, f"'{node}' is a {type(node).__name__}; put it in quotes to make it a text"
                )
            ]
        )

    def key(self, key: Any, node: CommentedMap, path: KeyPath) -> str:
        line = node.lc.key(key)[0] + 1 if node.lc.data and key in node.lc.data else None
        if line is not None:
            self.document.places[(*path, str(key))] = f"{self.document.source}:{line}"
        if not isinstance(key, str):
            raise ExperimentError([self.document.problem((*path, str(key)), "a key must be a text")])
        return str(key)

    def item(self, i: int, node: CommentedSeq, path: KeyPath) -> Any:
        if node.lc.data and i in node.lc.data:
            self.document.places[(*path, i)] = f"{self.document.source}:{node.lc.item(i)[0] + 1}"
        return self.convert(node[i], (*path, i))
