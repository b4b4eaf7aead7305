"""The matrix of an experiment file: its combinations, and `${name}` put in their place.

matrix:
  mixer: [cnn, cnnf]                                  an axis: a list of values
  size: [{patch: 7, hidden: [64, 16]}, {patch: 4, …}]   paired values: ${size.patch}, ${size.hidden}
  exclude: [{mixer: cnnf, size: {patch: 4}}]          combinations to leave out
  include: [{mixer: mlp, size: {patch: 7, …}}]        combinations to add
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from mixcoder.errors import ExperimentError, did_you_mean
from mixcoder.experiments.file.yaml_file import Document
from mixcoder.registry.meant import meant_list
from mixcoder.registry.problems import Path as KeyPath
from mixcoder.registry.problems import describe_value
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import format_value

Values = dict[str, Any]
"""One combination: a value for each axis."""

LARGEST_MATRIX = 10_000
MOST_AXES = 50
_MOST_COMPARISONS = 500_000
"""Of combinations with what is to be excluded: what a second is enough for."""
RESERVED_AXES = {"n", "run", "state", "reason"}
"""What every row of a table has, whatever the matrix."""
_MOST_LETTERS = 1_000_000
"""Of all that is read as `${…}` and put in its place in one run."""
_LONGEST_NAME = 200
REFERENCE = re.compile(rf"\$\{{([^}}]{{0,{_LONGEST_NAME}}})\}}")
"""Without the bound, many "${" would take the square of their number."""
AXIS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expand(document: Document) -> list[Values]:
    """Returns every combination that the matrix of an experiment file states; one empty one without a matrix.

    They come in the order of the file, the last axis varying fastest, then what is included.

    Raises:
        ExperimentError: every problem of the matrix.
    """
    if "matrix" not in document.data:
        return [{}]
    matrix = document.data["matrix"]
    problems = [document.problem(("matrix", *path), message) for path, message in _shape_problems(matrix)]
    if problems:
        raise ExperimentError(problems)
    axes = {axis: values for axis, values in matrix.items() if axis not in ("include", "exclude")}
    exclude, include = matrix.get("exclude", []), matrix.get("include", [])

    combinations = [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]
    excluded: set[int] = set()
    for i, wanted in enumerate(exclude):
        matching = {k for k, values in enumerate(combinations) if _matches(values, wanted)}
        excluded |= matching
        if not matching:
            problems.append(document.problem(("matrix", "exclude", i), "leaves nothing out"))
    kept: list[Values] = [values for k, values in enumerate(combinations) if k not in excluded] + include
    first: dict[str, Values] = {}
    for values in kept:
        if first.setdefault(repr(sorted(values.items())), values) is not values:
            message = f"states the run with {sanitize(label(values), 200)} twice"
            problems.append(document.problem(("matrix",), message))
    if not kept:
        problems.append(document.problem(("matrix", "exclude"), "leaves out every run"))
    if problems:
        raise ExperimentError(problems)
    return kept


def substitute(document: Document, values: Values) -> Document:
    """Returns the document without its matrix or its search, every `${name}` replaced by its value.

    A value that stands alone keeps its type. Inside a longer text the value is written into the text.

    Raises:
        ExperimentError: a name that there is no value for, or more than an experiment ever holds.
    """
    body = _body(document)
    references = sum(text.count("${") for text in texts_in(body))
    if references * (_LONGEST_NAME + len(repr(values))) > _MOST_LETTERS:
        raise ExperimentError([document.problem((), "expands too far, with long values in many places")])
    problems: list[tuple[KeyPath, str]] = []
    data = {key: _filled(value, (key,), values, problems) for key, value in body.items()}
    if problems:
        raise ExperimentError(document.problem(path, message) for path, message in problems)
    return Document(document.source, data, document.places)


def _filled(node: Any, path: KeyPath, values: Values, problems: list[tuple[KeyPath, str]]) -> Any:
    """Returns nested data with the references in its texts replaced; adds to the problems."""
    if isinstance(node, dict):
        return {key: _filled(value, (*path, key), values, problems) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, (*path, i), values, problems) for i, value in enumerate(node)]
    if not isinstance(node, str):
        return node
    try:
        return _filled_text(node, values)
    except LookupError as error:
        problems.append((path, str(error.args[0])))
        return node


def _filled_text(text: str, values: Values) -> Any:
    whole = REFERENCE.fullmatch(text)
    if whole:
        return copy.deepcopy(_value_of(whole[1], values))
    parts = REFERENCE.split(text)  # every other part is the name in a reference
    return "".join(format_value(_value_of(part, values)) if i % 2 else part for i, part in enumerate(parts))


def unused_axes(document: Document) -> list[str]:
    """Returns a problem for each axis that no `${…}` refers to."""
    matrix = document.data.get("matrix", {})
    return unused_names(
        document, ("matrix",), [axis for axis in matrix if axis not in ("include", "exclude")]
    )


def unused_names(document: Document, place: KeyPath, names: Iterable[str]) -> list[str]:
    """Returns a problem for each of the names of the map at `place` that no `${…}` refers to."""
    texts = texts_in(_body(document))
    used = {found.strip().partition(".")[0] for text in texts for found in REFERENCE.findall(text)}
    return [
        document.problem((*place, name), f"is never used; write ${{{sanitize(name)}}} where it belongs")
        for name in names
        if name not in used
    ]


def _body(document: Document) -> dict[str, Any]:
    """Returns everything but what says which runs there are."""
    return {key: value for key, value in document.data.items() if key not in ("matrix", "search")}


def texts_in(node: Any) -> Iterator[str]:
    """Yields every text in nested data that is a value."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from texts_in(value)


