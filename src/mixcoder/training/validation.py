"""The validation loss: exact, and without a trace in the training."""

from __future__ import annotations

import torch

from mixcoder.data.images import ImageSplit, to_float
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.training.losses import LOSSES

BATCH_SIZE = 500


def validation_loss(model: Autoencoder, split: ImageSplit, loss: str) -> float:
    """The loss averaged over all pixels of all images, whatever the batches.

    Per-batch sums are added in double precision. Training mode and torch's random state are left as
    they were.

    Args:
        model: on the device of the images.
        split: images (N, C, H, W) uint8.
        loss: "mse", "l1" or "huber".
    """
    was_training = model.training
    devices = [split.images.device] if split.images.is_cuda else []
    total = 0.0
    with torch.random.fork_rng(devices), torch.inference_mode():
        model.eval()
        for start in range(0, len(split), BATCH_SIZE):
            images = to_float(split.images[start : start + BATCH_SIZE])
            total += LOSSES[loss](model(images), images, reduction="sum").item()
    model.train(was_training)
    return total / split.images.numel()
