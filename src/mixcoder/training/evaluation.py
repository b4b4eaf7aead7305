"""The validation loss and the measures of reconstructions: exact, and without a trace in the training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from mixcoder.backends.losses import LOSSES
from mixcoder.data.split import ImageSplit, to_float
from mixcoder.measures import MEASURES
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_grid import CodeGrid, CodeRange
from mixcoder.models.modes import evaluation_mode
from mixcoder.pixels.shape import ImageShape
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


def keep_codes(
    model: Autoencoder, split: ImageSplit, between_batches: Callable[[], None] = lambda: None
) -> list[Tensor] | None:
    """Returns the codes (B, *latent_shape) of all images, in the batches of `validation_batches`.

    Encoding takes longer than decoding where it refines codes, and more than one figure is computed of them.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        between_batches: called before each batch; what it raises ends the computation.

    Returns:
        None where codes would fill the memory, or the model has a way of its own from images to images.
    """
    is_usual = type(model).forward is Autoencoder.forward
    if not is_usual or math.prod(model.latent_shape) * len(split) > _MOST_KEPT:
        return None
    codes = []
    with evaluating(model, split.device):
        for batch in validation_batches(split):
            between_batches()
            codes.append(model.encode(to_float(batch)))
    return codes


def losses_of_few_bits(
    model: Autoencoder,
    split: ImageSplit,
    codes: Sequence[Tensor],
    loss: str,
    bits: Sequence[int],
    between_batches: Callable[[], None] = lambda: None,
) -> list[float] | None:
    """Returns the loss of all images from codes whose numbers have few bits, for each of `bits`.

    Each number is rounded between its extremes over these images, as `mixcoder encode --bits` does.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        codes: of the images, as `keep_codes` gives them.
        loss: "mse", "l1" or "huber".
        bits: numbers from 1 to 16.
        between_batches: called before each batch; what it raises ends the computation.

    Returns:
        None where codes are not of finite floating point numbers.
    """
    found = CodeRange()
    for latents in codes:
        if not (latents.is_floating_point() and bool(latents.isfinite().all())):
            return None
        found.include(latents)
    with evaluating(model, split.device):
        return [_loss_of_codes(model, split, codes, loss, found.grid(each), between_batches) for each in bits]


def _loss_of_codes(
    model: Autoencoder,
    split: ImageSplit,
    codes: Sequence[Tensor],
    loss: str,
    grid: CodeGrid,
    between_batches: Callable[[], None],
) -> float:
    """Returns the loss of all images from their rounded codes."""
    total = 0.0
    for batch, latents in zip(validation_batches(split), codes, strict=True):
        between_batches()
        decoded = model.decode(grid.rounded(latents))
        total += LOSSES[loss](decoded, to_float(batch), reduction="sum").item()
    return total / split.images.numel()


def measure_reconstructions(
    model: Autoencoder,
    split: ImageSplit,
    between_batches: Callable[[], None] = lambda: None,
    codes: Sequence[Tensor] | None = None,
) -> dict[str, float | None]:
    """Returns the mean of each measure that compares reconstructions, clipped to [0, 1], with their images.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        between_batches: called before each batch; an exception that it raises ends the measurement.
        codes: of the images, as `keep_codes` gives them; without, the images are encoded.

    Returns:
        The means by the measures' keys; None where images are too small for a measure.
    """
    compares = {measure.key: measure.compare for measure in MEASURES if measure.compare}
    values: dict[str, list[Tensor]] = {key: [] for key in compares}
    with evaluating(model, split.device):
        for i, batch in enumerate(validation_batches(split)):
            between_batches()
            images = to_float(batch)
            reconstructions = (model(images) if codes is None else model.decode(codes[i])).clamp(0, 1)
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
