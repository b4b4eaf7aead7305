"""The Mixer: shapes, what mixing means, a user's own layer, and the numbers that clash."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models import MIXERS, MixingLayer, create_model, register_mixer
from mixcoder.models.patches import Grid, Patchify, Unpatchify

BASE: dict[str, Any] = {
    "image_shape": (1, 8, 12),
    "patch_size": 4,
    "hidden_channels": [9, 16],
    "latent_dim": 5,
    "mixer_at": [1, 2],
}


def mixer(**changes: Any) -> Any:
    return create_model("mixer", **{**BASE, **changes})


@pytest.mark.parametrize("name", ["cnn", "cnnf", "cnn2d", "cnn2df", "mlp"])
def test_non_square_images_and_grids(name: str) -> None:
    model = mixer(mixer=name, kernel_size=3)
    latents = model.encode(torch.rand(2, 1, 8, 12))
    assert latents.shape == (2, 5)
    assert model.decode(latents).shape == (2, 1, 8, 12)
    assert model.compression_ratio == 8 * 12 / 5


@pytest.mark.parametrize("name", ["cnn", "cnnf", "cnn2d", "cnn2df", "mlp"])
def test_mixing_layers_mix(name: str) -> None:
    """What happens in one patch reaches another through each layer, and the way of x stays open."""
    torch.manual_seed(0)
    layer = MIXERS[name]((2, 3), 9, 3)  # type: ignore[call-arg]
    x = torch.rand(1, 6, 9, requires_grad=True)
    layer(x)[0, 5].sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].abs().sum() > 0
    assert layer(x).shape == x.shape
    torch.testing.assert_close(layer(x) - layer.mix(x), x)


def test_without_mixing_a_patch_stays_by_itself() -> None:
    model = mixer(mixer_at=[])
    images = torch.rand(1, 1, 8, 12, requires_grad=True)
    model.encoder[:-1](model.patchify(images))[0, 5].sum().backward()
    assert images.grad is not None
    assert images.grad[0, 0, :4, :4].abs().sum() == 0


def test_patches_are_cut_row_by_row_and_put_together_again() -> None:
    images = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    patches = Patchify(2)(images)
    assert patches.shape == (2, 6, 12)
    torch.testing.assert_close(patches[1, 4], images[1, :, 2:4, 2:4].flatten())
    assert torch.equal(Unpatchify((3, 4, 6), 2)(patches), images)


def test_norms_stand_before_residual_layers_only() -> None:
    names = dict(mixer(hidden_channels=[9, 9, 16], norm="layer").named_modules())
    norms = [name for name, module in names.items() if isinstance(module, nn.LayerNorm)]
    assert norms == [
        "encoder.1.norm",
        "encoder.2.norm",
        "encoder.3.norm",
        "decoder.2.norm",
        "decoder.3.norm",
        "decoder.4.norm",
    ]


def test_a_users_own_layer_works_at_once() -> None:
    @register_mixer("swap")
    class Swap(MixingLayer):
        def __init__(self, grid: Grid, channels: int, kernel_size: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(channels))

        def mix(self, x: Tensor) -> Tensor:
            return x.flip(1) * self.scale

    model = mixer(mixer="swap", activation="tanh")
    assert model(torch.rand(2, 1, 8, 12)).shape == (2, 1, 8, 12)
    assert model.encoder[1].scale.shape == (9,)
    register_mixer("swap")(Swap)  # the same again, as when a notebook's cell runs twice
    with pytest.raises(ArgumentError, match="a mixing layer named 'cnn' exists already; take another name"):
        register_mixer("cnn")(Swap)


def test_the_output_activation_stands_behind_all_else_also_a_residual_layer() -> None:
    plain, tanh = mixer(hidden_channels=[16, 9]), mixer(hidden_channels=[16, 9], output_activation="tanh")
    assert list(tanh.state_dict()) == list(plain.state_dict())
    tanh.load_state_dict(plain.state_dict())
    images = torch.rand(2, 1, 8, 12)
    torch.testing.assert_close(tanh(images), plain(images).tanh())


def test_a_clamp_clips_and_in_training_lets_a_tenth_through() -> None:
    plain, clamped = mixer(), mixer(output_activation="clamp")
    clamped.load_state_dict(plain.state_dict())
    images = torch.rand(4, 1, 8, 12)
    with torch.no_grad():
        plain.decoder[-1].module.bias.copy_(torch.linspace(-1, 2, 16))
        clamped.load_state_dict(plain.state_dict())
    outputs = plain(images)
    assert (outputs < 0).any()
    assert (outputs > 1).any()
    torch.testing.assert_close(clamped.eval()(images), outputs.clamp(0, 1))
    beyond = outputs - outputs.clamp(0, 1)
    torch.testing.assert_close(clamped.train()(images), outputs.clamp(0, 1) + beyond / 10)
    (gradient,) = torch.autograd.grad(clamped(images).sum(), clamped.decoder[-1].module.bias)
    assert gradient.min() > 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mixer": "cnn3"}, "mixer: unknown mixing layer 'cnn3'; did you mean 'cnn'?"),
        (
            {"kernel_size": 4},
            "kernel_size: must be odd so that padding keeps the size, got 4; 3 or 5 would fit",
        ),
        ({"kernel_size": 0}, "got 0; 1, 3 or 5 would fit"),
        ({"mixer_at": [3]}, "mixer_at: position 3 is beyond the 2 entries of hidden_channels"),
        ({"mixer_at": [0]}, "positions run from 1 to 2"),
        ({"mixer_at": [1, 1]}, "mixer_at: names position 1 twice"),
        ({"patch_size": 5}, "do not tile an image of 8 x 12; these sizes do: 1, 2, 4"),
        ({"patch_size": -4}, "these sizes do: 1, 2, 4"),
        (
            {"mixer": "cnn2d", "hidden_channels": [9, 32]},
            "32 is not a square number; 25 (5 x 5) or 36 (6 x 6)",
        ),
        ({"hidden_channels": []}, "hidden_channels: needs at least one"),
        ({"hidden_channels": [9, 0]}, "hidden_channels: must be a whole number from 1 to 1,000,000, got 0"),
        ({"latent_dim": -1}, "latent_dim: must be a whole number from 1 to 1,000,000, got -1"),
        (
            {"image_shape": (8, 12)},
            "image_shape: must be three whole numbers (channels, height, width) from 1 to 65,536",
        ),
        ({"activation": "gello"}, "activation: unknown activation 'gello'; did you mean 'gelu'?"),
        ({"norm": "batch"}, "norm: unknown norm 'batch'; known: layer, none, rms"),
        ({"mixer_at": [], "mixer": "foo"}, "mixer: unknown mixing layer 'foo'"),
        ({"hidden_channels": [16], "mixer_at": [], "norm": "foo"}, "norm: unknown norm 'foo'"),
        ({"mixer_at": [], "encoder_mixer_activation": "foo"}, "unknown activation 'foo'"),
        ({"encoder_mixer_activation": ""}, "unknown activation ''"),
        ({"output_activation": "clam"}, "unknown output activation 'clam'; did you mean 'clamp'?"),
        ({"activation": "clamp"}, "activation: unknown activation 'clamp'"),
        ({"patch_siz": 4}, "patch_siz: unknown key 'patch_siz'; did you mean 'patch_size'?"),
        ({"patch_size": "4"}, "patch_size: must be a whole number, not the text '4'"),
        ({"patch_size": True}, "patch_size: must be a whole number, not true"),
        ({"hidden_channels": 9}, "hidden_channels: must be a list, not 9"),
        ({"hidden_channels": [9, 1.5]}, "hidden_channels.1: must be a whole number, not 1.5"),
    ],
)
def test_clear_errors(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        mixer(**changes)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (torch.rand(2, 3, 8, 12), r"images must have shape (B, 1, 8, 12), got (2, 3, 8, 12)"),
        (torch.rand(8, 12), r"images must have shape (B, 1, 8, 12), got (8, 12)"),
        (
            torch.zeros(2, 1, 8, 12, dtype=torch.uint8),
            "images must be floating point in [0, 1], got torch.uint8",
        ),
    ],
)
def test_wrong_images_are_refused_at_the_door(batch: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        mixer().encode(batch)


def test_wrong_latents_are_refused_at_the_door() -> None:
    with pytest.raises(ValueError, match=re.escape("latents must have shape (B, 5), got (2, 6)")):
        mixer().decode(torch.rand(2, 6))
