"""The columns of a table of results, and of the measures in any other table."""

from __future__ import annotations

from collections.abc import Sequence

from mixcoder.experiments.file.matrix import Values
from mixcoder.measures import COMPARISONS, MEASURES, Measure, was_better_before
from mixcoder.text.table import Column, Row, markdown_table
from mixcoder.text.values import format_count, format_value, is_number


def _column(measure: Measure) -> Column:
    heading = f"{measure.heading} ({measure.unit})" if measure.unit else measure.heading
    return Column(measure.key, heading, measure.format, measure.is_number, measure.is_vital)


MEASURE_COLUMNS = {measure.key: _column(measure) for measure in (*MEASURES, *COMPARISONS)}
"""The column of each measure by its key."""

_COMPARED_WITH = {
    "validation_loss": ("validation_loss_std",),
    "best_validation_loss": ("article_validation_loss", "difference"),
}
"""Comparisons, by the measure after which they stand."""
_FIGURES = tuple(
    MEASURE_COLUMNS[key]
    for measure in MEASURES
    for key in (measure.key, *_COMPARED_WITH.get(measure.key, ()))
)
RESULT_COLUMNS = (
    Column("run", "run"),
    Column("n", "n", format_count, is_number=True),
    *_FIGURES,
    Column("state", "state", is_vital=True),
    Column("reason", "reason"),
)
"""The columns of a table of results besides the values that tell its runs apart."""

_ON_REQUEST = {"run", "reason", *(measure.key for measure in MEASURES if measure.is_shown == "on request")}
_IF_KNOWN = {measure.key for measure in MEASURES if measure.is_shown == "if known"}


def value_columns(rows: Sequence[Values]) -> list[Column]:
    """Returns a column for each of the values that tell runs apart, such as the axes of a matrix."""
    return [
        Column(
            axis, axis, format_value, is_number=all(map(is_number, (values.get(axis, 0) for values in rows)))
        )
        for axis in axes_of(rows)
    ]


def axes_of(rows: Sequence[Values]) -> list[str]:
    """Returns the names of the values that tell runs apart."""
    return list(dict.fromkeys(axis for values in rows for axis in values))


def default_keys(rows: Sequence[Row], values: Sequence[Values]) -> list[str]:
    """Returns the keys that a table of results shows unasked.

    Args:
        rows: of results, perhaps averaged or with the article's figures.
        values: what tells the runs apart.
    """
    stated = {key for row in rows for key in row}
    axes = [axis for axis in axes_of(values) if axis in stated]
    hidden = {"state", *_ON_REQUEST} if all(row["state"] == "done" for row in rows) else _ON_REQUEST
    if any(row["state"] == "unreadable" for row in rows):
        hidden = hidden - {"run", "reason"}
    if any(map(was_better_before, rows)):
        hidden = hidden - {"best_validation_loss", "best_inputs"}
    hidden = hidden | {key for key in _IF_KNOWN if not any(row.get(key) is not None for row in rows)}
    figures = [column.key for column in RESULT_COLUMNS if column.key in stated and column.key not in hidden]
    return list(dict.fromkeys([*(axes or ["run"]), *figures]))


def columns_of(keys: Sequence[str], values: Sequence[Values]) -> list[Column]:
    """Returns the columns for `keys` of result rows whose runs are told apart by `values`."""
    by_key = {column.key: column for column in (*RESULT_COLUMNS, *value_columns(values))}
    return [by_key[key] for key in keys]


def measures_markdown() -> str:
    """Returns a Markdown table of all measures, for the documents."""
    columns = [Column(key, key) for key in ("key", "heading", "better", "shown", "TensorBoard", "meaning")]
    cells = [
        (
            f"`{measure.key}`",
            MEASURE_COLUMNS[measure.key].heading,
            measure.better,
            measure.is_shown,
            f"`{measure.tag}`" if measure.tag else "",
            measure.meaning,
        )
        for measure in (*MEASURES, *COMPARISONS)
    ]
    return markdown_table(cells, columns) + "\n"
