"""Arrays in a file of numpy, in Python and in an experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from mixcoder.data import create_source, load_data
from mixcoder.errors import ArgumentError, DataError, MixcoderWarning
from tests.conftest import Cli, training_images

PIXELS = np.random.default_rng(4).integers(0, 256, (20, 8, 6), dtype=np.uint8)
LABELS = np.arange(20)

NAMES = {
    "Keras": {"x_train": PIXELS[:15], "y_train": LABELS[:15], "x_test": PIXELS[15:], "y_test": LABELS[15:]},
    "MedMNIST": {
        "train_images": PIXELS[:15], "train_labels": LABELS[:15], "val_images": PIXELS[15:],
        "val_labels": LABELS[15:], "test_images": PIXELS, "test_labels": LABELS,
    },
}  # fmt: skip


@pytest.mark.parametrize("names", NAMES)
def test_usual_names_are_known(names: str, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "mine.npz", **NAMES[names])  # type: ignore[arg-type]
    data = load_data("npz", path=str(tmp_path / "mine.npz"))
    assert np.array_equal(training_images(data)[:, 0].numpy(), PIXELS[:15])
    assert np.array_equal(data.validation.images[:, 0].numpy(), PIXELS[15:])
    assert data.validation.labels is not None
    assert data.validation.labels.tolist() == list(range(15, 20))
    assert create_source("npz", path=str(tmp_path / "mine.npz")).image_shape == (1, 8, 6)


def test_names_of_ones_own(tmp_path: Path) -> None:
    path = str(tmp_path / "mine.npz")
    np.savez(path, first=PIXELS, numbers=LABELS, second=PIXELS[:3])
    data = load_data("npz", path=path, train="first", labels="numbers", validation="second")
    assert (len(data.train), len(data.validation)) == (20, 3)
    assert data.validation.labels is None
    with pytest.raises(
        ArgumentError, match=r"train: is missing: name an array of .*mine\.npz; known: first, num"
    ):
        load_data("npz", path=path)
    with pytest.raises(ArgumentError, match=r"train: .* has no array 'frist'; did you mean 'first'\?"):
        load_data("npz", path=path, train="frist")


def test_one_array_alone(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PIXELS)
    data = load_data("npz", path=str(tmp_path / "mine.npy"), validation_share=0.25)
    assert (len(data.train), len(data.validation)) == (15, 5)


WRONG: dict[str, tuple[Any, str]] = {
    "objects": (np.array([{}, {}], dtype=object), "cannot be read .*allow_pickle"),
    "no file of numpy": (b"hello", "cannot be read"),
    "a torn file": (b"PK\3\4" + bytes(50), "cannot be read"),
    "nothing": (None, "there is no such file"),
    "numbers": (np.zeros((5, 8, 8), np.int64), "train: must be uint8, bool, or float in"),
    "one image": (PIXELS[0], "train: .* is that of one image"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_everything_else_is_a_sentence(kind: str, tmp_path: Path) -> None:
    content, message = WRONG[kind]
    path = tmp_path / "mine.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises((DataError, ArgumentError), match=message):
        load_data("npz", path=str(path))


def test_floats_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", PIXELS / 255)
    with pytest.warns(MixcoderWarning, match="became whole numbers"):
        data = load_data("npz", path=str(tmp_path / "mine.npy"))
    assert set(training_images(data).flatten().tolist()) <= set(PIXELS.flatten().tolist())


yaml = YAML(typ="safe")

FILE = """\
name: mine
data: {source: npz, path: arrays/mine.npz}
model: {type: cnn, channels: [2], kernel_size: 3, latent_dim: 2}
training: {steps: 2, batch_size: 4, validations: 1}
"""


def test_an_experiment_file_states_a_path_and_the_run_what_was_found(cli: Cli, tmp_path: Path) -> None:
    """Its run directory is understood where the file is no longer."""
    folder = tmp_path / "there"
    (folder / "arrays").mkdir(parents=True)
    np.savez(folder / "arrays" / "mine.npz", **NAMES["Keras"])  # type: ignore[arg-type]
    (folder / "x.yml").write_text(FILE)
    assert cli("run", "there/x.yml")[0] == 0
    [config] = tmp_path.glob("runs/mine/*/config.yml")
    assert yaml.load(config)["data"]["image_shape"] == [1, 8, 6]
    (folder / "arrays" / "mine.npz").unlink()
    assert cli("table", "runs/mine", "--format", "csv")[0] == 0
    status, _, err = cli("run", "there/x.yml")
    assert status == 2
    assert "mine.npz: there is no such file" in err
