"""PSNR and SSIM against scikit-image, and on trained models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.models import create_model
from mixcoder.training.quality import measure_quality, psnr, ssim
from mixcoder.training.trainer import train


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
    copies, images = pairs(channels, height, width, seed)
    ours = ssim(copies, images)
    assert ours is not None
    for copy, image, decibels, similarity in zip(copies, images, psnr(copies, images), ours, strict=True):
        x, y = copy.double().numpy(), image.double().numpy()
        assert decibels.item() == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1.0), rel=1e-9)
        assert similarity.item() == pytest.approx(reference_ssim(x, y), abs=1e-9)


def test_an_exact_copy() -> None:
    _, images = pairs(3, 20, 20)
    similarity = ssim(images, images)
    assert similarity is not None
    torch.testing.assert_close(similarity, torch.ones(3, dtype=torch.float64))
    assert psnr(images, images).tolist() == [100.0] * 3


def test_images_too_small_for_a_window_have_no_ssim() -> None:
    copies, images = pairs(1, 2, 30)
    assert ssim(copies, images) is None
    model = create_model("cnn", image_shape=(1, 2, 30), channels=[2], kernel_size=1, latent_dim=2)
    quality = measure_quality(model, ImageSplit((images * 255).to(torch.uint8)))
    assert quality.ssim is None
    assert quality.psnr > 0


def test_training_raises_both_and_copies_are_clipped(tiny_data: ImageData) -> None:
    torch.manual_seed(0)
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[8], kernel_size=3, latent_dim=8)
    before = measure_quality(model, tiny_data.validation)
    train(model, tiny_data, learning_rate=0.01, steps=600, batch_size=15)
    model.train()
    after = measure_quality(model, tiny_data.validation)
    assert model.training
    assert after.psnr > before.psnr + 3
    assert before.ssim is not None
    assert after.ssim is not None
    assert after.ssim > before.ssim + 0.1

    images = tiny_data.validation.images / 255
    with torch.no_grad():
        copies = model(images).clamp(0, 1)
    each = [
        peak_signal_noise_ratio(image.numpy(), copy.numpy(), data_range=1)
        for image, copy in zip(images, copies, strict=True)
    ]
    assert after.psnr == pytest.approx(float(np.mean(each)), rel=1e-5)


def test_whatever_the_batches(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[3], kernel_size=3, latent_dim=2)
    whole = measure_quality(model, tiny_data.validation)
    monkeypatch.setattr("mixcoder.training.evaluation._LARGEST_BATCH", 4)
    parts = measure_quality(model, tiny_data.validation)
    assert parts.psnr == pytest.approx(whole.psnr, rel=1e-6)
    assert parts.ssim == pytest.approx(whole.ssim, rel=1e-6)
