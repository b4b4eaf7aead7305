"""What is said of a latent space, against what it must be."""

from __future__ import annotations

import math

import pytest
import torch

import mixcoder
from mixcoder.models import Autoencoder, create_model
from mixcoder.report.latents import (
    decode_flat,
    encode_flat,
    gaussian_samples,
    interpolate,
    neighbour_accuracy,
    project,
)


@pytest.fixture
def model() -> Autoencoder:
    """A network with a latent of three dimensions, 1 x 4 x 4."""
    torch.manual_seed(3)
    return create_model("script", image_shape=(1, 8, 8), script="ch=4|down2|ch=1").eval()


@pytest.fixture
def images() -> torch.Tensor:
    return mixcoder.load_data("digits").validation.images


def test_codes_are_those_of_encode(model: Autoencoder, images: torch.Tensor) -> None:
    with torch.inference_mode():
        expected = model.encode(images / 255)
        assert torch.allclose(encode_flat(model, images), expected.flatten(1), atol=1e-6)
        assert torch.allclose(
            decode_flat(model, expected.flatten(1)), model.decode(expected).clamp(0, 1), atol=1e-6
        )


def test_projection_keeps_what_varies_most() -> None:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(500, 7, generator=generator) * torch.tensor([9.0, 0.1, 4.0, 0.1, 0.1, 0.1, 0.1])
    points, explained = project(codes)
    for column, axis in ((0, 0), (1, 2)):
        assert abs(torch.corrcoef(torch.stack([points[:, column], codes[:, axis]]))[0, 1]) > 0.99
    assert explained[0] == pytest.approx(81 / 97, abs=0.03)
    assert project(torch.randn(20, 1))[0].shape == (20, 2)


@pytest.mark.parametrize(("count", "size"), [(300, 20), (40, 90), (2, 7), (9, 1), (5, 5)])
def test_projection_is_that_of_scikit_learn(count: int, size: int) -> None:
    from sklearn.decomposition import PCA  # type: ignore[import-untyped]

    generator = torch.Generator().manual_seed(size)
    codes = 3 + torch.randn(count, size, generator=generator) * torch.logspace(0, 1, size)
    points, explained = project(codes)
    kept = min(2, count, size)
    pca = PCA(kept, svd_solver="full")
    expected = torch.from_numpy(pca.fit_transform(codes.double().numpy())).float()
    shown = kept if count > 2 else 1  # two codes have one axis; the second is arbitrary
    assert torch.allclose(points[:, :shown], expected[:, :shown], rtol=1e-5, atol=1e-5)
    assert not points[:, kept:].any()
    assert explained == pytest.approx(pca.explained_variance_ratio_.tolist(), abs=1e-9)


@pytest.mark.parametrize("count", [3, 60, 700])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_probe_is_that_of_scikit_learn(count: int, size: int) -> None:
    from sklearn.neighbors import KNeighborsClassifier  # type: ignore[import-untyped]

    generator = torch.Generator().manual_seed(count)
    codes, new_codes = (torch.randn(images, size, generator=generator) for images in (count, 300))
    labels, new_labels = (torch.randint(2, 6, (images,), generator=generator) for images in (count, 300))
    probe = KNeighborsClassifier(min(5, count)).fit(codes.numpy(), labels.numpy())
    expected = probe.score(new_codes.numpy(), new_labels.numpy())
    assert neighbour_accuracy(codes, labels, new_codes, new_labels) == pytest.approx(expected)


def test_probe_knows_clusters_and_only_clusters() -> None:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(400) % 4
    noise = torch.randn(400, 3, generator=generator)
    clusters = noise * 0.1 + torch.nn.functional.one_hot(labels, 4)[:, :3]
    assert neighbour_accuracy(clusters[:200], labels[:200], clusters[200:], labels[200:]) == 1
    assert neighbour_accuracy(noise[:200], labels[:200], noise[200:], labels[200:]) < 0.5


def test_interpolation_begins_and_ends_with_the_reconstructions(
    model: Autoencoder, images: torch.Tensor
) -> None:
    lines = interpolate(model, images[:3], images[3:6], steps=5)
    assert lines.shape == (3, 5, 1, 8, 8)
    with torch.inference_mode():
        copies = model(images[:6] / 255).clamp(0, 1)
        middle = model.decode((model.encode(images[:3] / 255) + model.encode(images[3:6] / 255)) / 2)
    assert torch.allclose(lines[:, 0], copies[:3], atol=1e-5)
    assert torch.allclose(lines[:, -1], copies[3:], atol=1e-5)
    assert torch.allclose(lines[:, 2], middle.clamp(0, 1), atol=1e-5)


def test_samples_have_the_codes_mean_and_covariance(images: torch.Tensor) -> None:
    """A decoder that shows its code: what is drawn can be measured."""

    class Open(Autoencoder):
        image_shape = (1, 1, 2)
        latent_shape = (2,)

        def _encode(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)

        def _decode(self, latents: torch.Tensor) -> torch.Tensor:
            return latents.reshape(-1, 1, 1, 2)

    generator = torch.Generator().manual_seed(4)
    first = torch.randn(300, generator=generator) * 0.05
    codes = torch.stack([0.4 + first, 0.6 - 0.5 * first], dim=1)  # a covariance without an inverse
    samples = gaussian_samples(Open(), codes, 20_000).flatten(1)
    assert torch.allclose(samples.mean(0), codes.mean(0), atol=0.002)
    assert torch.allclose(samples.T.cov(), codes.T.cov(), atol=1e-4)
    assert torch.equal(gaussian_samples(Open(), codes, 5), gaussian_samples(Open(), codes, 5))
    assert not torch.equal(gaussian_samples(Open(), codes, 5), gaussian_samples(Open(), codes, 5, seed=1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("latent_shape", [(0,), (), (1,), (2, 0, 3)])
def test_latents_of_any_shape(images: torch.Tensor, latent_shape: tuple[int, ...]) -> None:
    """Also of one number, and of none at all: a decoder that has only biases."""

    class Small(Autoencoder):
        image_shape = (1, 8, 8)

        def _encode(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_ones(len(images), *self.latent_shape)

        def _decode(self, latents: torch.Tensor) -> torch.Tensor:
            assert latents.shape[1:] == self.latent_shape
            return latents.new_full((len(latents), 1, 8, 8), 0.5)

    small = Small()
    small.latent_shape = latent_shape
    codes = encode_flat(small, images)
    assert codes.shape == (297, math.prod(latent_shape))
    points, explained = project(codes)
    assert (points.tolist(), explained) == ([[0, 0]] * 297, [])
    assert interpolate(small, images[:2], images[2:4], steps=3).shape == (2, 3, 1, 8, 8)
    assert gaussian_samples(small, codes, 7).shape == (7, 1, 8, 8)


@pytest.mark.filterwarnings("error")
def test_one_code_has_neither_spread_nor_axes(model: Autoencoder, images: torch.Tensor) -> None:
    codes = encode_flat(model, images[:1])
    assert project(codes)[1] == []
    samples = gaussian_samples(model, codes, 3)
    assert torch.equal(samples, decode_flat(model, codes.expand(3, -1)))
    assert neighbour_accuracy(codes, torch.tensor([4]), codes, torch.tensor([4])) == 1
