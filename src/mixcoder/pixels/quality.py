"""How like two images are, in the numbers that people use: PSNR and SSIM.

reconstructions, images (B, C, H, W) in [0, 1] ─┬─▶ psnr (B,)
                                                └─▶ ssim (B,)
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_BEST_PSNR = 100.0
"""Decibels of an exact reconstruction."""
_WINDOW, _SIGMA = 11, 1.5
_SMALLEST_WINDOW = 3
_K1, _K2 = 0.01, 0.03


def psnr(reconstructions: Tensor, images: Tensor) -> Tensor:
    """Returns the peak signal-to-noise ratio of each image in decibels: (B,) float64.

    10 log10(1 / mean squared error), at most 100 dB, which an exact reconstruction has.

    Args:
        reconstructions: (B, C, H, W) in [0, 1].
        images: (B, C, H, W) in [0, 1].
    """
    errors = (reconstructions.double() - images.double()).square().flatten(1).mean(1)  # (B,)
    return (-10 * torch.log10(errors)).clamp(max=_BEST_PSNR)


def ssim(reconstructions: Tensor, images: Tensor) -> Tensor | None:
    """Returns the structural similarity of each image: (B,) float64; None for images below 3 pixels.

    With a Gaussian window of 11 x 11 and standard deviation 1.5, each channel by itself, where the window
    lies inside the image. Images of fewer than 11 pixels have the largest odd window that fits, and a
    standard deviation smaller in proportion.

    Args:
        reconstructions: (B, C, H, W) in [0, 1].
        images: (B, C, H, W) in [0, 1].

    Source: Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004.
    """
    smallest = min(images.shape[2:])
    size = min(_WINDOW, smallest - (smallest + 1) % 2)
    if size < _SMALLEST_WINDOW:
        return None
    x, y = reconstructions.double(), images.double()
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        _blurred(values, size) for values in (x, y, x * x, y * y, x * y)
    )
    variances = mean_xx - mean_x * mean_x + mean_yy - mean_y * mean_y
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = _K1**2, _K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).flatten(1).mean(1)  # (B,)


def _blurred(images: Tensor, size: int) -> Tensor:
    """Returns Gaussian means over windows inside the images: (B, C, H - size + 1, W - size + 1)."""
    places = torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2
    weights = torch.exp(-0.5 * (places / (_SIGMA * size / _WINDOW)) ** 2)
    weights = weights / weights.sum()  # (size,)
    planes = images.flatten(0, 1)[:, None]  # (B * C, 1, H, W)
    down = F.conv2d(planes, weights.reshape(1, 1, size, 1))
    both = F.conv2d(down, weights.reshape(1, 1, 1, size))
    return both.reshape(*images.shape[:2], *both.shape[2:])  # (B, C, H - size + 1, W - size + 1)
