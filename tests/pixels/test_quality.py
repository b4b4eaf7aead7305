"""PSNR and SSIM against scikit-image, whatever the size of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.pixels.quality import psnr, ssim


def pairs(channels: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three smooth images and copies of them, each worse than the one before."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(3, channels, height + 4, width + 4, generator=generator)
    images = torch.nn.functional.avg_pool2d(noise, 5, stride=1)
    faults = (
        torch.randn(images.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.3])[:, None, None, None]
    )
    return (images + faults).clamp(0, 1), images


def reference_ssim(copy: np.ndarray, image: np.ndarray) -> float:
    from skimage.metrics import structural_similarity

    window = min(11, min(image.shape[1:]) - (min(image.shape[1:]) + 1) % 2)
    return float(
        structural_similarity(
            copy,
            image,
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5 * window / 11,
            use_sample_covariance=False,
            win_size=window,
        )
    )


@given(
    st.integers(1, 3),
    st.integers(3, 40),
    st.integers(3, 40),
    st.integers(0, 1000),
)
def test_the_same_as_scikit_image(channels: int, height: int, width: int, seed: int) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    reconstructions, images = pairs(channels, height, width, seed)
    ours = ssim(reconstructions, images)
    assert ours is not None
    decibels_of = psnr(reconstructions, images)
    for found, image, decibels, similarity in zip(reconstructions, images, decibels_of, ours, strict=True):
        x, y = found.double().numpy(), image.double().numpy()
        assert decibels.item() == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1.0), rel=1e-9)
        assert similarity.item() == pytest.approx(reference_ssim(x, y), abs=1e-9)


def test_an_exact_copy() -> None:
    _, images = pairs(3, 20, 20)
    similarity = ssim(images, images)
    assert similarity is not None
    torch.testing.assert_close(similarity, torch.ones(3, dtype=torch.float64))
    assert psnr(images, images).tolist() == [100.0] * 3


def test_images_too_small_for_a_window_have_no_ssim() -> None:
    reconstructions, images = pairs(1, 2, 30)
    assert ssim(reconstructions, images) is None
