"""Images of the training set that take the place of the validation set."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mixcoder.data import CropSplit, DataSource, ImageData, ImageSplit, load_data, register_source
from mixcoder.data.holdout import held_out_indices, hold_out
from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.models import create_model
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import slow, training_images
from tests.data.sources.test_folder import make

EXPERIMENT = """\
name: held
data: {source: digits, search_holdout: 300}
model: {type: mixer, patch_size: 4, hidden_channels: [8], latent_dim: 4}
training: {epochs: 2, batch_size: 100}
"""


def _as_set(images: Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_digits_are_divided_without_a_rest() -> None:
    whole, data = load_data("digits"), load_data("digits", search_holdout=300)
    assert (len(data.train), len(data.validation)) == (1200, 300)
    chosen = held_out_indices(1500, 300)
    assert torch.equal(data.validation.images, training_images(whole)[chosen])
    assert data.validation.labels is not None
    assert whole.train.labels is not None
    assert torch.equal(data.validation.labels, whole.train.labels[chosen])
    parts = [_as_set(images) for images in (training_images(data), data.validation.images)]
    assert len(parts[0] & parts[1]) == 0
    assert parts[0] | parts[1] == _as_set(training_images(whole))
    assert not parts[1] & _as_set(whole.validation.images)


@slow
def test_mnist_is_divided_without_a_rest(mnist_folder: Path) -> None:
    whole, data = load_data("mnist"), load_data("mnist", search_holdout=5_000)
    assert (len(data.train), len(data.validation)) == (55_000, 5_000)
    parts = [_as_set(images) for images in (training_images(data), data.validation.images)]
    assert not parts[0] & parts[1]
    assert not parts[1] & _as_set(whole.validation.images)


def test_which_images_are_held_out_is_fixed() -> None:
    # Pinned: other images would make every earlier choice a different one.
    assert held_out_indices(20, 5).tolist() == [2, 4, 6, 13, 19]
    assert set(held_out_indices(20, 5).tolist()) < set(held_out_indices(20, 8).tolist())
    assert len(set(held_out_indices(60_000, 5_000).tolist())) == 5_000


def test_the_validation_set_changes_nothing(tiny_data: ImageData) -> None:
    """Not the images, and not a weight or a loss of the model that is trained on them."""
    noise = torch.randint(0, 256, (9, 1, 4, 6), dtype=torch.uint8)
    others = [replace(tiny_data, validation=ImageSplit(noise)), tiny_data]
    held = [hold_out(data, 15) for data in others]
    assert held[0].content_hash() == held[1].content_hash() != tiny_data.content_hash()
    recipe, losses = Recipe(steps=4, batch_size=8, validations=2), []
    for data in held:
        torch.manual_seed(0)
        model = create_model(
            "mixer", image_shape=data.image_shape, patch_size=2, hidden_channels=[4], latent_dim=3
        )
        losses.append([progress.validation_loss for progress in TrainingLoop(model, data, recipe).run()])
    assert losses[0] == losses[1] != []


def test_photos_are_held_out_and_their_middle_validates(tmp_path: Path, empty_cache: Path) -> None:
    make(tmp_path / "photos", 30)
    arguments: dict[str, Any] = {"path": str(tmp_path / "photos"), "crop_size": 8, "validation_share": 0.3}
    whole, data = load_data("folder", **arguments), load_data("folder", **arguments, search_holdout=4)
    assert isinstance(data.train, CropSplit)
    assert isinstance(whole.train, CropSplit)
    assert (len(data.train), len(data.validation)) == (len(whole.train) - 4, 4)
    chosen = held_out_indices(len(whole.train), 4)
    assert torch.equal(data.validation.images, whole.train.centre_crops().images[chosen])
    assert not set(data.train.offsets.tolist()) & set(whole.train.offsets[chosen].tolist())


def test_epochs_count_the_images_that_are_left(tmp_path: Path) -> None:
    path = tmp_path / "held.yml"
    path.write_text(EXPERIMENT)
    [run] = read_experiment(path).runs
    assert run.total_steps == 2 * 1200 // 100
    assert run.create_source().training_images == len(run.create_source().load().train)


def test_without_it_a_run_is_the_one_that_it_was(tmp_path: Path) -> None:
    path = tmp_path / "held.yml"
    path.write_text(EXPERIMENT)
    digests = [
        read_experiment(path, overrides).runs[0].digest
        for overrides in (["data.search_holdout=null"], [], ["data.search_holdout=200"])
    ]
    path.write_text(EXPERIMENT.replace(", search_holdout: 300", ""))
    assert read_experiment(path).runs[0].digest == digests[0] == "ff37e88cfd"
    assert len(set(digests)) == 3


WRONG = {
    "0": "must be above 0, not 0",
    "-1": "must be above 0, not -1",
    "1500": "must be below 1,500, the number of training images, not 1,500",
    "2.5": "must be a whole number, not 2.5",
    "many": "must be a whole number, not the text 'many'",
}


@pytest.mark.parametrize("value", WRONG)
def test_impossible_numbers_are_told_with_their_line(value: str, tmp_path: Path) -> None:
    path = tmp_path / "held.yml"
    path.write_text(EXPERIMENT.replace("300", value))
    with pytest.raises(Exception, match=re.escape(f"{path}:2: data.search_holdout: {WRONG[value]}")):
        read_experiment(path)


def test_too_many_photos_are_told_before_anything_trains(tmp_path: Path, empty_cache: Path) -> None:
    make(tmp_path / "photos", 12)
    path = tmp_path / "held.yml"
    photos = "folder, path: photos, crop_size: 8, validation_share: 0.3, search_holdout: 90"
    path.write_text(EXPERIMENT.replace("digits, search_holdout: 300", photos))
    [run] = read_experiment(path).runs
    with pytest.raises(ArgumentError, match="search_holdout: must be below [0-9]+, the number of training"):
        run.create_source().prepare()


class _Strange:
    """A split of a plugin that cannot be divided."""

    draws: ClassVar[int] = 0
    device = torch.device("cpu")
    labels = None
    image_shape = (1, 4, 4)

    def __len__(self) -> int:
        return 9

    def to(self, device: torch.device) -> _Strange:
        return self

    def batch(self, indices: Tensor, draws: Tensor) -> Tensor:
        return torch.zeros(len(indices), 1, 4, 4, dtype=torch.uint8)

    def identity(self) -> bytes:
        return b"strange"


class _Plugin(DataSource):
    """Images of a user's own."""

    image_shape = (1, 4, 4)
    training_images = 9

    def __init__(self, is_strange: bool = False) -> None:
        self.is_strange = is_strange

    def load(self) -> ImageData:
        images = ImageSplit(torch.arange(9, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 4, 4))
        return ImageData("mine", _Strange() if self.is_strange else images, images)


def test_a_plugins_source_takes_the_key_too() -> None:
    register_source("mine")(_Plugin)
    data = load_data("mine", search_holdout=2)
    assert (len(data.train), len(data.validation)) == (7, 2)
    with pytest.raises(ArgumentError, match=r"source mine cannot hold out images: .* _Strange"):
        load_data("mine", is_strange=True, search_holdout=2)


def test_an_argument_of_that_name_is_refused() -> None:
    class Clash(_Plugin):
        def __init__(self, search_holdout: int = 3) -> None:
            super().__init__()

    with pytest.raises(ArgumentError, match="search_holdout: is a key of every data source"):
        register_source("clash")(Clash)
