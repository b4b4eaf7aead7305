"""Images of some classes take part: in Python and in an experiment file, of every kind of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import mixcoder
from mixcoder import ImageData, ImageSplit
from mixcoder.data import CropSplit, create_source, load_data
from mixcoder.data.store.image_store import pack
from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import read_experiment
from tests.conftest import Cli, training_images
from tests.data.pictures import flat


def labels_of(data: ImageData) -> tuple[set[int], set[int]]:
    assert data.train.labels is not None
    assert data.validation.labels is not None
    return set(data.train.labels.tolist()), set(data.validation.labels.tolist())


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"classes": [0, 3]}, ({0, 3}, {0, 3})),
        ({"classes": [0, 3], "validation_classes": [9]}, ({0, 3}, {9})),
        ({"validation_classes": [9]}, (set(range(10)), {9})),
        ({"classes": [3, 3]}, ({3}, {3})),
        ({"classes": [0, 3], "search_holdout": 20}, ({0, 3}, {0, 3})),
    ],
)
def test_images_of_these_classes_and_no_others(
    keys: dict[str, Any], expected: tuple[set[int], set[int]]
) -> None:
    data = load_data("digits", **keys)
    assert labels_of(data) == expected
    whole = load_data("digits")
    assert whole.train.labels is not None
    if "search_holdout" not in keys and "classes" in keys:
        is_kept = torch.isin(whole.train.labels, torch.tensor(keys["classes"]))
        assert torch.equal(training_images(data), training_images(whole)[is_kept])
    assert create_source("digits", **keys).training_images == len(data.train)


def test_crops_of_packed_images_keep_their_labels(tmp_path: Path) -> None:
    names = [str(i) for i in range(12)]
    labels = {name: int(name) % 3 for name in names}
    store = pack(tmp_path / "x.safetensors", names, flat, "a key", labels=labels)
    split = CropSplit.of(store, range(2, 12), (3, 4))
    assert split.labels is not None
    assert split.labels.tolist() == [i % 3 for i in range(2, 12)]
    chosen = split.chosen(split.labels == 1)
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [1, 1, 1]
    centres = split.centre_crops()
    assert torch.equal(chosen.centre_crops().images, centres.images[split.labels == 1])
    assert chosen.identity() != split.identity()


def test_what_has_no_labels_or_not_these_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"classes: no image is of class 12; there are 0, 1, 2, .*9"):
        load_data("digits", classes=[1, 12])
    with pytest.raises(ArgumentError, match="validation_classes: no image is of class 12"):
        load_data("digits", validation_classes=[12])
    with pytest.raises(ArgumentError, match="classes"):
        load_data("digits", classes=[])
    with pytest.raises(ArgumentError, match="classes"):
        load_data("digits", classes=["one"])

    @mixcoder.register_source("plain")
    class Plain(mixcoder.DataSource):
        """Images without labels."""

        image_shape = (1, 4, 4)
        training_images = 3

        def load(self) -> ImageData:
            split = ImageSplit(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
            return ImageData("plain", split, split)

    with pytest.raises(ArgumentError, match="classes: the images of source plain have no labels"):
        load_data("plain", classes=[0])


FILE = """\
name: without-nines
data:
  source: digits
  classes: [0, 1, 2, 3, 4, 5, 6, 7, 8]
  validation_classes: [9]
model: {type: cnn, channels: [2], kernel_size: 3, latent_dim: 2}
training: {epochs: 1, batch_size: 100, validations: 1}
"""


def test_three_lines_of_an_experiment_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(FILE)
    [run] = read_experiment(tmp_path / "x.yml").runs
    count = len(load_data("digits", classes=list(range(9))).train)
    assert run.total_steps == -(-count // 100)
    assert cli("run", "x.yml")[0] == 0
    status, _, err = cli("run", "x.yml", "data.classes=[0, 12]")
    assert status == 2
    assert "no image is of class 12" in err


def test_runs_that_were_made_before_keep_their_directories(tmp_path: Path) -> None:
    """All classes, stated or not, is what it always was."""
    (tmp_path / "x.yml").write_text(FILE)
    overrides = ["data.classes=null", "data.validation_classes=null"]
    [run] = read_experiment(tmp_path / "x.yml", overrides).runs
    lines = [line for line in FILE.splitlines() if "classes" not in line]
    (tmp_path / "y.yml").write_text("\n".join(lines))
    [before] = read_experiment(tmp_path / "y.yml").runs
    assert run.digest == before.digest == "d9952fdb76"
