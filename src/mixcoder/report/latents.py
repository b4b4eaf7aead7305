"""What a latent space looks like: projected, probed, walked through and drawn from.

images ─encode─▶ codes (N, D) ─┬─▶ PCA ─▶ points (N, 2)
                               ├─▶ k nearest neighbours ─▶ accuracy
                               ├─▶ between two codes ─decode─▶ images
                               └─▶ Gaussian fitted to the codes ─▶ codes ─decode─▶ images
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
    """The codes (N, D) float32 of images (N, C, H, W) uint8, each latent flattened; D may be 0."""
    size = math.prod(model.latent_shape)
    with torch.inference_mode():
        parts = [model.encode(to_float(part)) for part in torch.split(images, _BATCH)]
        return torch.cat(parts).reshape(len(images), size)  # (N, *latent_shape) → (N, D)


def decode_flat(model: Autoencoder, codes: Tensor) -> Tensor:
    """Images (N, C, H, W) clipped to [0, 1] of flattened codes (N, D)."""
    latents = codes.reshape(len(codes), *model.latent_shape)  # (N, *latent_shape)
    with torch.inference_mode():
        return model.decode(latents).clamp(0, 1)


def project(codes: Tensor) -> tuple[Tensor, list[float]]:
    """The first two principal components (N, 2) of codes, and the share of the variance each explains.

    Codes that do not differ, such as a single one, have no components: all points are the origin.
    """
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    points = torch.zeros(len(codes), 2)
    if not (codes != codes[:1]).any():
        return points, []
    components = min(2, *codes.shape)
    pca = PCA(components, random_state=0)
    points[:, :components] = torch.from_numpy(pca.fit_transform(codes.double().numpy()))
    return points, [float(share) for share in pca.explained_variance_ratio_]


def neighbour_accuracy(codes: Tensor, labels: Tensor, new_codes: Tensor, new_labels: Tensor) -> float:
    """Share of `new_codes` (M, D) whose label the five nearest of `codes` (N, D) tell by majority.

    Where there are fewer than five codes, all of them count. D is at least 1.
    """
    from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]

    probe = KNeighborsClassifier(min(NEIGHBOURS, len(codes)))
    probe.fit(codes.numpy(), labels.numpy())
    return float(probe.score(new_codes.numpy(), new_labels.numpy()))


def interpolate(model: Autoencoder, starts: Tensor, ends: Tensor, steps: int) -> Tensor:
    """What the model decodes on the straight lines between the codes of two images.

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
    codes = torch.lerp(first[:, None], last[:, None], share)  # (R, steps, D)
    images = decode_flat(model, codes.flatten(0, 1))
    return images.reshape(len(starts), steps, *images.shape[1:])  # (R, steps, C, H, W)


def gaussian_samples(model: Autoencoder, codes: Tensor, count: int, seed: int = 0) -> Tensor:
    """Images (count, C, H, W) in [0, 1] decoded from draws of a Gaussian fitted to the codes.

    The Gaussian has the codes' mean and covariance. A sum of the centred codes with standard normal weights
    has that covariance, so that the matrix itself, which may be singular, is never needed.

    Args:
        model: in evaluation mode.
        codes: (N, D); a single one has no spread, and every draw is equal to it.
        count: how many.
        seed: of the draws.
    """
    weights = torch.randn(count, len(codes), generator=torch.Generator().manual_seed(seed))
    mean = codes.mean(0)
    return decode_flat(model, mean + weights @ (codes - mean) / max(1, len(codes) - 1) ** 0.5)
