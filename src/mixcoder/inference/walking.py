"""The straight way between two images in the space of codes.

image A ─encode─▶ a ┐
                     ├─▶ (1 - t)·a + t·b, t = 0 … 1 ─decode─▶ images
image B ─encode─▶ b ┘
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from mixcoder.errors import DataError
from mixcoder.inference.encoding import encoded
from mixcoder.inference.inputs import Place
from mixcoder.inference.trained import inputs_of, open_model
from mixcoder.models.autoencoder import Autoencoder


def walk(
    run: str | Path | Autoencoder, start: Place, end: Place, steps: int = 9, fit: bool = False
) -> Tensor:
    """Images (steps, C, H, W) on the way from one image to another; not clipped to [0, 1].

    The first is the reconstruction of `start`, the last that of `end`.

    Args:
        run: the folder of a finished run, or a model.
        start: an image file, or an image of a data source, such as "digits:7".
        end: likewise.
        steps: how many images, at least two.
        fit: resizes and crops images of another size.

    Raises:
        DataError: a place is not one image, or the image is of another size.
        RunDirectoryError: there is no trained model.
    """
    model = open_model(run)
    a, b = (_code(run, model, place, fit) for place in (start, end))
    device = next(model.parameters()).device
    t = torch.linspace(0, 1, steps).reshape(steps, *[1] * (a.ndim - 1))  # (steps, 1, …)
    with torch.inference_mode():
        return model.decode(torch.lerp(a, b, t).to(device)).cpu()


def _code(run: str | Path | Autoencoder, model: Autoencoder, place: Place, fit: bool) -> Tensor:
    """The code (1, *latent_shape) of the one image at a place."""
    first, *others = islice(encoded(model, inputs_of(run, model, [place], fit)), 2)
    names, code = first
    if len(names) > 1 or others:
        raise DataError(f"{place}: holds more than one image; name one of them, such as {names[0]}")
    return code
