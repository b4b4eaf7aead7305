"""How like two images are, in the numbers that people use: PSNR and SSIM.

images (B, C, H, W) ─ model ─ clipped to [0, 1] ─▶ copies (B, C, H, W) ─┬─▶ psnr (B,)
                                                                         └─▶ ssim (B,)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixcoder.data.split import ImageSplit, to_float
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.training.evaluation import evaluating, validation_batches

_BEST_PSNR = 100.0
_WINDOW, _SIGMA = 11, 1.5
_SMALLEST_WINDOW = 3
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class Quality:
    """How like the copies of a set of images are to them.

    Attributes:
        psnr: in decibels, the mean over images.
        ssim: up to 1, the mean over images; None where they are too small for it.
    """

    psnr: float
    ssim: float | None


def measure_quality(
    model: Autoencoder, split: ImageSplit, between_batches: Callable[[], None] = lambda: None
) -> Quality:
    """How well `model` reconstructs the images of `split`, its copies clipped to [0, 1].

    `between_batches` is called before each batch; what it raises ends the measurement.
    """
    psnrs, ssims = [], []
    with evaluating(model, split.device):
        for batch in validation_batches(split):
            between_batches()
            images = to_float(batch)
            copies = model(images).clamp(0, 1)
            psnrs.append(psnr(copies, images))
            ssims.append(ssim(copies, images))
    known = [each for each in ssims if each is not None]
    return Quality(
        psnr=torch.cat(psnrs).mean().item(), ssim=torch.cat(known).mean().item() if known else None
    )


def psnr(copies: Tensor, images: Tensor) -> Tensor:
    """The peak signal-to-noise ratio of each image in decibels: (B,) float64.

    10 log10(1 / mean squared error), at most 100 dB, which an exact copy has.

    Args:
        copies: (B, C, H, W) in [0, 1].
        images: (B, C, H, W) in [0, 1].
    """
    errors = (copies.double() - images.double()).square().flatten(1).mean(1)  # (B,)
    return (-10 * torch.log10(errors)).clamp(max=_BEST_PSNR)


def ssim(copies: Tensor, images: Tensor) -> Tensor | None:
    """The structural similarity of each image: (B,) float64; None for images below 3 pixels.

    With a Gaussian window of 11 x 11 and standard deviation 1.5, each channel by itself, where the window
    lies inside the image. Images of fewer than 11 pixels have the largest odd window that fits, and a
    standard deviation smaller in proportion.

    Args:
        copies: (B, C, H, W) in [0, 1].
        images: (B, C, H, W) in [0, 1].

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """
    smallest = min(images.shape[2:])
    size = min(_WINDOW, smallest - (smallest + 1) % 2)
    if size < _SMALLEST_WINDOW:
        return None
    x, y = copies.double(), images.double()
    mean_x, mean_y, square_x, square_y, product = (
        _blurred(each, size) for each in (x, y, x * x, y * y, x * y)
    )
    variances = square_x - mean_x * mean_x + square_y - mean_y * mean_y
    covariance = product - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).flatten(1).mean(1)  # (B,)


def _blurred(images: Tensor, size: int) -> Tensor:
    """Gaussian means over windows inside the images: (B, C, H - size + 1, W - size + 1)."""
    places = torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (places / (_SIGMA * size / _WINDOW)) ** 2)
    weights = weights / weights.sum()  # (size,)
    planes = images.flatten(0, 1)[:, None]  # (B * C, 1, H, W)
    down = F.conv2d(planes, weights.reshape(1, 1, size, 1))
    both = F.conv2d(down, weights.reshape(1, 1, 1, size))
    return both.reshape(*images.shape[:2], *both.shape[2:])  # (B, C, H - size + 1, W - size + 1)
