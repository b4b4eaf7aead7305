"""Each measure is stated once: in one entry that tables, report, results on disk and TensorBoard read."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mixcoder import train
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.experiments.results.columns import MEASURE_COLUMNS, RESULT_COLUMNS
from mixcoder.experiments.runs.run_result import rounded_losses
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.measures import COSTS, MEASURES, measure
from mixcoder.models import Autoencoder, create_model
from mixcoder.pixels.shape import ImageShape
from mixcoder.training.evaluation import keep_codes, measure_reconstructions
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import slow
from tests.experiments.file.test_spec import SOUND

NEW_MEASURE = """
import mixcoder.measures as measures

measures.MEASURES += (
    measures.Measure(
        "mae", "mean error", "the mean absolute error", "{:.5f}".format, better="lower", is_averaged=True,
        tag="result/mae", compare=lambda copies, images: (copies - images).abs().flatten(1).mean(1),
    ),
)
from mixcoder.cli.app import main

options = ["x.yml", "training.steps=4", "training.log=[tensorboard]"]
for command in (["run"], ["table", "--average", "seed", "--format", "json"], ["report", "-o", "page.html"]):
    try:
        main([command[0], *options, "matrix.seed=[0]", "training.seed=${seed}", *command[1:]])
    except SystemExit as left:
        assert not left.code
    print("---")
"""


def measured(model: Autoencoder, split: ImageSplit) -> dict[str, float]:
    return {key: value for key, value in measure_reconstructions(model, split).items() if value is not None}


def test_training_raises_the_measures_and_reconstructions_are_clipped(tiny_data: ImageData) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    torch.manual_seed(0)
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[8], kernel_size=3, latent_dim=8)
    before = measured(model, tiny_data.validation)
    train(model, tiny_data, learning_rate=0.01, steps=600, batch_size=15)
    model.train()
    after = measured(model, tiny_data.validation)
    assert model.training
    assert after["psnr"] > before["psnr"] + 3
    assert after["ssim"] > before["ssim"] + 0.1

    images = tiny_data.validation.images / 255
    with torch.no_grad():
        reconstructions = model(images).clamp(0, 1)
    ratios = [
        peak_signal_noise_ratio(image.numpy(), reconstruction.numpy(), data_range=1)
        for image, reconstruction in zip(images, reconstructions, strict=True)
    ]
    assert after["psnr"] == pytest.approx(float(np.mean(ratios)), rel=1e-5)


def test_images_too_small_for_a_measure_lack_it_alone() -> None:
    images = torch.randint(0, 256, (3, 1, 2, 30), dtype=torch.uint8)
    model = create_model("cnn", image_shape=(1, 2, 30), channels=[2], kernel_size=1, latent_dim=2)
    found = measure_reconstructions(model, ImageSplit(images))
    assert found["ssim"] is None
    assert found["psnr"] is not None


def test_whatever_the_batches(tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("cnn", image_shape=(1, 4, 6), channels=[3], kernel_size=3, latent_dim=2)
    whole = measured(model, tiny_data.validation)
    monkeypatch.setattr("mixcoder.training.evaluation._LARGEST_BATCH", 4)
    assert measured(model, tiny_data.validation) == pytest.approx(whole, rel=1e-6)


def test_every_measure_has_a_column_and_stands_in_the_table_once() -> None:
    keys = [column.key for column in RESULT_COLUMNS]
    assert len(set(keys)) == len(keys)
    assert set(MEASURE_COLUMNS) < set(keys)
    assert MEASURE_COLUMNS["psnr"].heading == "PSNR (dB)"
    assert measure("psnr").better == "higher"
    assert list(COSTS) == [*("params", "madds", "encode_madds", "decode_madds", "train_madds", "time")]


def test_a_finished_run_states_every_measure(tmp_path: Path) -> None:
    from mixcoder.experiments.file.spec import read_experiment

    (tmp_path / "x.yml").write_text(SOUND)
    [run] = read_experiment(tmp_path / "x.yml", ["training.steps=4"]).runs
    result = train_run(run, tmp_path / "runs", lambda loop, progress: None).read_result()
    assert result is not None
    assert [key for key in result if key in MEASURE_COLUMNS][:4] == [
        "validation_loss", "best_validation_loss", "best_inputs", "validation_loss_8_bits",
    ]  # fmt: skip
    losses = [result[f"validation_loss_{bits}_bits"] for bits in (8, 6, 4)]
    assert losses[0] == pytest.approx(result["validation_loss"], rel=0.01)
    assert losses[2] != losses[1] != losses[0]
    assert {measure.key for measure in MEASURES} <= set(result)


class Entries(Autoencoder):
    """A model whose codes are entries of a code book: it decodes no others."""

    def __init__(self, image_shape: ImageShape) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = image_shape, (3,)
        self.layer = nn.Linear(3, math.prod(image_shape))

    def _encode(self, images: Tensor) -> Tensor:
        means = images.flatten(1).mean(1, keepdim=True)
        return (means * torch.tensor([100.0, 300.0, 500.0])).round()

    def _decode(self, latents: Tensor) -> Tensor:
        if not torch.equal(latents, latents.round()):
            raise RuntimeError("no entry of the code book")
        images: Tensor = self.layer(latents).reshape(-1, *self.image_shape)
        return images


def test_a_model_whose_codes_cannot_be_rounded_lacks_these_losses_alone(tiny_data: ImageData) -> None:
    loop = TrainingLoop(Entries(tiny_data.image_shape), tiny_data, Recipe(steps=1))
    assert loop.validate() > 0
    keys = [f"validation_loss_{bits}_bits" for bits in (8, 6, 4)]
    given = (loop.model, tiny_data.validation)
    codes = keep_codes(*given)
    for kept in (codes, None):
        assert rounded_losses(*given, kept, "mse") == dict.fromkeys(keys)


class Greedy(Entries):
    """A model that needs more memory than there is once its codes are rounded."""

    def _decode(self, latents: Tensor) -> Tensor:
        if not torch.equal(latents, latents.round()):
            torch.empty(2**60)
        return super()._decode(latents)


def test_no_loss_is_left_out_for_want_of_memory(tiny_data: ImageData) -> None:
    loop = TrainingLoop(Greedy(tiny_data.image_shape), tiny_data, Recipe(steps=1))
    codes = keep_codes(loop.model, tiny_data.validation)
    with pytest.raises(RuntimeError, match="alloc"):
        rounded_losses(loop.model, tiny_data.validation, codes, "mse")


@slow
def test_a_new_measure_is_one_entry(tmp_path: Path) -> None:
    """It is computed, kept, shown in table and report, averaged, and sent to TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "x.yml").write_text(SOUND)
    command = [sys.executable, "-c", NEW_MEASURE]
    said = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    table, rows, *_ = said.split("---\n")
    [row] = json.loads(rows)
    assert 0 < row["mae"] < 1
    assert "mean error" in table
    assert f"{row['mae']:.5f}" in table
    assert f">{row['mae']:.5f}</td>" in (tmp_path / "page.html").read_text()
    [events] = tmp_path.glob("runs/*/*/tensorboard")
    [point] = EventAccumulator(str(events)).Reload().Scalars("result/mae")
    assert point.value == pytest.approx(row["mae"])
