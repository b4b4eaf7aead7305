"""The runs that a command is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mixcoder.errors import ArgumentError
from mixcoder.experiments.results.query import filter_rows
from mixcoder.experiments.results.records import Record, read_all_records, result_rows
from mixcoder.experiments.runs.run_directory import RunDirectory, find_run
from mixcoder.models.named import is_trained_name


def split_sources(source: Path, others: Sequence[str] | None) -> tuple[list[Path], list[str]]:
    """Returns the sources of a command line, each once, and its overrides.

    Args:
        source: the first one.
        others: what follows it. A file or folder that exists is a source, all else an override.
    """
    more = [other for other in others or [] if "=" not in other and Path(other).exists()]
    overrides = [other for other in others or [] if other not in more]
    return list(dict.fromkeys([source, *map(Path, more)])), overrides


def select_records(
    sources: tuple[Sequence[Path], Sequence[str]], runs: Path, conditions: list[str] | None
) -> list[Record]:
    """Returns the records for which every condition holds.

    Args:
        sources: those of the command line and its overrides, as `split_sources` returns them.
        runs: the folder of all run directories.
        conditions: such as `mixer=cnn`.

    Raises:
        ArgumentError: there is none.
    """
    records = read_all_records(*sources, runs)
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
    records = select_records(([folder], []), folder, conditions)
    if len(records) > 1:
        names = "; ".join(record.name for record in records)
        raise ArgumentError("where", f"{len(records)} runs fit {' and '.join(conditions)}: {names}")
    return records[0].directory
