"""Weights of the article's networks load into ours by name and compute the same function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mixcoder.models import Autoencoder, create_model
from tests.models.listing import ListingCnn, ListingMixer, ListingScript


def assert_same_function(
    listing: ListingMixer | ListingCnn | ListingScript, ours: Autoencoder, images: Tensor
) -> None:
    assert list(listing.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(listing.state_dict())
    with torch.no_grad():
        latents = listing.encode(images)
        torch.testing.assert_close(ours.encode(images), latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(latents), listing.decode(latents), atol=1e-5, rtol=1e-5)


HIDDEN = [64, 64, 64, 16]


def article_mixer(mixer: str, kernel_size: int, mixer_at: tuple[int, ...], **activations: Any) -> Autoencoder:
    """Our Mixer of the article's tables, its weights drawn from seed 0."""
    torch.manual_seed(0)
    return create_model(
        "mixer",
        image_shape=(1, 28, 28),
        patch_size=7,
        hidden_channels=HIDDEN,
        latent_dim=16,
        mixer_at=mixer_at,
        mixer=mixer,
        kernel_size=kernel_size,
        **activations,
    )


@pytest.mark.parametrize("encoder_mixer_act", [False, True], ids=["listing", "later-tables"])
@pytest.mark.parametrize("mixer_at", [(2, 3, 4), (1,), ()], ids=str)
@pytest.mark.parametrize(
    ("mixer", "kernel_size"),
    [("cnn", 1), ("cnn", 5), ("cnnf", 3), ("cnn2d", 3), ("cnn2df", 1), ("cnn2df", 7), ("mlp", 1)],
)
def test_mixer(mixer: str, kernel_size: int, mixer_at: tuple[int, ...], encoder_mixer_act: bool) -> None:
    encoder_activation = None if encoder_mixer_act else "none"
    ours = article_mixer(mixer, kernel_size, mixer_at, encoder_mixer_activation=encoder_activation)
    listing = ListingMixer(mixer, kernel_size, mixer_at, encoder_mixer_act, HIDDEN)
    assert_same_function(listing, ours, torch.rand(5, 1, 28, 28))


@pytest.mark.parametrize("mixer_at", [(1,), (1, 2, 3, 4)], ids=str)
@pytest.mark.parametrize("mixer", ["cnn", "mlp"])
def test_mixing_at_1_with_the_article_s_last_activation(mixer: str, mixer_at: tuple[int, ...]) -> None:
    activations = {"encoder_mixer_activation": "none", "output_activation": "gelu"}
    ours = article_mixer(mixer, 1, mixer_at, **activations)
    listing = ListingMixer(mixer, 1, mixer_at, False, HIDDEN, last_act=True)
    assert_same_function(listing, ours, torch.rand(5, 1, 28, 28))


def test_first_layer_is_residual_where_the_channels_are_the_pixels_of_a_patch() -> None:
    """49 = 7 · 7 channels make the first and the last per-patch layer residual too."""
    torch.manual_seed(0)
    hidden = [49, 16]
    ours = create_model(
        "mixer", image_shape=(1, 28, 28), patch_size=7, hidden_channels=hidden, latent_dim=16, mixer_at=(2,)
    )
    assert_same_function(ListingMixer("cnn", 1, (2,), True, hidden), ours, torch.rand(3, 1, 28, 28))


@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
def test_cnn(kernel_size: int) -> None:
    torch.manual_seed(0)
    ours = create_model(
        "cnn", image_shape=(1, 28, 28), channels=[24, 32, 48], kernel_size=kernel_size, latent_dim=16
    )
    assert_same_function(ListingCnn(kernel_size), ours, torch.rand(3, 1, 28, 28))


@pytest.mark.parametrize(("prefix", "extra"), [("", 0), ("scl=3|", 3)], ids=["plain", "scl3"])
def test_script(prefix: str, extra: int) -> None:
    torch.manual_seed(0)
    script = f"{prefix}ch=32|down4|ch/2|ch/2|ch/2|ch*1|ch*1|ch=1"
    ours = create_model("script", image_shape=(3, 96, 96), script=script)
    assert_same_function(ListingScript(extra), ours, torch.rand(1, 3, 32, 32))
