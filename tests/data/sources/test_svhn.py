"""SVHN: files of Matlab, read by scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixcoder.data import load_data
from mixcoder.data.sources.svhn import Svhn
from mixcoder.errors import DataError
from tests.conftest import training_images

IMAGES = np.random.default_rng(3).integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)
LABELS = [10, 1, 2, 3, 4, 5, 6, 7, 8]
"""As published: 10 stands for a zero."""


@pytest.fixture
def folder(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of six and three images, as published."""
    savemat = pytest.importorskip("scipy.io").savemat
    monkeypatch.setattr("mixcoder.data.sources.svhn._COUNTS", {"train_32x32.mat": 6, "test_32x32.mat": 3})
    folder = empty_cache / "svhn"
    folder.mkdir(parents=True)
    for file, row in (("train_32x32.mat", slice(0, 6)), ("test_32x32.mat", slice(6, 9))):
        arrays = {"X": IMAGES[row].transpose(2, 3, 1, 0), "y": np.array(LABELS[row], dtype=np.uint8)[:, None]}
        savemat(folder / file, arrays, do_compression=True)
    return folder


@pytest.mark.parametrize("place", ["svhn", "SVHN", "."])
def test_images_and_labels(place: str, folder: Path, empty_cache: Path) -> None:
    for path in list(folder.iterdir()):
        (empty_cache / place).mkdir(exist_ok=True)
        path.rename(empty_cache / place / path.name)
    data = load_data("svhn")
    assert np.array_equal(training_images(data).numpy(), IMAGES[:6])
    assert np.array_equal(data.validation.images.numpy(), IMAGES[6:])
    assert data.train.labels is not None
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert {row["verdict"] for row in Svhn().verify()} == {"sound"}


def test_damage_is_told(folder: Path) -> None:
    path = folder / "train_32x32.mat"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"train_32x32\.mat: cannot be read"):
        load_data("svhn")
    path.write_bytes((folder / "test_32x32.mat").read_bytes())
    with pytest.raises(DataError, match=r"is not a file of 6 images of 32 x 32 pixels"):
        load_data("svhn")
    assert Svhn().verify()[0]["verdict"].startswith("damaged: ")
