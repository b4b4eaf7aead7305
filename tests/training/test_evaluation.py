"""The validation loss is the exact mean over all pixels and leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixcoder.data import ImageSplit, to_float
from mixcoder.inference import Codes
from mixcoder.models import Autoencoder, create_model
from mixcoder.training import evaluation
from mixcoder.training.evaluation import (
    keep_codes,
    losses_of_few_bits,
    measure_reconstructions,
    validation_loss,
)


class Noisy(Autoencoder):
    """Draws random numbers while training and at rest."""

    image_shape = (1, 2, 2)
    latent_shape = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def _encode(self, images: Tensor) -> Tensor:
        noisy: Tensor = self.dropout(images) + torch.rand_like(images)
        return noisy

    def _decode(self, latents: Tensor) -> Tensor:
        return latents


@pytest.mark.parametrize(
    ("loss", "of_difference"),
    [
        ("mse", lambda d: d**2),
        ("l1", lambda d: d.abs()),
        ("huber", lambda d: torch.where(d.abs() < 1, d**2 / 2, d.abs() - 0.5)),
    ],
)
def test_exact_mean_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch, loss: str, of_difference: object
) -> None:
    torch.manual_seed(0)
    split = ImageSplit(torch.randint(0, 256, (23, 1, 4, 6), dtype=torch.uint8))
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[3], kernel_size=3, latent_dim=2)
    with torch.no_grad():
        images = to_float(split.images).double()
        difference = model.double()(images) - images
    expected = of_difference(difference).mean().item()  # type: ignore[operator]
    model.float()
    for batch_size in (1, 5, 23, 500):
        monkeypatch.setattr(evaluation, "_LARGEST_BATCH", batch_size)
        assert validation_loss(model, split, loss) == pytest.approx(expected, rel=1e-5)


def test_leaves_mode_and_random_state() -> None:
    model = Noisy().train()
    state = torch.get_rng_state()
    validation_loss(model, ImageSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)), "mse")
    assert model.training
    assert model.dropout.training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("batch_size", [4, 500])
def test_the_loss_of_few_bits_is_that_of_codes_in_a_file(
    batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    split = ImageSplit(torch.randint(0, 256, (23, 1, 4, 6), dtype=torch.uint8))
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[3], kernel_size=3, latent_dim=2)
    with torch.no_grad():
        latents = model.encode(to_float(split.images))
        names = [str(i) for i in range(23)]
        expected = [
            (model.decode(Codes(names, latents).rounded(bits).latents) - to_float(split.images))
            .square()
            .mean()
            for bits in (8, 1)
        ]
    monkeypatch.setattr(evaluation, "_LARGEST_BATCH", batch_size)
    codes = keep_codes(model, split)
    assert codes is not None
    assert losses_of_few_bits(model, split, codes, "mse", [8, 1]) == pytest.approx(expected, rel=1e-5)
    assert losses_of_few_bits(model, split, codes, "mse", []) == []
    assert measure_reconstructions(model, split, codes=codes) == measure_reconstructions(model, split)


class Indices(Autoencoder):
    """Codes are whole numbers, entries of a code book."""

    image_shape = (1, 2, 2)
    latent_shape = (4,)

    def _encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) > 0.5).long()

    def _decode(self, latents: Tensor) -> Tensor:
        return latents.float().reshape(-1, 1, 2, 2)


class Endless(Indices):
    """Codes are not finite."""

    def _encode(self, images: Tensor) -> Tensor:
        return images.flatten(1) / 0


@pytest.mark.parametrize("model", [Indices(), Endless()])
def test_codes_that_cannot_be_rounded_have_no_loss_of_few_bits(model: Autoencoder) -> None:
    images = ImageSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    codes = keep_codes(model, images)
    assert codes is not None
    assert losses_of_few_bits(model, images, codes, "mse", [8]) is None


class Shortcut(Indices):
    """Images come back whatever their codes."""

    def forward(self, images: Tensor) -> Tensor:
        return images


def test_too_many_codes_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("cnn", image_shape=(1, 2, 2), channels=[3], kernel_size=1, latent_dim=2)
    images = ImageSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    assert keep_codes(model, images) is not None
    assert keep_codes(Shortcut(), images) is None
    monkeypatch.setattr(evaluation, "_MOST_KEPT", 5)
    assert keep_codes(model, images) is None


def test_the_loss_of_few_bits_leaves_mode_and_random_state() -> None:
    model = Noisy().train()
    state = torch.get_rng_state()
    images = ImageSplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    codes = keep_codes(model, images)
    assert codes is not None
    losses_of_few_bits(model, images, codes, "mse", [4])
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
