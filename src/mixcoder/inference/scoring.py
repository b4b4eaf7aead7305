"""How badly a model reconstructs each image, the worst first.

    images (B, C, H, W) ─ model, clipped to [0, 1] ─▶ mean squared error (B,) ─▶ Score

The worst images are those unlike all that the model has seen.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from torch import Tensor, nn

from mixcoder.data.split import to_float
from mixcoder.experiments.runs.run_directory import Weights
from mixcoder.inference.coding import AS_TRAINED, Coding, with_bits
from mixcoder.inference.image_stream import ImageBatch, Images
from mixcoder.inference.trained import as_model_input, open_images, open_model
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.modes import evaluation_mode
from mixcoder.pixels.quality import psnr


@dataclass(frozen=True, slots=True)
class Score:
    """How far the reconstruction of an image is from the image.

    Attributes:
        name: of the image.
        mse: mean squared error over the elements, of values in [0, 1].
        psnr: in decibels.
    """

    name: str
    mse: float
    psnr: float


def score(
    run: str | Path | nn.Module,
    *images: Images,
    fit: bool = False,
    bits: int | None = None,
    steps: int | None = None,
    weights: Weights = "final",
) -> list[Score]:
    """Returns a score for each image, the worst first. Warns of files that are left out or passed over.

    Args:
        run: the folder of a finished run, or a model, which computes in its own type and stays as it is.
        images: files, folders, patterns, or names of data sources such as "digits" or "digits:train"; images
            in memory, as `mixcoder.images` takes them, or what it returns; or lists of any of these.
        fit: resizes and crops images of another size.
        bits: of each number of a code, 1 to 16, between its extremes over these images; None for float32.
            With bits, the images are read twice.
        steps: of refinement, 0 for none; None for those that the model was trained with.
        weights: of a run: "final", or "best", those of its smallest validation loss.

    Raises:
        ArgumentError: an argument is of another type; says what it must be. There are steps, and the model
            has no refinement.
        DataError: an image is of another size, or there is none.
        RunDirectoryError: there is no trained model.
    """
    model = open_model(run, weights)
    stream = open_images(run, model, images, fit)
    coding = with_bits(Coding(steps), bits, model, stream)
    scores, _ = rank_scores(score_batches(model, stream, coding), 0)
    stream.warn()
    return scores


def score_batches(
    model: Autoencoder, batches: Iterable[ImageBatch], coding: Coding = AS_TRAINED
) -> Iterator[tuple[Score, Tensor]]:
    """Yields the score of each image, and the image (C, H, W) uint8, in their order."""
    for batch in batches:
        with evaluation_mode(model):
            reconstructions = coding.reconstruct(model, as_model_input(batch.images, model)).clamp(0, 1)
        images = to_float(batch.images.to(reconstructions.device))
        errors = (reconstructions.double() - images.double()).square().flatten(1).mean(1).tolist()  # (B,)
        ratios = psnr(reconstructions, images).tolist()  # (B,)
        for name, mse, ratio, image in zip(batch.names, errors, ratios, batch.images, strict=True):
            yield Score(name, mse, ratio), image


def rank_scores(scores: Iterable[tuple[Score, Tensor]], kept: int) -> tuple[list[Score], list[Tensor]]:
    """Returns all scores, the worst first, and the images of the worst `kept`.

    No more than `kept` images are held at a time.
    """
    ranked: list[Score] = []
    worst: list[tuple[float, int, Tensor]] = []
    for number, (one, image) in zip(count(0, -1), scores):
        ranked.append(one)
        heapq.heappush(worst, (one.mse, number, image))
        if len(worst) > kept:
            heapq.heappop(worst)
    ranked.sort(key=lambda one: one.mse, reverse=True)
    return ranked, [image for *_, image in sorted(worst, reverse=True)]
