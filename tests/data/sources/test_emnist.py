"""EMNIST: six selections, set upright, out of files or out of the published archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import stamina
import torch

from mixcoder.data import load_data
from mixcoder.data.sources.emnist import Emnist
from mixcoder.errors import ArgumentError, DataError
from tests.conftest import training_images
from tests.data.servers import serving

IMAGES = np.random.default_rng(2).integers(0, 256, (9, 28, 28), dtype=np.uint8)
"""Upright."""
LABELS = np.arange(9, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("mixcoder.data.sources.emnist._COUNTS", {"letters": (6, 3), "balanced": (6, 3)})
    with stamina.set_testing(True, attempts=1):
        yield


def idx(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def files(part: str) -> dict[str, bytes]:
    """The four files of a selection, whose images lie on their side, as published."""
    turned = IMAGES.transpose(0, 2, 1)
    return {
        f"emnist-{part}-train-images-idx3-ubyte": idx(turned[:6]),
        f"emnist-{part}-train-labels-idx1-ubyte": idx(LABELS[:6]),
        f"emnist-{part}-test-images-idx3-ubyte": idx(turned[6:]),
        f"emnist-{part}-test-labels-idx1-ubyte": idx(LABELS[6:]),
    }


def archive(*parts: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as members:
        for part in parts:
            for name, content in files(part).items():
                members.writestr(f"gzip/{name}.gz", gzip.compress(content))
    return packed.getvalue()


def check(part: str = "balanced") -> None:
    data = load_data("emnist", part=part)
    assert np.array_equal(training_images(data)[:, 0].numpy(), IMAGES[:6])
    assert np.array_equal(data.validation.images[:, 0].numpy(), IMAGES[6:])
    assert data.train.labels is not None
    assert data.validation.labels is not None
    assert torch.cat([data.train.labels, data.validation.labels]).tolist() == list(range(9))
    assert {row["verdict"] for row in Emnist(part).verify()} == {"sound"}  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["emnist", "emnist/raw", "EMNIST/raw"])
@pytest.mark.parametrize("form", ["packed", "unpacked", "gzip.zip", "emnist.zip"])
def test_found_in_every_place_and_form(place: str, form: str, empty_cache: Path) -> None:
    folder = empty_cache / place
    folder.mkdir(parents=True)
    if form.endswith(".zip"):
        (folder / form).write_bytes(archive("letters", "balanced"))
    else:
        for name, content in files("balanced").items():
            path = folder / (f"{name}.gz" if form == "packed" else name)
            path.write_bytes(gzip.compress(content) if form == "packed" else content)
    check()


def test_fetched_once_for_all_selections(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive("letters", "balanced")
    monkeypatch.setattr(Emnist, "checksums", {"gzip.zip": hashlib.md5(content).hexdigest()})
    with serving({"/gzip.zip": content}) as server:
        monkeypatch.setattr(Emnist, "mirrors", (server.address,))
        check("letters")
        check("balanced")
        assert server.requests == ["/gzip.zip"]
    assert Emnist().status() == f"ready in {empty_cache / 'emnist'}"


def test_damage_is_told(empty_cache: Path) -> None:
    folder = empty_cache / "emnist"
    folder.mkdir(parents=True)
    (folder / "gzip.zip").write_bytes(archive("letters"))
    with pytest.raises(
        DataError, match=r"gzip\.zip: does not hold emnist-balanced-train-images-idx3-ubyte\.gz"
    ):
        load_data("emnist")
    (folder / "gzip.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"gzip\.zip: cannot be read \(File is not a zip file\)"):
        load_data("emnist")


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(ArgumentError, match="part"):
        load_data("emnist", part="mine")
