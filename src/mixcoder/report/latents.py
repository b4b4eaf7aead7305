"""What a latent space looks like: projected, probed, walked through and drawn from.

images ─encode─▶ latents (N, D) ─┬─▶ PCA ─▶ points (N, 2)
                               ├─▶ k nearest neighbours ─▶ accuracy
                               ├─▶ between two latents ─decode─▶ images
                               └─▶ Gaussian fitted to the latents ─▶ latents ─decode─▶ images
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixcoder.data.split import to_float
from mixcoder.models.autoencoder import Autoencoder

NEIGHBOURS = 5
_BATCH = 250


def encode_flat(model: Autoencoder, images: Tensor) -> Tensor:
    """Returns the flattened latents (N, D) float32 of images (N, C, H, W) uint8; D may be 0."""
    size = math.prod(model.latent_shape)
    with torch.inference_mode():
        batches = [model.encode(to_float(batch)) for batch in torch.split(images, _BATCH)]
        return torch.cat(batches).reshape(len(images), size)  # (N, *latent_shape) → (N, D)


def decode_flat(model: Autoencoder, latents: Tensor) -> Tensor:
    """Returns images (N, C, H, W) clipped to [0, 1] of flattened latents (N, D)."""
    shaped = latents.reshape(len(latents), *model.latent_shape)  # (N, *latent_shape)
    with torch.inference_mode():
        return model.decode(shaped).clamp(0, 1)


def project(latents: Tensor) -> tuple[Tensor, list[float]]:
    """Returns the first two principal components (N, 2) of latents (N, D), and the share of variance of each.

    Latents that do not differ, such as a single one, have no components: all points are the origin.
    """
    points = torch.zeros(len(latents), 2)
    if not (latents != latents[:1]).any():
        return points, []
    centred = latents.double() - latents.double().mean(0)  # (N, D)
    count, size = centred.shape
    is_wide = (
        size > count
    )  # then the Gram matrix of the latents is the smaller one, with the same eigenvalues
    variances, vectors = torch.linalg.eigh(centred @ centred.T if is_wide else centred.T @ centred)
    kept = min(2, count, size)
    variances, vectors = variances.clamp(min=0).flip(0), vectors.flip(1)[:, :kept]  # the largest first
    axes = centred.T @ vectors if is_wide else vectors  # (D, kept)
    sign = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # (1, kept): the largest entry positive
    scores = vectors * variances[:kept].sqrt() if is_wide else centred @ vectors
    points[:, :kept] = (scores * sign).float()
    return points, (variances[:kept] / variances.sum()).tolist()


def neighbour_accuracy(latents: Tensor, labels: Tensor, new_latents: Tensor, new_labels: Tensor) -> float:
    """Returns the share of `new_latents` (M, D) whose five nearest `latents` (N, D) mostly have their label.

    Of labels that are equally frequent among the five, the smallest counts. Where there are fewer than five
    latents, all of them are neighbours. D is at least 1.
    """
    names, classes = torch.unique(labels, return_inverse=True)  # (K,), (N,)
    right = 0
    for batch, wanted in zip(torch.split(new_latents, _BATCH), torch.split(new_labels, _BATCH), strict=True):
        distances = torch.cdist(batch.double(), latents.double(), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.topk(min(NEIGHBOURS, len(latents)), largest=False).indices  # (B, 5)
        votes = torch.nn.functional.one_hot(classes[nearest], len(names)).sum(1)  # (B, K)
        right += int((names[votes.argmax(1)] == wanted).sum())
    return right / len(new_latents)


def interpolate(model: Autoencoder, starts: Tensor, ends: Tensor, steps: int) -> Tensor:
    """Returns the images decoded on straight lines between the latents of two images.

    Args:
        model: in evaluation mode.
        starts: (R, C, H, W) uint8.
        ends: (R, C, H, W) uint8.
        steps: images of a line, both ends among them.

    Returns:
        Images (R, steps, C, H, W) in [0, 1].
    """
    first, last = encode_flat(model, starts), encode_flat(model, ends)
    share = torch.linspace(0, 1, steps)[None, :, None]  # (1, steps, 1)
    latents = torch.lerp(first[:, None], last[:, None], share)  # (R, steps, D)
    images = decode_flat(model, latents.flatten(0, 1))
    return images.reshape(len(starts), steps, *images.shape[1:])  # (R, steps, C, H, W)


def gaussian_samples(model: Autoencoder, latents: Tensor, count: int, seed: int = 0) -> Tensor:
    """Returns images (count, C, H, W) in [0, 1] decoded from draws of a Gaussian fitted to latents.

    The Gaussian has the latents' mean and covariance. A sum of the centred latents with standard normal
    weights has that covariance, so that the matrix itself, which may be singular, is never needed.

    Args:
        model: in evaluation mode.
        latents: (N, D); a single one has no spread, and every draw is equal to it.
        count: how many.
        seed: of the draws.
    """
    weights = torch.randn(count, len(latents), generator=torch.Generator().manual_seed(seed))
    mean = latents.mean(0)
    return decode_flat(model, mean + weights @ (latents - mean) / max(1, len(latents) - 1) ** 0.5)
