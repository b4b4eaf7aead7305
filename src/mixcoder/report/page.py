"""The report: one HTML page that needs nothing but itself.

    Record ─┬─ result, values ───────────────▶ table, Pareto plot, effects, provenance ┐
            ├─ metrics.jsonl ────────────────▶ curves                                   ├─▶ page.html.j2
            └─ model, data ─▶ reconstructions, latent space, probe                      ┘   page.css, page.js

The page carries its data as JSON, its pictures as PNG inside it, and a policy that forbids it any request.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mixcoder import __version__
from mixcoder.errors import ArgumentError, MixcoderError
from mixcoder.experiments.results.columns import columns_of, default_keys
from mixcoder.experiments.results.records import (
    Record,
    differing_keys,
    result_rows,
    short_names,
    title_of,
)
from mixcoder.experiments.runs.run_data import MayOpen, allow_local
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.json_file import check_plain_file
from mixcoder.measures import COSTS, measure
from mixcoder.report.chart_data import (
    COST_MARGIN,
    LABEL_PLACES,
    LOSS_MARGIN,
    ChartRun,
    chart_runs,
    pareto_order,
)
from mixcoder.report.cost_points import EACH_RUN, CostOptions, CostPoint, cost_points, mark_legend
from mixcoder.report.findings import Finding, examine_models
from mixcoder.report.search_story import SearchStory
from mixcoder.text.sanitize import sanitize_page
from mixcoder.text.table import Column
from mixcoder.text.values import format_value, is_number, strict_json

_LONGEST_CONFIG = 250_000
"""Bytes of a config that are shown: more than any that can be read has."""
_Json = dict[str, Any]


def write_page(
    records: Sequence[Record],
    path: Path,
    may_open: MayOpen = allow_local,
    options: CostOptions = EACH_RUN,
    search: SearchStory | None = None,
) -> None:
    """Writes the report of `records` to `path`, whole or not at all.

    Args:
        records: at least one.
        path: ends in .html.
        may_open: which data may be opened, for reconstructions and latent spaces.
        options: what the marks in the plots of costs are.
        search: what there is to say of the search that the records are of.

    Raises:
        ArgumentError: the path does not end in .html, or the options do not fit.
        WriteError: it cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("output", f"'{path}' does not end in .html")
    write_atomically(path, render_page(records, may_open, options, search).encode())


