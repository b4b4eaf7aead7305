"""Rows of results chosen by conditions, averaged over an axis and sorted."""

from __future__ import annotations

import math
import operator
import re
import statistics
from collections.abc import Callable, Collection, Sequence
from typing import Any

from mixcoder.errors import ArgumentError, did_you_mean
from mixcoder.experiments.file.yaml_file import parse_value
from mixcoder.measures import COMPARISONS, MEASURES
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import format_value, is_number

Row = dict[str, Any]

_CONDITION = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|!=|=|<|>)(?![=<>])\s*(.*?)\s*", re.S)
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_AVERAGED = tuple(measure.key for measure in (*MEASURES, *COMPARISONS) if measure.is_averaged)


def filter_rows(rows: Sequence[Row], *conditions: str) -> list[Row]:
    """Returns the rows that fulfil every condition, such as `mixer=cnn`, `ks>=5` or `state!=failed`.

    Raises:
        ArgumentError: one is no condition, or names a key that no row has.
    """
    tests = [_condition(condition, rows) for condition in conditions]
    return [row for row in rows if all(_holds(row.get(key), sign, wanted) for key, sign, wanted in tests)]


def _condition(condition: str, rows: Sequence[Row]) -> tuple[str, str, Any]:
    """Returns key, comparison and value of a condition."""
    found = _CONDITION.fullmatch(condition)
    if not found:
        raise ArgumentError(
            "where", f"'{sanitize(condition)}' must be a key, one of = != < <= > >=, and a value"
        )
    key, sign, text = found.groups()
    check_key("where", key, rows)
    return key, sign, parse_value(text, f"command line, '{sanitize(condition)}'")


def sort_rows(rows: Sequence[Row], key: str) -> list[Row]:
    """Returns the rows by the value of `key`, the smallest first; with `-key` the largest. None comes last.

    Raises:
        ArgumentError: no row has the key.
    """
    name = key.removeprefix("-")
    check_key("sort", name, rows)
    present = [row for row in rows if not _is_missing(row.get(name))]
    values = [row[name] for row in present]
    if not all(map(is_number, values)):
        values = list(map(format_value, values))
    order = sorted(range(len(present)), key=values.__getitem__, reverse=key.startswith("-"))
    return [present[i] for i in order] + [row for row in rows if _is_missing(row.get(name))]


def average_rows(rows: Sequence[Row], axes: Sequence[str], over: str) -> list[Row]:
    """Returns one row for all rows that differ in the axis `over` alone.

    Args:
        rows: of results.
        axes: the names of all axes.
        over: the axis that is averaged over.

    Returns:
        Rows with the other axes, `n` (how many results), the means, and `validation_loss_std`: the
        standard deviation of the sample, None of a single one. The rows of unreadable runs, whose axes are
        unknown, follow as they are.

    Raises:
        ArgumentError: there is no such axis.
    """
    readable = [row for row in rows if row["state"] != "unreadable"]
    unreadable = [row for row in rows if row["state"] == "unreadable"]
    groups = groups_over(readable, axes, over)
    return [_average([readable[i] for i in group], over) for group in groups] + unreadable


def groups_over(rows: Sequence[Row], axes: Collection[str], over: str) -> list[tuple[int, ...]]:
    """Returns the places of the rows that differ in the axis `over` alone, a group after the other.

    Args:
        rows: with a value for each of their axes.
        axes: the names of all axes.
        over: the axis that is averaged over.

    Raises:
        ArgumentError: there is no such axis; suggests the nearest one.
    """
    if over not in axes:
        raise ArgumentError("average", f"'{over}' is no axis of the matrix{did_you_mean(over, axes)}")
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(repr([row.get(axis) for axis in axes if axis != over]), []).append(i)
    return [tuple(group) for group in groups.values()]


def _average(group: Sequence[Row], over: str) -> Row:
    done = [row for row in group if row["state"] == "done"]
    row = {key: value for key, value in (done or group)[0].items() if key not in (over, "run", "reason")}
    losses = [each["validation_loss"] for each in done]
    row |= {
        key: _mean([each[key] for each in done if each[key] is not None])
        for key in _AVERAGED
        if key in group[0]
    }
    row["state"] = f"{len(done)} of {len(group)} done"
    row["n"] = len(done)
    row["validation_loss_std"] = statistics.stdev(losses) if len(losses) > 1 else None
    return row


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def check_key(option: str, key: str, rows: Sequence[Row]) -> None:
    """Checks that some row has a key.

    Raises:
        ArgumentError: names the option and what would be right.
    """
    keys = {known for row in rows for known in row}
    if rows and key not in keys:
        raise ArgumentError(option, f"there is no '{key}'{did_you_mean(key, keys)}")


def _holds(value: Any, sign: str, wanted: Any) -> bool:
    numeric = is_number(value) and is_number(wanted)
    if sign in ("=", "!="):
        is_same = (numeric and value == wanted) or format_value(value) == format_value(wanted)
        return is_same == (sign == "=")
    if _is_missing(value) or _is_missing(wanted) or is_number(value) != is_number(wanted):
        return False
    return _COMPARISONS[sign](*((value, wanted) if numeric else (format_value(value), format_value(wanted))))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
