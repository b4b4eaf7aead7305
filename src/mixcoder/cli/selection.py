"""The runs that a command is about."""

from __future__ import annotations

from pathlib import Path

from mixcoder.errors import ArgumentError
from mixcoder.experiments.results.query import filter_rows
from mixcoder.experiments.results.records import Record, read_records, result_rows
from mixcoder.experiments.runs.run_directory import RunDirectory, find_run
from mixcoder.models.named import is_trained_name


def select_records(
    source: Path, overrides: list[str] | None, runs: Path, conditions: list[str] | None
) -> list[Record]:
    """Returns the records for which every condition holds.

    Raises:
        ArgumentError: there is none.
    """
    records = read_records(source, overrides or [], runs)
    rows = result_rows(records)
    kept = {id(row) for row in filter_rows(rows, *(conditions or []))}
    records = [record for record, row in zip(records, rows, strict=True) if id(row) in kept]
    if not records:
        raise ArgumentError("where", f"no run fits {' and '.join(conditions or [])}")
    return records


def select_run(folder: Path, conditions: list[str] | None) -> RunDirectory:
    """Returns the finished run at or below a folder: the one for which every condition holds.

    Args:
        folder: of runs; or the name of a trained model, which is one run.
        conditions: of the run.

    Raises:
        ArgumentError: the conditions hold for several runs, or for none.
    """
    if not conditions:
        return find_run(folder)
    if is_trained_name(str(folder)) and not folder.exists():
        raise ArgumentError("where", f"'{folder}' is one trained model, not several runs; leave out --where")
    records = select_records(folder, None, folder, conditions)
    if len(records) > 1:
        names = "; ".join(record.name for record in records)
        raise ArgumentError("where", f"{len(records)} runs fit {' and '.join(conditions)}: {names}")
    return records[0].directory
