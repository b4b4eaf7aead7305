"""What trained models make of their data: the reconstructions and latent spaces of a report.

records ─▶ data, loaded once for all runs that share it ─┐
        └▶ models ───────────────────────────────────────┴─▶ Finding: pictures, latent space, or why not
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import torch
from PIL import Image

from mixcoder.data import ImageData, to_float
from mixcoder.data.split import epoch_draws
from mixcoder.errors import MixcoderError, first_line
from mixcoder.experiments.results.records import Record
from mixcoder.experiments.runs.run_data import MayOpen, load_run_data
from mixcoder.experiments.runs.run_directory import load
from mixcoder.models import Autoencoder
from mixcoder.pixels.pictures import tile
from mixcoder.report.latents import (
    encode_flat,
    gaussian_samples,
    interpolate,
    neighbour_accuracy,
    project,
)
from mixcoder.text.values import format_shape

PICTURES = 10
"""Validation images that every run reconstructs."""
_TRAINING_LATENTS = 5_000
_VALIDATION_LATENTS = 1_000
_POINTS = 600
_LINES, _STEPS = 4, 9
_SAMPLES = 36
_MADDS_A_RUN = 1e12
"""How much a run's latents may cost: some ten seconds."""


@dataclass(frozen=True)
class Finding:
    """A look at a trained model; empty where there is no model, or no data.

    Attributes:
        images: originals and reconstructions as PNG addresses.
        latents: of the latent space, for the page's script.
        note: why there is nothing, where that is a surprise.
    """

    original: str = ""
    reconstruction: str = ""
    latents: dict[str, Any] | None = None
    note: str = ""

    @property
    def accuracy(self) -> float | None:
        """Of the nearest-neighbour probe."""
        return self.latents["accuracy"] if self.latents else None


class _Loaded(NamedTuple):
    """Images and their hash, which tells whether they are those of a result."""

    data: ImageData
    content_hash: str


def examine_models(records: Sequence[Record], may_open: MayOpen) -> list[Finding]:
    """Returns what the trained model of each record makes of its data, as far as that may be opened."""
    loaded = _load_data(records, may_open)
    return [_examine(record, data) for record, data in zip(records, loaded, strict=True)]


def _load_data(records: Sequence[Record], may_open: MayOpen) -> list[_Loaded | str]:
    """Returns the data of each run that is done, loaded once for all that share it, or why it is missing."""
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


def _examine(record: Record, loaded: _Loaded | str) -> Finding:
    if record.state != "done" or isinstance(loaded, str):
        return Finding(note=loaded if isinstance(loaded, str) else "")
    if record.result.get("data_hash") not in (None, loaded.content_hash):
        return Finding(note="its data is not what it was when the model was trained")
    data = loaded.data
    try:
        model = load(record.directory.path)
        images = data.validation.images[_picture_indices(data)]
        if tuple(images.shape[1:]) != tuple(model.image_shape):
            shape = format_shape(images.shape[1:])
            return Finding(note=f"the model does not take the images of its data, {shape}")
        with torch.inference_mode():
            reconstructions = model(to_float(images)).clamp(0, 1)
        return Finding(
            original=_address(tile(to_float(images)[None])),
            reconstruction=_address(tile(reconstructions[None])),
            latents=_latents(model, data, record.result.get("madds") or 1),
        )
    except Exception as error:  # a plugin's own layer may raise anything; the report goes on
        return Finding(note=_reason(error))


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MixcoderError) else f"{type(error).__name__}: {first_line(error)}"


def _picture_indices(data: ImageData) -> list[int]:
    """Returns the first validation image of each label, then the first of all, ten together."""
    labels = data.validation.labels
    firsts = [] if labels is None else [int((labels == label).nonzero()[0]) for label in torch.unique(labels)]
    others = (i for i in range(len(data.validation)) if i not in firsts)
    chosen = firsts[:PICTURES]
    while len(chosen) < min(PICTURES, len(data.validation)):
        chosen.append(next(others))
    return chosen


def _latents(model: Autoencoder, data: ImageData, madds: int) -> dict[str, Any] | None:
    """Returns what the page shows of a latent space; None of one whose latents are no numbers."""
    affordable = max(100, int(_MADDS_A_RUN / madds))
    seen = torch.arange(min(_TRAINING_LATENTS, affordable, len(data.train)))
    new = slice(min(_VALIDATION_LATENTS, affordable))
    latents = encode_flat(model, data.train.batch(seen, epoch_draws(len(seen), data.train.draws, 0, 0)))
    new_latents = encode_flat(model, data.validation.images[new])
    if not (latents.isfinite().all() and new_latents.isfinite().all()):
        return None
    points, explained = project(new_latents)
    labels, new_labels = data.train.labels, data.validation.labels
    accuracy = None
    if labels is not None and new_labels is not None and latents.shape[1]:
        accuracy = neighbour_accuracy(latents, labels[seen], new_latents, new_labels[new])
    samples = gaussian_samples(model, latents, _SAMPLES)
    return {
        "points": [[round(x, 4), round(y, 4)] for x, y in points[:_POINTS].tolist()],
        "labels": None if new_labels is None else new_labels[new][:_POINTS].tolist(),
        "explained": explained,
        "accuracy": accuracy,
        "interpolation": _lines(model, data),
        "samples": _address(tile(samples.reshape(4, 9, *samples.shape[1:]))),  # (4, 9, C, H, W)
        "codes": len(latents),
        "dimensions": latents.shape[1],
    }


def _lines(model: Autoencoder, data: ImageData) -> str:
    """Returns the picture of lines between validation images; empty where there are not two of them."""
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
