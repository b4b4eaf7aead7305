"""Reads YAML as plain data that remembers its lines, and nothing but plain data.

No tag is followed, no alias expands without bound, and every error names file and line.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mixcoder.errors import ExperimentError
from mixcoder.registry.problems import Path as KeyPath
from mixcoder.text.sanitize import is_visible, sanitize

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_BRACE = "within { } and [ ], a value with a brace, such as ${name}, must stand in quotes"
_IN_WORDS = {
    "expected <block end>": "the indentation fits none of the lines above",
    "expected ',' or '}', but got '{'": _BRACE,
    "expected ',' or ']', but got '{'": _BRACE,
    "mapping values are not allowed": "a value with ': ' in it must stand in quotes",
}
"""What the parser says in words of its own, for people."""
_COLON = re.compile(r":(\s|$)")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_MAX_BYTES = 250_000
_MAX_NODES = 7_000
_MAX_DEPTH = 20
_MAX_BITS = 64
_TOO_MUCH = "is nested too deeply or expands too far"


COMMAND_LINE = "command line, "
"""How the place of a `key=value` begins; the place of any other key is a file and its line."""


@dataclass
class Document:
    """A document: plain data (dict, list, str, int, float, bool, None) with the place of each key."""

    source: str
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Returns where the key at `path` stands, or the nearest key around it: `file:line`."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, self.source)

    def file(self, path: KeyPath) -> Path | None:
        """Returns the file that states the key at `path`; None where the command line does."""
        place = self.place(path)
        return None if place.startswith(COMMAND_LINE) else Path(re.sub(r":[0-9]+$", "", place))

    def problem(self, path: KeyPath, message: str) -> str:
        """Returns one line of an error: `file:line: key: what is wrong`."""
        key = sanitize(".".join(map(str, path)), 200)
        return f"{self.place(path)}: {key}: {message}" if key else f"{self.place(path)}: {message}"


def read_document(path: Path) -> Document:
    """Returns the map that a YAML file holds.

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
        text = content.decode("utf-8-sig")
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
    """Returns the plain value that `text` is in YAML: `3e-4` a number, `[1, 2]` a list, `mlp` a text.

    Raises:
        ExperimentError: it is not YAML.
    """
    return _Plain(Document(source, {})).convert(_parse(text, source), ())


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Returns key and plain value of a `key=value` from the command line; the key may have dots.

    Raises:
        ExperimentError: it is not of that form.
    """
    key, equals, text = assignment.partition("=")
    place = f"{COMMAND_LINE}'{sanitize(assignment, 200)}'"
    if not equals or not _KEY.fullmatch(key.strip()):
        raise ExperimentError([f"{place}: must be key=value, such as training.inputs=50_000"])
    return key.strip(), parse_value(text, place)


def _parse(text: str, source: str) -> Node | None:
    """Returns the nodes of a YAML text: values still as text, each with its tag and its line."""
    try:
        with warnings.catch_warnings(action="error", category=YAMLWarning):  # an anchor given twice
            yaml = YAML(typ="safe", pure=True)
            yaml.Composer = _BoundedComposer
            node: Node | None = yaml.compose(text)
    except _BeyondBoundsError as error:
        raise ExperimentError([f"{source}:{error.line}: {_TOO_MUCH}"]) from None
    except MarkedYAMLError as error:
        line, problem = _located(error, text)
        place = source if line is None else f"{source}:{line + 1}"
        raise ExperimentError([f"{place}: is not valid YAML: {problem}"]) from None
    except YAMLWarning as warning:
        reason = sanitize(" ".join(str(warning).split()), 120)
        raise ExperimentError([f"{source}: is not valid YAML: {reason}"]) from None
    except (YAMLError, ValueError, TypeError, AttributeError, LookupError, AssertionError) as error:
        reason = sanitize(" ".join(str(error).split()), 120)
        raise ExperimentError([f"{source}: is not valid YAML: {reason}"]) from None
    return node


def _located(error: MarkedYAMLError, text: str) -> tuple[int | None, str]:
    """Returns the line of a text, from 0, where a person would mend it, and what is wrong there.

    A parser notices some mistakes only lines later: it takes a key without a colon, or a bracket that is not
    closed, for the beginning of something long.
    """
    mark = error.problem_mark or error.context_mark
    problem = sanitize(" ".join(str(error.problem or error.context or "unreadable").split()), 200)
    problem = next((words for said, words in _IN_WORDS.items() if problem.startswith(said)), problem)
    if mark is None:
        return None, problem
    line = _line_of_bare_key(error, text)
    if line is not None:
        return line, "no ': ' stands after the key, as in 'key: value'"
    opening = error.context_mark
    is_open = str(error.context).startswith(("while parsing a flow", "while scanning a quoted"))
    if is_open and opening and opening.line < mark.line:
        problem += f"; perhaps what begins in line {opening.line + 1} is not closed"
    return mark.line, problem


def _line_of_bare_key(error: MarkedYAMLError, text: str) -> int | None:
    """Returns the line, from 0, of a key that no colon follows; None where something else is wrong."""
    problem = str(error.problem)
    if "could not find expected ':'" in problem and error.context_mark:
        return int(error.context_mark.line)
    if "mapping values are not allowed" not in problem or not error.problem_mark:
        return None
    lines = _LINE_BREAK.split(text)
    line = int(error.problem_mark.line)
    if _COLON.search(lines[line][: error.problem_mark.column]):
        return None  # a value with a colon in it
    above = [i for i in range(line) if lines[i].strip() and not lines[i].lstrip().startswith("#")]
    return above[-1] if above and not _COLON.search(lines[above[-1]]) else None


class _BeyondBoundsError(Exception):
    """An error: a text states more than an experiment ever does, from `line` on."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _BoundedComposer(Composer):
    """A composer that stops at more or deeper nodes than an experiment has, as each costs time."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.nodes = self.levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.nodes += 1
        self.levels += 1
        if self.nodes > _MAX_NODES or self.levels > _MAX_DEPTH + 1:
            raise _BeyondBoundsError(self.parser.peek_event().start_mark.line + 1)
        node = super().compose_node(parent, index)
        self.levels -= 1
        return node


class _Plain:
    """A converter of nodes to plain data that notes the line of every key."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0
        self.scalars = YAML(typ="safe", pure=True).constructor

    def convert(self, node: Node | None, path: KeyPath) -> Any:
        self.count += 1
        if self.count > _MAX_NODES or len(path) > _MAX_DEPTH:
            raise ExperimentError([self.document.problem((), _TOO_MUCH)])
        if node is None:
            return None
        kind = str(node.tag).removeprefix("tag:yaml.org,2002:")
        if isinstance(node, MappingNode) and kind == "map":
            return self.mapping(node, path)
        if isinstance(node, SequenceNode) and kind == "seq":
            return [self.item(value, (*path, i)) for i, value in enumerate(node.value)]
        if isinstance(node, ScalarNode) and kind in ("str", "null", "int", "float", "bool"):
            return self.scalar(node, kind, path)
        if kind in ("timestamp", "merge", "value"):
            return self.fail(
                path, f"'{sanitize(node.value)}' has a meaning of its own in YAML; put it in quotes"
            )
        return self.fail(path, f"the tag '!{sanitize(kind.lstrip('!'))}' is not allowed; state plain values")

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self.fail_at(key_node, path, f"the key {_key_text(key_node)} must be a text")
            self.check_visible(key_node, path)
            key = str(key_node.value)
            if key in converted:
                self.fail_at(key_node, (*path, key), "stands here a second time; keep one of the two")
            self.document.places[(*path, key)] = self.line(key_node)
            converted[key] = self.convert(value_node, (*path, key))
        return converted

    def item(self, node: Node, path: KeyPath) -> Any:
        self.document.places[path] = self.line(node)
        return self.convert(node, path)

    def scalar(self, node: ScalarNode, kind: str, path: KeyPath) -> Any:
        if kind == "null":
            return None
        if kind == "str":
            self.check_visible(node, path)
            return str(node.value)
        try:
            value = getattr(self.scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError):
            return self.fail(path, f"'{sanitize(node.value)}' is not a value of the kind '{kind}'")
        if kind == "int" and value.bit_length() > _MAX_BITS:
            return self.fail(path, f"the number '{sanitize(node.value)}' is beyond reason")
        return value

    def check_visible(self, node: ScalarNode, path: KeyPath) -> None:
        """Raises for a character that no one can see in the file and that could deceive on a terminal."""
        for character in str(node.value):
            if not is_visible(character) and character not in "\n\t":
                self.fail_at(node, path, f"holds the invisible character U+{ord(character):04X}")

    def fail(self, path: KeyPath, message: str) -> NoReturn:
        raise ExperimentError([self.document.problem(path, message)])

    def fail_at(self, node: Node, path: KeyPath, message: str) -> NoReturn:
        self.document.places[path] = self.line(node)
        self.fail(path, message)

    def line(self, node: Node) -> str:
        return f"{self.document.source}:{node.start_mark.line + 1}"


def _key_text(node: Node) -> str:
    return f"'{sanitize(node.value)}'" if isinstance(node, ScalarNode) else "of several values"
