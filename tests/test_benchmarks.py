"""The benchmark compares equals: the plain models compute what Mixcoder's compute."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import gemms, own_networks, plain, plain_invented
from benchmarks.pca import pca_losses
from benchmarks.refinement_steps import losses_by_steps
from benchmarks.throughput import MODELS, mixer_arguments
from sklearn.decomposition import PCA  # type: ignore[import-untyped]

from mixcoder.data import ImageSplit, load_data, to_float
from mixcoder.models import create_model
from mixcoder.training.evaluation import measure_reconstructions, validation_loss
from tests.conftest import needs_compiler, own_registries, register_again, registered, slow

with own_registries():
    from benchmarks import invented

    _INVENTED = registered()

MIXERS = [name for name, arguments in MODELS.items() if "mixer" in arguments]


@pytest.fixture(autouse=True)
def _registered() -> None:
    """The names of the benchmark are known in these tests alone."""
    register_again([dict(entries) for entries in _INVENTED])


@pytest.mark.parametrize("name", MIXERS)
def test_a_plain_mixer_is_mixcoders(name: str) -> None:
    torch.manual_seed(0)
    ours = create_model("mixer", image_shape=(1, 28, 28), **mixer_arguments(name))
    theirs = plain.Mixer(plain.MIXERS[MODELS[name]["mixer"]], MODELS[name]["kernel_size"])
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(theirs(images), ours(images), rtol=1e-4, atol=1e-5)


def test_the_plain_cnn_is_mixcoders() -> None:
    torch.manual_seed(0)
    ours = create_model("cnn", image_shape=(1, 28, 28), channels=[24, 32, 48], kernel_size=5, latent_dim=16)
    theirs = plain.Cnn(5)
    weights = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(weights)
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(theirs(images), ours(images), rtol=1e-4, atol=1e-5)


def test_the_plain_loop_learns() -> None:
    torch.manual_seed(0)
    images = torch.full((256, 1, 28, 28), 200, dtype=torch.uint8)
    model = plain.Mixer(plain.MIXERS["cnn"])
    steps = plain.steps(model, images, plain.adamw(model, 0.003), compiled=False)
    losses = [float(next(steps)) for _ in range(30)]
    assert losses[-1] < losses[0] / 5


@needs_compiler
def test_one_gemm_of_each_precision_is_the_chosen_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemms, "REPETITIONS", 1)
    monkeypatch.setattr(gemms, "FLOATING_POINT_OPERATIONS", 1e6)
    rates = gemms.gemm_rates((8, 8, 8), "a")
    assert [rate.startswith("**") for rate in rates].count(True) == 2
    assert all(float(rate.strip("*")) > 0 for rate in rates)


@pytest.mark.parametrize("name", list(own_networks.NETWORKS))
def test_the_user_s_own_is_the_same_without_mixcoder(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = own_networks.create_network(name), own_networks.NETWORKS[name].plain()
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(5, 1, 28, 28)
    torch.testing.assert_close(theirs(images), ours(images), rtol=1e-4, atol=1e-5)


def test_the_shift_is_the_documents() -> None:
    document = (Path(__file__).parents[1] / "docs" / "mixing-layers.md").read_text("utf-8")
    ours = inspect.getsource(invented.ShiftMixing).replace("  # type: ignore[no-any-return]", "")
    assert ours in document


def test_the_refined_network_has_its_size() -> None:
    sizes = [sum(p.numel() for p in plain_invented.Refined(steps).parameters()) for steps in (0, 1, 2)]
    assert sizes == [48_344, 48_600, 48_856]


@slow
def test_the_benchmark_of_a_gpu_runs_without_one() -> None:
    """With next to nothing to compute: a machine with a GPU is lent for minutes, and mistakes take them."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run"]
    root = Path(__file__).parents[1]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("first line of a run: native steps, products in ")
    assert "\n| cnn k1 | " in printed
    assert "sweep of 2 seeds, " in printed
    assert "runs ended: " not in printed
    assert "tests collected" in printed


def test_the_loss_of_pca_is_scikit_learns() -> None:
    data = load_data("digits")
    assert isinstance(data.train, ImageSplit)
    train, validation = (to_float(split.images).flatten(1).numpy() for split in (data.train, data.validation))
    losses = pca_losses(data.train.images, data.validation.images, [4, 16])
    for size, loss in zip([4, 16], losses, strict=True):
        pca = PCA(size).fit(train)
        restored = pca.inverse_transform(pca.transform(validation))
        assert loss == pytest.approx(((restored - validation) ** 2).mean(), rel=1e-4)


def test_losses_by_steps_are_those_of_validations() -> None:
    """As many steps as trained give the validation loss, and other numbers another one."""
    torch.manual_seed(0)
    model = create_model(
        "mixer", image_shape=(1, 8, 8), patch_size=4, hidden_channels=[8], latent_dim=4, refine={"steps": 2}
    )
    split = load_data("digits").validation
    none, _, two, three = losses_by_steps(model, split, range(4))
    assert two["loss"] == pytest.approx(validation_loss(model, split, "mse"), rel=1e-5)
    assert two["psnr"] == pytest.approx(measure_reconstructions(model, split)["psnr"], rel=1e-5)
    assert none["loss"] > two["loss"] > three["loss"]
