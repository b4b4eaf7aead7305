"""The report: one HTML page that needs nothing but itself.

    Record ─┬─ result, values ───────────────▶ table, Pareto plot, effects, provenance ┐
            ├─ metrics.jsonl ────────────────▶ curves                                   ├─▶ page.html.j2
            └─ model, data ─▶ reconstructions, latent space, probe                      ┘   page.css, page.js

The page carries its data as JSON, its pictures as PNG inside it, and a policy that forbids it any request.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from mixcoder import __version__
from mixcoder.atomic_file import write_atomically
from mixcoder.data import ImageData, to_float
from mixcoder.data.images import epoch_draws
from mixcoder.errors import ArgumentError, MixcoderError, RunDirectoryError
from mixcoder.experiments.matrix import written
from mixcoder.experiments.results import Record, differing_keys, result_rows, settings_of, short_names
from mixcoder.experiments.run_directory import load
from mixcoder.json_file import check_plain_file
from mixcoder.models import Autoencoder
from mixcoder.report.curves import curve_points, run_colours, title_of
from mixcoder.report.latents import (
    encode_flat,
    gaussian_samples,
    interpolate,
    neighbour_accuracy,
    project,
)
from mixcoder.report.pictures import tile
from mixcoder.report.table import Column, columns_of, count, default_keys, known

PICTURES = 10
"""Validation images that every run reconstructs."""
_TRAINING_CODES = 5_000
_VALIDATION_CODES = 1_000
_POINTS = 600
_LINES, _STEPS = 4, 9
_SAMPLES = 36
_LONGEST_CONFIG = 250_000
"""Characters of a config that are shown: more than any that can be read has."""
_MADDS_A_RUN = 1e12
"""How much a run's latents may cost: some ten seconds."""

_Json = dict[str, Any]


def write_page(records: Sequence[Record], path: Path) -> None:
    """Writes the report of `records` to `path`, whole or not at all.

    Raises:
        ArgumentError: the path does not end in .html.
        WriteError: it cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("output", f"'{path}' does not end in .html")
    write_atomically(path, render_page(records).encode())


def render_page(records: Sequence[Record]) -> str:
    """The report of `records`, as HTML."""
    colours = run_colours(records)
    findings = [_look_at(record, data) for record, data in zip(records, _load_data(records), strict=True)]
    resources = files("mixcoder.report") / "templates"
    environment = Environment(
        loader=PackageLoader("mixcoder.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        name=title_of(records),
        version=__version__,
        css=(resources / "page.css").read_text(encoding="utf-8"),
        js=(resources / "page.js").read_text(encoding="utf-8"),
        summary=_summary(records),
        example=short_names(records)[0].partition(",")[0],
        table=_table(records, findings),
        runs=[
            {"id": i, "name": record.name, "colour": colour, "record": record, "finding": finding}
            for i, (record, colour, finding) in enumerate(zip(records, colours, findings, strict=True))
        ],
        originals=_originals(findings),
        same=_same_settings(records),
        notes=[finding.note for finding in findings if finding.note],
        provenance=[_provenance(record) for record in records],
        data=_embedded(
            {
                "runs": [
                    _run_data(*each)
                    for each in zip(records, short_names(records), colours, findings, strict=True)
                ],
                "effects": _effects(records),
            }
        ),
    )


@dataclass(frozen=True)
class _Finding:
    """What looking at a trained model gave; empty where there is no model, or no data, to look at.

    Attributes:
        images: originals and reconstructions as PNG addresses.
        latents: of the latent space, for the page's script.
        accuracy: of the nearest-neighbour probe.
        note: why there is nothing, where that is a surprise.
    """

    original: str = ""
    reconstruction: str = ""
    latents: _Json | None = None
    accuracy: float | None = None
    note: str = ""


def _load_data(records: Sequence[Record]) -> list[ImageData | MixcoderError | None]:
    """The data of each run that is done, loaded once for all runs that share it, or why it is not there."""
    loaded: dict[str, ImageData | MixcoderError] = {}
    runs = [record.run if record.state == "done" else None for record in records]
    for run in filter(None, runs):
        key = repr((run.data, run.root))
        if key not in loaded:
            try:
                loaded[key] = run.create_source().load()
            except MixcoderError as error:
                loaded[key] = error
    return [None if run is None else loaded[repr((run.data, run.root))] for run in runs]


def _look_at(record: Record, data: ImageData | MixcoderError | None) -> _Finding:
    if record.state != "done" or data is None:
        return _Finding()
    if isinstance(data, MixcoderError):
        return _Finding(note=f"{record.name}: {data}")
    try:
        model = load(record.directory.path)
    except MixcoderError as error:
        return _Finding(note=f"{record.name}: {error}")
    images = data.validation.images[_picture_indices(data)]
    with torch.inference_mode():
        copies = model(to_float(images)).clamp(0, 1)
    latents, accuracy = _latents(model, data, record.result.get("madds") or 1)
    return _Finding(
        original=_address(tile(to_float(images)[None])),
        reconstruction=_address(tile(copies[None])),
        latents=latents,
        accuracy=accuracy,
    )


def _picture_indices(data: ImageData) -> list[int]:
    """The first validation image of each label, then the first of all, ten together."""
    labels = data.validation.labels
    firsts = [] if labels is None else [int((labels == label).nonzero()[0]) for label in torch.unique(labels)]
    others = (i for i in range(len(data.validation)) if i not in firsts)
    chosen = firsts[:PICTURES]
    while len(chosen) < min(PICTURES, len(data.validation)):
        chosen.append(next(others))
    return chosen


def _latents(model: Autoencoder, data: ImageData, madds: int) -> tuple[_Json, float | None]:
    affordable = max(100, int(_MADDS_A_RUN / madds))
    seen = torch.arange(min(_TRAINING_CODES, affordable, len(data.train)))
    new = slice(min(_VALIDATION_CODES, affordable))
    codes = encode_flat(model, data.train.batch(seen, epoch_draws(len(seen), data.train.draws, 0, 0)))
    new_codes = encode_flat(model, data.validation.images[new])
    points, explained = project(new_codes)
    labels, new_labels = data.train.labels, data.validation.labels
    accuracy = None
    if labels is not None and new_labels is not None:
        accuracy = neighbour_accuracy(codes, labels[seen], new_codes, new_labels[new])
    indices = _picture_indices(data)
    pairs = [(indices[i], indices[-1 - i]) for i in range(min(_LINES, len(indices) // 2))]
    starts, ends = (data.validation.images[[pair[side] for pair in pairs]] for side in (0, 1))
    samples = gaussian_samples(model, codes, _SAMPLES)
    found = {
        "points": [[round(x, 4), round(y, 4)] for x, y in points[:_POINTS].tolist()],
        "labels": None if new_labels is None else new_labels[new][:_POINTS].tolist(),
        "explained": explained,
        "accuracy": accuracy,
        "interpolation": _address(tile(interpolate(model, starts, ends, _STEPS))) if pairs else "",
        "samples": _address(tile(samples.reshape(4, 9, *samples.shape[1:]))),  # (4, 9, C, H, W)
        "codes": len(codes),
        "dimensions": codes.shape[1],
    }
    return found, accuracy


def _address(picture: Image.Image) -> str:
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _summary(records: Sequence[Record]) -> _Json:
    """What the head of the page says in figures."""
    done = [record for record in records if record.state == "done"]
    best = min(done, key=lambda record: record.result["validation_loss"], default=None)
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


def _table(records: Sequence[Record], findings: Sequence[_Finding]) -> _Json:
    """Headings and cells: what they show, and by what they sort."""
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
    """A number as it is, anything else as it reads."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(value) if is_number else known(written)(value)