def render_page(
    records: Sequence[Record],
    may_open: MayOpen = allow_local,
    options: CostOptions = EACH_RUN,
    search: SearchStory | None = None,
) -> str:
    """Returns the report of `records` as HTML; arguments as for `write_page`."""
    environment = Environment(
        loader=PackageLoader("mixcoder.report", "templates"),
        autoescape=True,
        finalize=_safe,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts, points = chart_runs(records), cost_points(records, options)
    findings = _examine(records, may_open, search)
    resources = files("mixcoder.report") / "templates"
    return environment.get_template("page.html.j2").render(
        _content(records, charts, findings) | _search_content(records, search),
        legend=mark_legend(points, options),
        version=__version__,
        css=(resources / "page.css").read_text(encoding="utf-8"),
        js=(resources / "page.js").read_text(encoding="utf-8"),
        data=_embedded(
            {**_script_data(records, charts, findings, points), "search": search and search.charts}
        ),
    )


def _content(records: Sequence[Record], charts: Sequence[ChartRun], findings: Sequence[Finding]) -> _Json:
    """Returns what the template shows itself, without the script."""
    return {
        "name": title_of(records),
        "example": short_names(records)[0].partition(",")[0],
        "table": _table(records, findings),
        "runs": [
            {"id": i, "name": record.name, "colour": chart.colour, "record": record, "finding": finding}
            for i, (record, chart, finding) in enumerate(zip(records, charts, findings, strict=True))
        ],
        "costs": COSTS,
        "originals": list(dict.fromkeys(finding.original for finding in findings if finding.original)),
        "has_latents": any(finding.latents for finding in findings),
        "same": _same_settings(records),
        "notes": _notes(records, findings),
        "provenance": [_provenance(record) for record in records],
    }


def _examine(records: Sequence[Record], may_open: MayOpen, search: SearchStory | None) -> list[Finding]:
    """Returns what the models of the records make of their data; of a search, those of its best alone."""
    if search is None:
        return examine_models(records, may_open)
    numbers = sorted(search.examined)
    found = examine_models([records[i] for i in numbers], may_open)
    by_number = dict(zip(numbers, found, strict=True))
    return [by_number.get(i, Finding()) for i in range(len(records))]


def _search_content(records: Sequence[Record], search: SearchStory | None) -> _Json:
    """Returns what the template shows of a search; the best run is then that of its winner."""
    summary = _summary(records)
    if search:
        summary["best"] = None if search.best is None else records[search.best]
    return {"search": search, "summary": summary}


def _script_data(
    records: Sequence[Record],
    charts: Sequence[ChartRun],
    findings: Sequence[Finding],
    points: Sequence[CostPoint],
) -> _Json:
    """Returns what the page's script draws."""
    runs = zip(records, short_names(records), charts, findings, strict=True)
    return {
        "runs": [_run_data(*each) for each in runs],
        "points": [_point_data(point) for point in points],
        "costs": {
            cost: {
                "axis": measure.cost_axis,
                "order": pareto_order([(point.costs[cost], point.loss) for point in points]),
            }
            for cost, measure in COSTS.items()
        },
        "margins": [COST_MARGIN, LOSS_MARGIN],
        "places": LABEL_PLACES,
        "effects": _effects(records),
    }


def _point_data(point: CostPoint) -> _Json:
    return {
        "name": sanitize_page(point.name),
        "colour": point.colour,
        "loss": point.loss,
        "std": point.std,
        "costs": point.costs,
        "runs": point.runs,
        "named": point.is_named,
    }


def _run_data(record: Record, short_name: str, chart: ChartRun, finding: Finding) -> _Json:
    return {
        "name": sanitize_page(record.name),
        "short": sanitize_page(short_name),
        "colour": chart.colour,
        "state": record.state,
        "training": chart.curves.training,
        "validation": chart.curves.validation,
        "limits": chart.curves.limits,
        "loss": chart.loss,
        "latents": finding.latents,
    }


def _safe(value: Any) -> Any:
    """Returns a value for the template: every text made safe, before its characters are escaped for HTML."""
    return value if isinstance(value, Markup) else sanitize_page(str(value))


def _notes(records: Sequence[Record], findings: Sequence[Finding]) -> list[str]:
    """Returns why runs that are done have no pictures, each reason once."""
    names: dict[str, list[str]] = {}
    for record, finding in zip(records, findings, strict=True):
        if record.state == "done" and finding.note:
            names.setdefault(finding.note, []).append(record.name)
    return [f"Without pictures: {'; '.join(runs)}. Why: {note}." for note, runs in names.items()]


def _summary(records: Sequence[Record]) -> _Json:
    """Returns the figures in the head of the page."""
    done = [record for record in records if record.state == "done"]
    finite = [record for record in done if math.isfinite(record.result["validation_loss"])]
    best = min(finite, key=lambda record: record.result["validation_loss"], default=None)
    states = [record.state for record in records]
    return {
        "sources": " and ".join(dict.fromkeys(record.run.data[0] for record in records if record.run)),
        "total": len(records),
        "states": {state: states.count(state) for state in dict.fromkeys(states)},
        "best": best,
        "minutes": sum(record.result.get("train_minutes") or 0.0 for record in done),
        "inputs": sum(record.result.get("inputs") or 0 for record in done),
    }


_ACCURACY = Column("neighbour_accuracy", "5-NN accuracy", lambda share: f"{share:.1%}", is_number=True)


def _table(records: Sequence[Record], findings: Sequence[Finding]) -> _Json:
    """Returns headings and cells: their texts, and the keys by which they sort."""
    rows = result_rows(records)
    values = [record.values for record in records]
    keys = [key for key in default_keys(rows, values) if key != "reason"]  # which stands by the state
    columns = columns_of(keys, values)
    if any(finding.accuracy is not None for finding in findings):
        place = next(i for i, column in enumerate(columns) if column.key == "validation_loss") + 1
        columns.insert(place, _ACCURACY)
        for row, finding in zip(rows, findings, strict=True):
            row[_ACCURACY.key] = finding.accuracy
    return {
        "columns": columns,
        "rows": [
            [
                {"text": column.text(row), "sort": _sort_key(row.get(column.key)), "column": column}
                for column in columns
            ]
            for row in rows
        ],
    }


def _sort_key(value: Any) -> str:
    """Returns a number in full, anything else as its text."""
    if is_number(value):
        return repr(value)
    return "" if value is None else format_value(value)


def _same_settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Returns the settings that all runs share."""
    settings = [record.run.settings() for record in records if record.run]
    differing = set(differing_keys(settings))
    stated = settings[0] if settings else {}
    return [(key, format_value(value)) for key, value in stated.items() if key not in differing]


def _effects(records: Sequence[Record]) -> list[_Json]:
    """Returns for each setting in which the runs differ its values, each with its runs."""
    effects: dict[str, dict[str, list[int]]] = {}
    for i, record in enumerate(records):
        for axis, value in record.values.items():
            effects.setdefault(axis, {}).setdefault(format_value(value), []).append(i)
    return [
        {
            "axis": sanitize_page(axis),
            "values": [{"value": sanitize_page(value), "runs": runs} for value, runs in values.items()],
        }
        for axis, values in effects.items()
        if len(values) > 1
    ]


def _provenance(record: Record) -> _Json:
    """Returns where a run's figures come from."""
    result = record.result
    versions, hardware, madds = result.get("versions", {}), result.get("hardware", {}), result.get("madds")
    facts = {
        "finished": result.get("finished"),
        "versions": _facts(versions),
        "hardware": _facts(hardware),
        "data hash": result.get("data_hash"),
        measure("madds").heading: None if madds is None else measure("madds").format(madds),
        "directory": record.directory.path.name,
        "reason": record.reason,
    }
    return {
        "name": record.name,
        "state": record.state,
        "facts": {key: value for key, value in facts.items() if value},
        "config": _config_text(record),
    }


def _facts(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _config_text(record: Record) -> str:
    path = record.directory.path / "config.yml"
    try:
        check_plain_file(path)
        with path.open("rb") as file:
            return file.read(_LONGEST_CONFIG).decode("utf-8", errors="replace")
    except (OSError, MixcoderError):  # a run that has not begun, or has no file there
        return ""


def _embedded(content: _Json) -> str:
    """Returns JSON that may stand inside a script element whatever its texts hold."""
    text = json.dumps(strict_json(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
