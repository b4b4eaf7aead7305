"""Commands that list what runs have found: table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mixcoder.cli.options import (
    AgainstOption,
    AverageOption,
    Format,
    FormatOption,
    OverridesArgument,
    RunsOption,
    SourceArgument,
    WhereOption,
)
from mixcoder.cli.output import print_rows
from mixcoder.cli.selection import split_sources
from mixcoder.experiments.results.listing import ListingOptions, list_results
from mixcoder.experiments.results.records import read_all_records


def table(
    source: SourceArgument,
    overrides: OverridesArgument = None,
    runs: RunsOption = Path("runs"),
    where: WhereOption = None,
    sort: Annotated[str | None, typer.Option(help="key to sort by; -KEY for the largest first")] = None,
    columns: Annotated[str | None, typer.Option(help="keys to show, separated by commas")] = None,
    average: AverageOption = None,
    against: AgainstOption = None,
    format: FormatOption = Format.text,
) -> None:
    """Print the results of an experiment file, or of all runs in a folder."""
    records = read_all_records(*split_sources(source, overrides), runs)
    options = ListingOptions(where or [], average, sort, columns or None, has_article=against is not None)
    print_rows(*list_results(records, options), format)
