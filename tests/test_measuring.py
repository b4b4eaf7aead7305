"""What the page on measuring says of the figures is what the code does."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mixcoder.backends import speed
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.cost import count_madds
from mixcoder.pixels import quality
from mixcoder.training import training_loop
from mixcoder.training.evaluation import measure_reconstructions
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.documents import ROOT, read_document

PAGE = " ".join(read_document("docs/measuring.md").split())

NUMBERS = {
    f"`validations: {Recipe(steps=1).validations}`": "how often is validated",
    f"at most {training_loop._LARGEST_CHUNK} steps": "what a training loss is the mean of",
    f"the {training_loop._CHUNKS_A_RUN}th part of the run": "warm-up",
    f"counts as {quality._BEST_PSNR:.0f} dB": "a perfect copy",
    f"K₁ = {quality._K1}, K₂ = {quality._K2}": "SSIM's constants",
    f"{quality._WINDOW} x {quality._WINDOW} pixels and standard deviation {quality._SIGMA}": "SSIM's window",
    f"below {quality._SMALLEST_WINDOW} pixels": "images without SSIM",
    f"{speed._COMPILED_GAIN} times as fast": "a plan's minutes of compiled steps",
}


@pytest.mark.parametrize("sentence", NUMBERS, ids=NUMBERS.values())
def test_the_numbers_of_the_page_are_those_of_the_code(sentence: str) -> None:
    assert sentence in PAGE


class Layer(Autoencoder):
    """One layer from images of (2, 6, 5), and nothing back."""

    image_shape = (2, 6, 5)
    latent_shape = (1,)

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.place = nn.Parameter(torch.zeros(1))  # says where the model is

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.layer(images)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        return latents

    def _check_latents(self, latents: Tensor) -> None:
        pass


@pytest.mark.parametrize(
    ("layer", "madds"),
    [
        (nn.Linear(5, 7), 2 * 6 * 5 * 7),  # 2 x 6 rows in the place of patches
        (nn.Conv2d(2, 3, 3), 9 * 2 * 3 * 4 * 3),  # to 4 x 3 places
        (nn.Conv2d(2, 3, 3, padding=1), 9 * 2 * 3 * 6 * 5),  # to 6 x 5 places, some taps on padding
        (nn.ConvTranspose2d(2, 3, 3), 9 * 2 * 3 * 6 * 5),  # from 6 x 5 places
        (nn.GELU(), 0),
    ],
)
def test_the_table_of_multiply_adds(layer: nn.Module, madds: int) -> None:
    assert count_madds(Layer(layer)) == madds


def over_a_grid_of_4_x_4(kernel_size: int) -> int:
    sizes = {"patch_size": 7, "hidden_channels": [4], "latent_dim": 1, "mixer_at": [1]}
    with torch.device("meta"):
        return count_madds(
            create_model("mixer", image_shape=(1, 28, 28), mixer="cnn2df", kernel_size=kernel_size, **sizes)
        )


def test_taps_that_meet_padding_alone_do_not_count() -> None:
    """Of the picture of 2 x 2 that `cnn2df` also sees, 3 x 3 taps reach all."""
    assert over_a_grid_of_4_x_4(3) < over_a_grid_of_4_x_4(5) < over_a_grid_of_4_x_4(7)
    assert over_a_grid_of_4_x_4(7) == over_a_grid_of_4_x_4(13)


def test_a_training_step_takes_up_to_three_times_the_multiply_adds() -> None:
    model = read_experiment(ROOT / "experiments/mnist/first.yml").runs[0].create_model()
    images = torch.rand(2, *model.image_shape)
    with FlopCounterMode(display=False) as counter:
        (model(images) - images).square().mean().backward()
    ratio = counter.get_total_flops() / 2 / len(images) / count_madds(model)
    assert 2.5 < ratio <= 3


def test_the_mean_of_psnrs_is_the_larger_one() -> None:
    images = torch.randint(
        0, 256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    model = create_model("cnn", image_shape=(1, 8, 8), channels=[2], kernel_size=3, latent_dim=2)
    copies = model(images / 255).clamp(0, 1)
    of_the_mean_error = -10 * (copies - images / 255).square().mean().log10().item()
    mean = measure_reconstructions(model, ImageSplit(images))["psnr"]
    assert mean is not None
    assert mean > of_the_mean_error


def test_training_loss_is_the_mean_since_the_line_before(tiny_data: ImageData) -> None:
    """The losses of the steps themselves, as the loop takes them."""
    torch.manual_seed(0)
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[2], kernel_size=3, latent_dim=2)
    run = TrainingLoop(model, tiny_data, Recipe(steps=900, batch_size=4, validations=1))
    losses: list[float] = []
    create = run.create_step

    def noting() -> object:
        step = create()

        def noted(images: Tensor) -> Tensor:
            loss = step(images)
            losses.append(loss.item())
            return loss

        return noted

    run.create_step = noting  # type: ignore[assignment,method-assign]
    start = 0
    for progress in run.run():
        assert progress.training_loss == pytest.approx(statistics.fmean(losses[start:]))
        start = progress.step
    assert len(losses) == 900


def test_every_figure_of_the_page_is_in_the_result(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        "name: mine\ndata: {source: digits}\n"
        "model: {type: cnn, channels: [4], kernel_size: 3, latent_dim: 4}\ntraining: {inputs: 640}\n"
    )
    [run] = read_experiment(tmp_path / "x.yml").runs
    directory = train_run(run, tmp_path / "runs", lambda loop, progress: None)
    result = json.loads((directory.path / "result.json").read_text())
    for key in (
        *("validation_loss", "best_validation_loss", "psnr", "ssim", "params", "madds", "latent_shape"),
        *("compression_ratio", "inputs", "train_minutes", "warmup_seconds", "throughput"),
        *("last_session_seconds", "hardware", "execution"),
    ):
        assert key in result
        assert key in PAGE
    after_warmup = result["train_minutes"] * 60 - result["warmup_seconds"]
    assert result["throughput"] == pytest.approx((640 - 64) / after_warmup)  # the first of ten steps is it
    assert result["last_session_seconds"] > result["train_minutes"] * 60
