"""The validation loss is the exact mean over all pixels and leaves no trace."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mixcoder.data import ImageSplit, to_float
from mixcoder.models import Autoencoder, create_model
from mixcoder.training import evaluation
from mixcoder.training.evaluation import validation_loss


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
