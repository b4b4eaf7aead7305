"""The report: one HTML page that needs nothing but itself.

    Record ─┬─ result, values ───────────────▶ table, Pareto plot, effects, provenance ┐
            ├─ metrics.jsonl ────────────────▶ curves                                   ├─▶ page.html.j2
            └─ model, data ─▶ reconstructions, latent space, probe                      ┘   page.css, page.js

The page carries its data as JSON, its pictures as PNG inside it, and a policy that forbids it any request.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mixcoder import __version__
from mixcoder.data import ImageData, to_float
from mixcoder.data.split import epoch_draws
from mixcoder.errors import ArgumentError, MixcoderError, first_line
from mixcoder.experiments.results.columns import columns_of, default_keys
from mixcoder.experiments.results.records import Record, differing_keys, result_rows, short_names
from mixcoder.experiments.runs.run_data import MayOpen, at_hand, load_run_data
from mixcoder.experiments.runs.run_directory import load
from mixcoder.images.pictures import tile
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.json_file import check_plain_file
from mixcoder.models import Autoencoder
from mixcoder.report.figures import curve_points, is_drawable, run_colours, title_of
from mixcoder.report.latents import (
    encode_flat,
    gaussian_samples,
    interpolate,
    neighbour_accuracy,
    project,
)
from mixcoder.text.sanitize import sanitize_page
from mixcoder.text.table import Column
from mixcoder.text.values import format_count, format_value, is_number, strict_json

PICTURES = 10
"""Validation images that every run reconstructs."""
_TRAINING_CODES = 5_000
_VALIDATION_CODES = 1_000
_POINTS = 600
_LINES, _STEPS = 4, 9
_SAMPLES = 36
_LONGEST_CONFIG = 250_000
"""Bytes of a config that are shown: more than any that can be read has."""
_MADDS_A_RUN = 1e12
"""How much a run's latents may cost: some ten seconds."""

_Json = dict[str, Any]


def write_page(records: Sequence[Record], path: Path, may_open: MayOpen = at_hand) -> None:
    """Writes the report of `records` to `path`, whole or not at all.

    Args:
        records: at least one.
        path: ends in .html.
        may_open: which data may be opened, for reconstructions and latent spaces.

    Raises:
        ArgumentError: the path does not end in .html.
        WriteError: it cannot be written.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ArgumentError("output", f"'{path}' does not end in .html")
    write_atomically(path, render_page(records, may_open).encode())


def render_page(records: Sequence[Record], may_open: MayOpen = at_hand) -> str:
    """The report of `records`, as HTML; arguments as for `write_page`."""
    colours = run_colours(records)
    loaded = _load_data(records, may_open)
    findings = [_look_at(record, data) for record, data in zip(records, loaded, strict=True)]
    resources = files("mixcoder.report") / "templates"
    environment = Environment(
        loader=PackageLoader("mixcoder.report", "templates"),
        autoescape=True,
        finalize=_safe,
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
        has_latents=any(finding.latents for finding in findings),
        same=_same_settings(records),
        notes=_notes(records, findings),
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
        note: why there is nothing, where that is a surprise.
    """

    original: str = ""
    reconstruction: str = ""
    latents: _Json | None = None
    note: str = ""

    @property
    def accuracy(self) -> float | None:
        """Of the nearest-neighbour probe."""
        return self.latents["accuracy"] if self.latents else None


class _Loaded(NamedTuple):
    """Images, and what tells whether they are those of a result."""

    data: ImageData
    content_hash: str


def _safe(value: Any) -> Any:
    """What the template shows: every text by others made safe, before its characters are escaped for HTML."""
    return value if isinstance(value, Markup) else sanitize_page(str(value))


def _load_data(records: Sequence[Record], may_open: MayOpen) -> list[_Loaded | str]:
    """The data of each run that is done, loaded once for all that share it, or why it is not there."""
    loaded: dict[str, _Loaded | str] = {}
    runs = [record.run if record.state == "done" else None for record in records]
    for run in filter(None, runs):
        key = repr((run.data, run.root))
        if key not in loaded:
            try:
                data = load_run_data(run, may_open)
                loaded[key] = _Loaded(data, data.content_hash())
            except Exception as error:  # a plugin's own data source may raise anything; the report goes on
                loaded[key] = _reason(error)
    return ["" if run is None else loaded[repr((run.data, run.root))] for run in runs]


def _look_at(record: Record, loaded: _Loaded | str) -> _Finding:
    if record.state != "done" or isinstance(loaded, str):
        return _Finding(note=loaded if isinstance(loaded, str) else "")
    if record.result.get("data_hash") not in (None, loaded.content_hash):
        return _Finding(note="its data is not what it was when the model was trained")
    data = loaded.data
    try:
        model = load(record.directory.path)
        images = data.validation.images[_picture_indices(data)]
        if tuple(images.shape[1:]) != tuple(model.image_shape):
            shape = " x ".join(map(str, images.shape[1:]))
            return _Finding(note=f"the model does not take the images of its data, {shape}")
        with torch.inference_mode():
            copies = model(to_float(images)).clamp(0, 1)
        return _Finding(
            original=_address(tile(to_float(images)[None])),
            reconstruction=_address(tile(copies[None])),
            latents=_latents(model, data, record.result.get("madds") or 1),
        )
    except Exception as error:  # a plugin's own layer may raise anything; the report goes on
        return _Finding(note=_reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MixcoderError) else f"{type(error).__name__}: {first_line(error)}"


