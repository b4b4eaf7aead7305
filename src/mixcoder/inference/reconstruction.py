"""Images and their reconstructions as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor, nn

from mixcoder.errors import ArgumentError, describe_type
from mixcoder.inference.coding import AS_TRAINED, Coding
from mixcoder.models.autoencoder import Autoencoder, as_autoencoder, device_and_dtype
from mixcoder.models.modes import evaluation_mode
from mixcoder.pixels.pictures import LARGEST_SCALE, stacked_grid


def reconstruction_grid(
    model: nn.Module, images: Tensor, scale: int | None = None, steps: int | Sequence[int] = ()
) -> Image.Image:
    """Returns a picture of images, each with its reconstruction below it, eight a row.

    Args:
        model: computes in its own type and stays as it is.
        images: (N, C, H, W) float in [0, 1], C being 1 or 3; N at least 1.
        scale: pixels of the picture for each pixel of an image; by default whatever makes an image
            about 64 pixels high.
        steps: of refinement, one number or several; for each of them a reconstruction of every image, one
            below the other. By default a single one, with the steps that the model was trained with.

    Raises:
        ArgumentError: an argument is of another type; says what it must be. Or the model cannot refine.
    """
    counts = [steps] if isinstance(steps, int) else steps
    if not isinstance(counts, Sequence) or isinstance(counts, str):
        wanted = "must be a whole number, or a list of such numbers"
        raise ArgumentError("steps", f"{wanted}, got {describe_type(steps)}")
    return coded_grid(
        as_autoencoder(model), images, scale, [Coding(count) for count in counts] or [AS_TRAINED]
    )


def coded_grid(
    model: Autoencoder, images: Tensor, scale: int | None, codings: Sequence[Coding]
) -> Image.Image:
    """Returns a picture of images, each with its reconstructions by some codings below it.

    Raises:
        ArgumentError: as `reconstruction_grid` does.
    """
    if scale is not None and (type(scale) is not int or not 1 <= scale <= LARGEST_SCALE):
        raise ArgumentError("scale", f"must be a whole number from 1 to {LARGEST_SCALE}")
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        wanted = "images must be a torch.Tensor (N, C, H, W) in [0, 1] with C 1 or 3"
        raise ArgumentError("", f"{wanted}, got {describe_type(images)}")
    with evaluation_mode(model):
        device, dtype = device_and_dtype(model)
        moved = images.to(device, dtype) if images.is_floating_point() else images
        made = [coding.reconstruct(model, moved) for coding in codings]
    return stacked_grid([images, *(each.clamp(0, 1) for each in made)], scale)
