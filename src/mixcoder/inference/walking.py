"""Linear interpolation between the latents of two images.

    image A ─encode─▶ a ┐
                        ├─▶ (1 - t)·a + t·b, t = 0 … 1 ─decode─▶ images
    image B ─encode─▶ b ┘

The first and the last image are the reconstructions of the two.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError, DataError, describe_type
from mixcoder.experiments.runs.run_directory import Weights
from mixcoder.inference.decoding import decode_batches
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import Images
from mixcoder.inference.latents_file import Codes
from mixcoder.inference.trained import open_images, open_model
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.modes import joined
from mixcoder.text.sanitize import sanitize

_MOST_STEPS = 100_000
"""The largest number of images of a walk: all are in memory in the end."""


def walk(
    run: str | Path | nn.Module,
    start: Images,
    end: Images,
    steps: int = 9,
    fit: bool = False,
    weights: Weights = "final",
) -> Tensor:
    """Returns images (steps, C, H, W) between two images, from interpolated latents; not clipped to [0, 1].

    The first is the reconstruction of `start`, the last that of `end`.

    Args:
        run: the folder of a finished run, or a model, which computes in its own type and stays as it is.
        start: an image file; an image of a data source, such as "digits:7"; or an image in memory.
        end: likewise.
        steps: how many images, at least two.
        fit: resizes and crops images of another size.
        weights: of a run: "final", or "best", those of its smallest validation loss.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        DataError: a place is not one image, or the image is of another size.
        RunDirectoryError: there is no trained model.
    """
    if type(steps) is not int or not 2 <= steps <= _MOST_STEPS:
        raise ArgumentError("steps", f"must be a whole number from 2 to {_MOST_STEPS:,}")
    model = open_model(run, weights)
    a, b = (_encode_one(run, model, place, fit) for place in (start, end))
    t = torch.linspace(0, 1, steps, dtype=torch.float32, device="cpu")
    names = [f"step {i}" for i in range(1, steps + 1)]
    latents = torch.lerp(a, b, t.reshape(steps, *[1] * (a.ndim - 1)))  # (steps, *latent_shape)
    return joined(images for _, images in decode_batches(model, Codes(names, latents)))


def _encode_one(run: str | Path | nn.Module, model: Autoencoder, place: Images, fit: bool) -> Tensor:
    """Returns the latent (1, *latent_shape) of the one image at a place.

    Raises:
        DataError: the place holds more than one image.
    """
    first, *others = islice(encode_batches(model, open_images(run, model, [place], fit)), 2)
    names, latent = first
    if len(names) > 1 or others:
        name = sanitize(str(place), 200) if isinstance(place, str | Path) else describe_type(place)
        raise DataError(f"{name}: holds more than one image; name one of them, such as {names[0]}")
    return latent
