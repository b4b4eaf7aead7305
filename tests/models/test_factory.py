"""Models by name, and a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.models import MODELS, Autoencoder, create_model, named, register_model
from mixcoder.models.stack import StackedMixer
from mixcoder.models.summary import layer_rows
from tests.conftest import own_registries


@pytest.mark.parametrize("name", ["mixer", "cnn", "script"])
def test_examples_build_and_their_layers_follow_the_data(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, **MODELS[name].example)
    rows = layer_rows(model)
    assert rows[-1]["output_shape"] == list(model.image_shape)
    assert any(row["output_shape"] == list(model.latent_shape) for row in rows)
    assert {row["layer"] for row in rows if row["params"]} == {
        name.rpartition(".")[0] for name in model.state_dict()
    }


def test_unknown_model() -> None:
    with pytest.raises(ArgumentError, match="type: unknown model 'mixr'; did you mean 'mixer'?"):
        create_model("mixr")


def test_a_users_own_model() -> None:
    @register_model("flat")
    class Flat(Autoencoder):
        """One linear layer each way."""

        def __init__(self, image_shape: Sequence[int], latent_dim: int) -> None:
            super().__init__()
            self.image_shape = (image_shape[0], image_shape[1], image_shape[2])
            self.latent_shape = (latent_dim,)
            self.encoder, self.decoder = nn.Linear(4, latent_dim), nn.Linear(latent_dim, 4)

        def _encode(self, images: Tensor) -> Tensor:
            latents: Tensor = self.encoder(images.flatten(1))
            return latents

        def _decode(self, latents: Tensor) -> Tensor:
            images: Tensor = self.decoder(latents)
            return images.reshape(-1, *self.image_shape)

    assert create_model("flat", image_shape=(1, 2, 2), latent_dim=3)(torch.rand(5, 1, 2, 2)).shape == (
        5,
        1,
        2,
        2,
    )
    with pytest.raises(ArgumentError, match="latent_dim: is missing"):
        create_model("flat", image_shape=(1, 2, 2))


def test_a_model_has_a_decoder_in_one_piece_or_in_two() -> None:
    class Deaf(Autoencoder):
        """Encodes alone."""

        image_shape, latent_shape = (1, 2, 2), (4,)

        def _encode(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    class Whole(Deaf):
        """Decodes in one go."""

        def _decode(self, latents: Tensor) -> Tensor:
            return latents.view(-1, 1, 2, 2).sigmoid()

    class Halves(Deaf):
        """Decodes the same in two steps."""

        def _decode_before_output(self, latents: Tensor) -> Tensor:
            return latents.view(-1, 1, 2, 2)

        def _output(self, values: Tensor) -> Tensor:
            return values.sigmoid()

    images = torch.rand(3, 1, 2, 2)
    assert torch.equal(Whole()(images), Halves()(images))
    assert torch.equal(Whole()._decode_before_output(images), Whole().decode(images.flatten(1)))
    with pytest.raises(ArgumentError, match="^Deaf has no decoder; implement `_decode`, or `_decode_before_"):
        Deaf()


def test_a_known_kind_needs_no_list_of_trained_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "TRAINED", None)  # which cannot be listed
    assert create_model("cnn", image_shape=(1, 8, 8), channels=[2], kernel_size=3, latent_dim=2)
    with pytest.raises(AttributeError):
        create_model("cnnx")


def test_same_seed_same_weights() -> None:
    def weights() -> Tensor:
        torch.manual_seed(3)
        model = create_model("cnn", image_shape=(1, 8, 8), channels=[2], kernel_size=3, latent_dim=2)
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(), weights())


def test_refine_wants_the_decoder_of_a_class_whole() -> None:
    with own_registries():

        @register_model("inverted")
        class Inverted(StackedMixer):
            """A stack that decodes to negatives."""

            def _decode(self, latents: Tensor) -> Tensor:
                return 1 - super()._decode(latents)

        sizes: dict[str, Any] = dict(StackedMixer.example)
        assert isinstance(create_model("inverted", **sizes), Inverted)
        with pytest.raises(
            ArgumentError, match="refine: needs `_decode_before_output` and `_output` of Inverted"
        ):
            create_model("inverted", **sizes, refine={"steps": 1})
