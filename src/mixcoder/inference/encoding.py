"""Images to codes.

Inputs ─▶ images (B, C, H, W) in [0, 1] ─ model.encode ─▶ latents (B, *latent_shape)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor, nn

from mixcoder.experiments.runs.model_files import weights_hash
from mixcoder.inference.inputs import Batch, Place
from mixcoder.inference.latents_file import Codes
from mixcoder.inference.trained import inputs_of, open_model, prepared
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.modes import evaluation_mode, joined


def encode(run: str | Path | nn.Module, *images: Place | Iterable[Place], fit: bool = False) -> Codes:
    """The codes of images, in their order. Warns of files that are left out or passed over.

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
    names: list[str] = []
    parts = []
    inputs = inputs_of(run, model, images, fit)
    for names_of_batch, latents in encoded(model, inputs):
        names += names_of_batch
        parts.append(latents)
    inputs.warn()
    return Codes(names, joined(parts), weights_hash(model))


def encoded(model: Autoencoder, batches: Iterable[Batch]) -> Iterator[tuple[list[str], Tensor]]:
    """Names and latents (B, *latent_shape) float32, on the CPU, of each batch."""
    for batch in batches:
        with evaluation_mode(model):
            latents = model.encode(prepared(batch.images, model)).float().cpu()
        yield batch.names, latents