def _originals(findings: Sequence[_Finding]) -> list[str]:
    return list(dict.fromkeys(finding.original for finding in findings if finding.original))


def _same_settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The settings that all runs share."""
    settings = [settings_of(record.run) for record in records if record.run]
    differing = set(differing_keys(settings))
    stated = settings[0] if settings else {}
    return [(key, written(value)) for key, value in stated.items() if key not in differing]


def _effects(records: Sequence[Record]) -> list[_Json]:
    """For each thing in which the runs differ, its values and which runs have them."""
    effects: dict[str, dict[str, list[int]]] = {}
    for i, record in enumerate(records):
        for axis, value in record.values.items():
            effects.setdefault(axis, {}).setdefault(written(value), []).append(i)
    return [
        {"axis": axis, "values": [{"value": value, "runs": runs} for value, runs in values.items()]}
        for axis, values in effects.items()
        if len(values) > 1
    ]


def _provenance(record: Record) -> _Json:
    """Where a run's figures come from."""
    result = record.result
    versions, hardware = result.get("versions", {}), result.get("hardware", {})
    facts = {
        "finished": result.get("finished"),
        "versions": _facts(versions),
        "hardware": _facts(hardware),
        "data hash": result.get("data_hash"),
        "multiply-adds": known(count)(result.get("madds")),
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
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_LONGEST_CONFIG)
    except (OSError, RunDirectoryError):  # a run that has not begun, or has no file there
        return ""


def _run_data(record: Record, short_name: str, colour: str, finding: _Finding) -> _Json:
    """What the page's script draws of a run."""
    curves = curve_points(record)
    result = record.result
    return {
        "name": record.name,
        "short": short_name,
        "colour": colour,
        "state": record.state,
        "training": curves.training,
        "validation": curves.validation,
        "loss": result.get("validation_loss"),
        "params": result.get("params"),
        "madds": result.get("madds"),
        "minutes": result.get("train_minutes"),
        "latents": finding.latents,
    }


def _embedded(content: _Json) -> str:
    """JSON that may stand inside a script element whatever its texts hold."""
    text = json.dumps(content, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
