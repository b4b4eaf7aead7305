"""Images to latents.

    ImageStream ─▶ images (B, C, H, W) in [0, 1] ─ model.encode ─▶ latents (B, *latent_shape) ─▶ Codes

`Codes` is the public name of latents with the names of their images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor, nn

from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.experiments.runs.run_directory import Weights
from mixcoder.inference.coding import Coding
from mixcoder.inference.image_stream import ImageBatch, Images
from mixcoder.inference.latents_file import Codes
from mixcoder.inference.trained import as_model_input, open_images, open_model
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_grid import check_bits
from mixcoder.models.modes import evaluation_mode, joined


def encode(
    run: str | Path | nn.Module,
    *images: Images,
    fit: bool = False,
    bits: int | None = None,
    steps: int | None = None,
    weights: Weights = "final",
) -> Codes:
    """Returns the codes of images, in their order. Warns of files that are left out or passed over.

    Args:
        run: the folder of a finished run, or a model, which computes in its own type and stays as it is.
        images: files, folders, patterns, or names of data sources such as "digits" or "digits:train"; images
            in memory, as `mixcoder.images` takes them, or what it returns; or lists of any of these.
        fit: resizes and crops images of another size.
        bits: of each number of a code, 1 to 16, between its extremes over these images; None for float32.
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
    check_bits(bits)
    batches = list(encode_batches(model, stream, steps))
    stream.warn()
    names = [name for names_of_batch, _ in batches for name in names_of_batch]
    codes = Codes(names, joined(latents for _, latents in batches), hash_weights(model))
    return codes if bits is None else codes.rounded(bits)


def encode_batches(
    model: Autoencoder, batches: Iterable[ImageBatch], steps: int | None = None
) -> Iterator[tuple[list[str], Tensor]]:
    """Yields names and latents (B, *latent_shape) float32, on the CPU, of each batch.

    Raises:
        ArgumentError: there are steps, and the model has no refinement.
    """
    for batch in batches:
        with evaluation_mode(model):
            latents = Coding(steps).encode(model, as_model_input(batch.images, model)).float().cpu()
        yield batch.names, latents
