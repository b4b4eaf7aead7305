"""The validation loss and the measures of reconstructions: exact, and without a trace in the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from mixcoder.backends.losses import LOSSES
from mixcoder.data.split import ImageSplit, to_float
from mixcoder.images.shape import ImageShape
from mixcoder.measures import MEASURES
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_grid import CodeGrid, CodeRange
from mixcoder.models.modes import evaluation_mode
from mixcoder.training.ranks import ALONE, Ranks

_LARGEST_BATCH = 500
_BATCH_ELEMENTS = 2**21
"""Of a batch's images: 8 MiB in float32."""
_MOST_KEPT = 2**26
"""Numbers of all codes that are kept at a time: 256 MiB in float32."""


def validation_loss(
    model: Autoencoder,
    split: ImageSplit,
    loss: str,
    between_batches: Callable[[], None] = lambda: None,
    ranks: Ranks = ALONE,
) -> float:
    """Returns the loss averaged over all pixels of all images, whatever the batches.

    Per-batch sums are added in double precision.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        loss: "mse", "l1" or "huber".
        between_batches: called before each batch; what it raises ends the validation.
        ranks: that call this function together, each for its part of the images.
    """
    total = 0.0
    with evaluating(model, split.device):
        for batch in validation_batches(split, ranks.shard(len(split))):
            between_batches()
            images = to_float(batch)
            total += LOSSES[loss](model(images), images, reduction="sum").item()
    return ranks.total(total) / split.images.numel()


def losses_of_few_bits(
    model: Autoencoder,
    split: ImageSplit,
    loss: str,
    bits: Sequence[int],
    between_batches: Callable[[], None] = lambda: None,
) -> list[float] | None:
    """Returns the loss of all images from codes whose numbers have few bits, for each of `bits`.

    Each number is rounded between its extremes over these images, as `mixcoder encode --bits` does. Images
    are encoded once, and their codes are kept.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        loss: "mse", "l1" or "huber".
        bits: numbers from 1 to 16.
        between_batches: called before each batch; what it raises ends the computation.

    Returns:
        None where codes are not of finite floating point numbers, or would fill the memory.
    """
    if math.prod(model.latent_shape) * len(split) > _MOST_KEPT:
        return None
    codes, found = [], CodeRange()
    with evaluating(model, split.device):
        for batch in validation_batches(split):
            between_batches()
            latents: object = model.encode(to_float(batch))
            if (
                not isinstance(latents, Tensor)
                or not latents.is_floating_point()
                or not latents.isfinite().all()
            ):
                return None
            codes.append(latents)
            found.include(latents)
        return [_loss_of_codes(model, split, loss, codes, found.grid(each), between_batches) for each in bits]


def _loss_of_codes(
    model: Autoencoder,
    split: ImageSplit,
    loss: str,
    codes: Sequence[Tensor],
    grid: CodeGrid,
    between_batches: Callable[[], None],
) -> float:
    """Returns the loss of all images from their rounded codes, in the batches of `validation_batches`."""
    total = 0.0
    for batch, latents in zip(validation_batches(split), codes, strict=True):
        between_batches()
        decoded = model.decode(grid.rounded(latents))
        total += LOSSES[loss](decoded, to_float(batch), reduction="sum").item()
    return total / split.images.numel()


def measure_reconstructions(
    model: Autoencoder, split: ImageSplit, between_batches: Callable[[], None] = lambda: None
) -> dict[str, float | None]:
    """Returns the mean of each measure that compares reconstructions, clipped to [0, 1], with their images.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        between_batches: called before each batch; an exception that it raises ends the measurement.

    Returns:
        The means by the measures' keys; None where images are too small for a measure.
    """
    compares = {measure.key: measure.compare for measure in MEASURES if measure.compare}
    values: dict[str, list[Tensor]] = {key: [] for key in compares}
    with evaluating(model, split.device):
        for batch in validation_batches(split):
            between_batches()
            images = to_float(batch)
            reconstructions = model(images).clamp(0, 1)
            for key, compare in compares.items():
                found = compare(reconstructions, images)
                values[key] += [] if found is None else [found]
    return {key: torch.cat(found).mean().item() if found else None for key, found in values.items()}


@contextmanager
def evaluating(model: Autoencoder, device: torch.device) -> Iterator[None]:
    """Context for evaluation without gradients; restores training modes and torch's random state."""
    with keeping_random_state(device), evaluation_mode(model):
        yield


def keeping_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Context that restores torch's random state, on the CPU and on `device`."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def validation_batches(split: ImageSplit, place: slice = slice(None)) -> Iterator[Tensor]:
    """Yields the images at `place`, (B, C, H, W) uint8, in batches that are sure to fit into memory."""
    size, images = safe_batch_size(split.image_shape), split.images[place]
    for start in range(0, len(images), size):
        yield images[start : start + size]


def safe_batch_size(image_shape: ImageShape) -> int:
    """Returns how many images (C, H, W) are sure to fit into memory in one pass without gradients."""
    return max(1, min(_LARGEST_BATCH, _BATCH_ELEMENTS // math.prod(image_shape)))
