"""The listing of results that `mixcoder table` prints.

records ─▶ rows ─▶ where ─▶ average ─▶ sort ─▶ columns
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mixcoder.experiments.results.article import add_article
from mixcoder.experiments.results.columns import axes_of, columns_of, default_keys
from mixcoder.experiments.results.query import average_rows, check_key, filter_rows, sort_rows
from mixcoder.experiments.results.records import Record, result_rows
from mixcoder.text.table import Column


@dataclass(frozen=True)
class ListingOptions:
    """A choice of rows and columns of a listing.

    Attributes:
        where: conditions that every row fulfils, such as `mixer=cnn`.
        average: the axis to average over; None for no average.
        sort: the key to sort by, `-key` for the largest first; None for the order of the records.
        columns: the keys to show, separated by commas; None for the usual ones.
        has_article: whether the article's losses stand beside ours.
    """

    where: Sequence[str] = ()
    average: str | None = None
    sort: str | None = None
    columns: str | None = None
    has_article: bool = False


def list_results(
    records: Sequence[Record], options: ListingOptions = ListingOptions()
) -> tuple[list[dict[str, Any]], list[Column]]:
    """Returns the rows of a listing and its columns.

    Raises:
        ArgumentError: an option names a key or an axis that there is not.
    """
    rows, values = result_rows(records), [record.values for record in records]
    if options.has_article:
        add_article(rows, records)
    axes = axes_of(values)
    known = average_rows(rows, axes, options.average) if options.average else rows
    rows = filter_rows(rows, *options.where)
    if options.average:
        rows = average_rows(rows, axes, options.average)
    if options.sort:
        check_key("sort", options.sort.removeprefix("-"), known)
        rows = sort_rows(rows, options.sort)
    if options.columns is None:
        return rows, columns_of(default_keys(rows, values), values)
    keys = [key.strip() for key in options.columns.split(",")]
    for key in keys:
        check_key("columns", key, known)
    return [{key: row.get(key) for key in keys} for row in rows], columns_of(keys, values)