def label(values: Values) -> str:
    """Returns a combination in words: `mixer=cnn, ks=3`."""
    return ", ".join(f"{axis}={format_value(value)}" for axis, value in values.items())


def slug(values: Values) -> str:
    """Returns a combination as a part of a file name: `mixer-cnn_ks-3`."""
    parts = (f"{axis}-{format_value(value)}" for axis, value in values.items())
    return re.sub(r"[^A-Za-z0-9._,+-]+", "-", "_".join(parts))[:80].strip("-_")


def _shape_problems(matrix: Any) -> Iterator[tuple[KeyPath, str]]:
    """Yields what is wrong with the matrix before any combination is made."""
    if not isinstance(matrix, dict):
        yield (), f"must be a map of names and lists of values, not {describe_value(matrix)}"
        return
    axes = [axis for axis in matrix if axis not in ("include", "exclude")]
    if not axes:
        yield (), "has no axis; add one, such as 'seed: [0, 1, 2]'"
    if len(axes) > MOST_AXES:
        yield (), f"has {len(axes):,} axes, more than the {MOST_AXES} allowed"
        return
    count = 1
    for axis in axes:
        if not AXIS.fullmatch(axis):
            yield (axis,), f"must be a name of letters, digits and '_'{_meant_axis(axis)}"
        if axis in RESERVED_AXES:
            yield (axis,), "is a word that tables use; take another name"
        if not isinstance(matrix[axis], list) or not matrix[axis]:
            meant = _meant_axes(axis, matrix[axis]) or meant_list(matrix[axis])
            yield (axis,), f"must be a list of at least one value, not {describe_value(matrix[axis])}{meant}"
        else:
            count *= len(matrix[axis])
    if count > LARGEST_MATRIX:
        yield (), f"makes {count:,} runs, more than the {LARGEST_MATRIX:,} allowed"
    exclude = matrix.get("exclude", [])
    if isinstance(exclude, list) and count * len(exclude) > _MOST_COMPARISONS:
        most = _MOST_COMPARISONS // count
        yield ("exclude",), f"has {len(exclude):,} entries, more than the {most:,} allowed for {count:,} runs"
        return
    for kind in ("exclude", "include"):
        yield from _entry_problems(kind, matrix.get(kind, []), axes)


def _meant_axis(axis: str) -> str:
    """Returns how to state an axis that is called by a key, `model.mixer`; empty for another name."""
    name = axis.rpartition(".")[2]
    if not (name != axis and AXIS.fullmatch(name)):
        return ""
    return f"; state it as {sanitize(name)}, and {sanitize(axis)}: ${{{sanitize(name)}}}"


def _meant_axes(axis: str, value: Any) -> str:
    """Returns how to state the first axis of a map of them, as `matrix.model.mixer=…` makes; else nothing."""
    if not isinstance(value, dict) or not value:
        return ""
    return _meant_axis(f"{axis}.{next(iter(value))}")


def _entry_problems(kind: str, entries: Any, axes: list[str]) -> Iterator[tuple[KeyPath, str]]:
    if not isinstance(entries, list):
        yield (kind,), f"must be a list of maps, not {describe_value(entries)}"
        return
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield (kind, i), f"must be a map of axes and values, not {describe_value(entry)}"
            continue
        if not entry:
            yield (kind, i), "must name at least one axis"
        for axis in entry:
            if axis not in axes:
                yield (kind, i, axis), f"is no axis of this matrix{did_you_mean(axis, axes)}"
        missing = [axis for axis in axes if axis not in entry]
        if kind == "include" and missing:
            yield (kind, i), f"needs a value for {sanitize(' and '.join(missing), 200)} too"


def _matches(value: Any, wanted: Any) -> bool:
    """Returns whether `value` is what is wanted; of a map, only the keys that are wanted count."""
    if isinstance(value, dict) and isinstance(wanted, dict):
        return all(key in value and _matches(value[key], part) for key, part in wanted.items())
    return _same(value, wanted)


def _same(one: Any, other: Any) -> bool:
    """Returns whether two values are equal; true is not 1."""
    return repr(one) == repr(other)


def _value_of(reference: str, values: Values) -> Any:
    reference = reference.strip()
    axis, _, keys = reference.partition(".")
    if axis not in values:
        known = did_you_mean(axis, values) if values else "; this file has no matrix and no search"
        raise LookupError(f"'${{{sanitize(reference)}}}' refers to nothing{known}")
    value = values[axis]
    for key in keys.split(".") if keys else []:
        if not isinstance(value, dict) or key not in value:
            found = sanitize(format_value(value))
            raise LookupError(
                f"'${{{sanitize(reference)}}}': the value {found} of '{axis}' has no '{sanitize(key)}'"
            )
        value = value[key]
    return value