def _notes(records: Sequence[Record], findings: Sequence[_Finding]) -> list[str]:
    """Why runs that are done have no pictures, each reason once."""
    names: dict[str, list[str]] = {}
    for record, finding in zip(records, findings, strict=True):
        if record.state == "done" and finding.note:
            names.setdefault(finding.note, []).append(record.name)
    return [f"Without pictures: {'; '.join(runs)}. Why: {note}." for note, runs in names.items()]


def _picture_indices(data: ImageData) -> list[int]:
    """The first validation image of each label, then the first of all, ten together."""
    labels = data.validation.labels
    firsts = [] if labels is None else [int((labels == label).nonzero()[0]) for label in torch.unique(labels)]
    others = (i for i in range(len(data.validation)) if i not in firsts)
    chosen = firsts[:PICTURES]
    while len(chosen) < min(PICTURES, len(data.validation)):
        chosen.append(next(others))
    return chosen


def _latents(model: Autoencoder, data: ImageData, madds: int) -> _Json | None:
    """What the page shows of a latent space; None of one whose codes are no numbers."""
    affordable = max(100, int(_MADDS_A_RUN / madds))
    seen = torch.arange(min(_TRAINING_CODES, affordable, len(data.train)))
    new = slice(min(_VALIDATION_CODES, affordable))
    codes = encode_flat(model, data.train.batch(seen, epoch_draws(len(seen), data.train.draws, 0, 0)))
    new_codes = encode_flat(model, data.validation.images[new])
    if not (codes.isfinite().all() and new_codes.isfinite().all()):
        return None
    points, explained = project(new_codes)
    labels, new_labels = data.train.labels, data.validation.labels
    accuracy = None
    if labels is not None and new_labels is not None and codes.shape[1]:
        accuracy = neighbour_accuracy(codes, labels[seen], new_codes, new_labels[new])
    samples = gaussian_samples(model, codes, _SAMPLES)
    return {
        "points": [[round(x, 4), round(y, 4)] for x, y in points[:_POINTS].tolist()],
        "labels": None if new_labels is None else new_labels[new][:_POINTS].tolist(),
        "explained": explained,
        "accuracy": accuracy,
        "interpolation": _lines(model, data),
        "samples": _address(tile(samples.reshape(4, 9, *samples.shape[1:]))),  # (4, 9, C, H, W)
        "codes": len(codes),
        "dimensions": codes.shape[1],
    }


def _lines(model: Autoencoder, data: ImageData) -> str:
    """The picture of lines between validation images; empty where there are not two of them."""
    indices = _picture_indices(data)
    pairs = [(indices[i], indices[-1 - i]) for i in range(min(_LINES, len(indices) // 2))]
    if not pairs:
        return ""
    starts, ends = (data.validation.images[[pair[side] for pair in pairs]] for side in (0, 1))
    return _address(tile(interpolate(model, starts, ends, _STEPS)))


def _address(picture: Image.Image) -> str:
    content = BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _summary(records: Sequence[Record]) -> _Json:
    """What the head of the page says in figures."""
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
    if is_number(value):
        return repr(value)
    return "" if value is None else format_value(value)


def _originals(findings: Sequence[_Finding]) -> list[str]:
    return list(dict.fromkeys(finding.original for finding in findings if finding.original))


def _same_settings(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The settings that all runs share."""
    settings = [record.run.settings() for record in records if record.run]
    differing = set(differing_keys(settings))
    stated = settings[0] if settings else {}
    return [(key, format_value(value)) for key, value in stated.items() if key not in differing]


def _effects(records: Sequence[Record]) -> list[_Json]:
    """For each thing in which the runs differ, its values and which runs have them."""
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
    """Where a run's figures come from."""
    result = record.result
    versions, hardware, madds = result.get("versions", {}), result.get("hardware", {}), result.get("madds")
    facts = {
        "finished": result.get("finished"),
        "versions": _facts(versions),
        "hardware": _facts(hardware),
        "data hash": result.get("data_hash"),
        "multiply-adds": None if madds is None else format_count(madds),
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


def _run_data(record: Record, short_name: str, colour: str, finding: _Finding) -> _Json:
    """What the page's script draws of a run."""
    curves = curve_points(record)
    result = record.result
    return {
        "name": sanitize_page(record.name),
        "short": sanitize_page(short_name),
        "colour": colour,
        "state": record.state,
        "training": curves.training,
        "validation": curves.validation,
        "loss": _drawn(result.get("validation_loss")),
        "params": _drawn(result.get("params")),
        "madds": _drawn(result.get("madds")),
        "minutes": _drawn(result.get("train_minutes")),
        "latents": finding.latents,
    }


def _drawn(value: Any) -> Any:
    """A figure of a result for a logarithmic axis; None for one that is not there or cannot be shown."""
    return value if is_drawable(value) else None


def _embedded(content: _Json) -> str:
    """JSON that may stand inside a script element whatever its texts hold."""
    text = json.dumps(strict_json(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
