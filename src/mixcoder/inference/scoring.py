"""How badly a model does on each image: what it has never seen the like of stands on top.

images (B, C, H, W) ─ model, clipped to [0, 1] ─▶ mean squared error (B,) ─▶ Score ─▶ worst first
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import Tensor, nn

from mixcoder.data.split import to_float
from mixcoder.inference.inputs import Batch, Place
from mixcoder.inference.trained import inputs_of, open_model, prepared
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.modes import evaluation_mode
from mixcoder.training.quality import psnr


@dataclass(frozen=True, slots=True)
class Score:
    """How like the copy of an image is to it.

    Attributes:
        name: of the image.
        mse: mean squared error over its numbers, of values in [0, 1].
        psnr: in decibels.
    """

    name: str
    mse: float
    psnr: float


def score(run: str | Path | nn.Module, *images: Place | Iterable[Place], fit: bool = False) -> list[Score]:
    """A score for each image, the worst first. Warns of files that are left out or passed over.

    Args:
        run: the folder of a finished run, or a model, which computes in its own type and stays as it is.
        images: files, folders, patterns, or names of data sources such as "digits" or "digits:train"; or
            lists of them.
        fit: resizes and crops images of another size.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        DataError: an image is of another size, or there is none.
        RunDirectoryError: there is no trained model.
    """
    model = open_model(run)
    inputs = inputs_of(run, model, images, fit)
    scores, _ = worst_first(scored(model, inputs), 0)
    inputs.warn()
    return scores


def scored(model: Autoencoder, batches: Iterable[Batch]) -> Iterator[tuple[Score, Tensor]]:
    """The score of each image, and the image (C, H, W) uint8, in their order."""
    for batch in batches:
        with evaluation_mode(model):
            copies = model(prepared(batch.images, model)).clamp(0, 1)
        images = to_float(batch.images.to(copies.device))
        errors = (copies.double() - images.double()).square().flatten(1).mean(1).tolist()  # (B,)
        ratios = psnr(copies, images).tolist()  # (B,)
        for name, mse, ratio, image in zip(batch.names, errors, ratios, batch.images, strict=True):
            yield Score(name, mse, ratio), image


def worst_first(scores: Iterable[tuple[Score, Tensor]], kept: int) -> tuple[list[Score], list[Tensor]]:
    """All scores, the worst first, and the images of the worst `kept`; of no more than these at once."""
    everything: list[Score] = []
    worst: list[tuple[float, int, Tensor]] = []
    for number, (each, image) in zip(count(0, -1), scores):
        everything.append(each)
        heapq.heappush(worst, (each.mse, number, image))
        if len(worst) > kept:
            heapq.heappop(worst)
    everything.sort(key=lambda each: each.mse, reverse=True)
    return everything, [image for *_, image in sorted(worst, reverse=True)]
