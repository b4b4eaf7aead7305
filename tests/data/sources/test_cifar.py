"""CIFAR: every version that people have of it gives the same images, and nothing in it is run."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stamina
import torch

from mixcoder.data import load_data
from mixcoder.data.sources.cifar import Cifar10, Cifar100, CifarSource
from mixcoder.errors import DataError
from tests.conftest import training_images
from tests.data.servers import serving

COUNTS = {"cifar10": (20, 6), "cifar100": (20, 6)}
"""Images in the files of these tests, in place of 50,000 and 10,000."""
SOURCES: dict[str, type[CifarSource]] = {"cifar10": Cifar10, "cifar100": Cifar100}
PIXELS = np.random.default_rng(1).integers(0, 256, (26, 3072), dtype=np.uint8)
LABELS = [i * 7 % 10 for i in range(26)]


@pytest.fixture(autouse=True)
def _few_images(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("mixcoder.data.sources.cifar._TRAINING", 20)
    monkeypatch.setattr("mixcoder.data.sources.cifar._VALIDATION", 6)
    with stamina.set_testing(True, attempts=1):
        yield


def text(word: str) -> bytes:
    """A short string of Python 2 in a pickle."""
    return b"U" + bytes([len(word)]) + word.encode()


def pickled(pixels: np.ndarray[Any, np.dtype[np.uint8]], labels: list[int], key: str) -> bytes:
    """A batch as Python 2 has pickled it: the published files look like this."""
    content = pixels.tobytes()
    dtype = (
        b"cnumpy\ndtype\n"
        + text("u1")
        + b"K\0K\1\x87R(K\3"
        + text("|")
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\0tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85" + text("b") + b"\x87R"
    sizes = b"".join(b"J" + struct.pack("<i", size) for size in pixels.shape) + b"\x86"
    state = b"(K\1" + sizes + dtype + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    name = b"](" + text("a picture.png") * 2 + b"e"
    return (
        b"\x80\2}(" + text("batch_label") + text("testing batch 1 of 1") + text(key) + numbers
        + text("filenames") + name + text("data") + array + state + b"u."
    )  # fmt: skip


def records(pixels: np.ndarray[Any, np.dtype[np.uint8]], labels: list[int], labels_before: int) -> bytes:
    return b"".join(
        bytes([99] * (labels_before - 1) + [label]) + row.tobytes()
        for row, label in zip(pixels, labels, strict=True)
    )


def files_of(source: str, version: str) -> dict[str, bytes]:
    """The files of a version by name, as published."""
    if source == "cifar10":
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        bounds = [*range(0, 21, 4), 26]
    else:
        names, bounds = ["train", "test"], [0, 20, 26]
    rows = [slice(*pair) for pair in pairwise(bounds)]
    if version == "binary":
        before = 1 if source == "cifar10" else 2
        contents = [records(PIXELS[row], LABELS[row], before) for row in rows]
        return {f"{name}.bin": content for name, content in zip(names, contents, strict=True)}
    key = "labels" if source == "cifar10" else "fine_labels"
    return {name: pickled(PIXELS[row], LABELS[row], key) for name, row in zip(names, rows, strict=True)}


def archive_of(files: Mapping[str, bytes], folder: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


FOLDERS = {
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar100", "binary"): "cifar-100-binary",
    ("cifar100", "python"): "cifar-100-python",
}


def test_the_pickles_of_these_tests_are_those_that_python_reads() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy has moved the function that the pickle names
        batch = pickle.loads(pickled(PIXELS, LABELS, "labels"), encoding="bytes")
    assert np.array_equal(batch[b"data"], PIXELS)
    assert batch[b"labels"] == LABELS


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("place", ["own folder", "beside", "own folder, bare", "archive", "archive beside"])
def test_every_version_in_every_place_gives_the_same_images(
    source: str, version: str, place: str, empty_cache: Path
) -> None:
    folder = FOLDERS[source, version]
    files = files_of(source, version)
    own = empty_cache / source
    own.mkdir(parents=True)
    if place.startswith("archive"):
        at = own if place == "archive" else empty_cache
        name = f"cifar-{source.removeprefix('cifar')}-{version}.tar.gz"
        (at / name).write_bytes(archive_of(files, folder))
    else:
        at = {"own folder": own / folder, "beside": empty_cache / folder, "own folder, bare": own}[place]
        at.mkdir(exist_ok=True)
        for file, content in files.items():
            (at / file).write_bytes(content)
    data = load_data(source)
    assert np.array_equal(training_images(data).flatten(1).numpy(), PIXELS[:20])
    assert np.array_equal(data.validation.images.flatten(1).numpy(), PIXELS[20:])
    assert data.image_shape == (3, 32, 32)
    assert data.train.labels is not None
    assert data.validation.labels is not None
    assert torch.cat([data.train.labels, data.validation.labels]).tolist() == LABELS
    assert SOURCES[source]().verify()[0]["verdict"] == "sound"


@pytest.mark.parametrize("source", SOURCES)
def test_fetched_checked_and_unpacked_once(
    source: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FOLDERS[source, "binary"]
    [name] = SOURCES[source].checksums
    archive = archive_of(files_of(source, "binary"), folder)
    with serving({f"/{name}": archive}) as server:
        with pytest.raises(DataError, match=rf"its MD5 is .*; put|put {name} into .* its MD5 is"):
            SOURCES[source]().fetch(server.address)
        monkeypatch.setattr(SOURCES[source], "checksums", {name: hashlib.md5(archive).hexdigest()})
        monkeypatch.setattr(SOURCES[source], "mirrors", (server.address,))
        assert len(load_data(source).train) == 20
        (empty_cache / source / name).unlink()
        assert len(load_data(source).train) == 20  # of the files that were unpacked
        assert len(server.requests) == 2


def test_what_a_pickle_calls_is_not_called(empty_cache: Path, tmp_path: Path) -> None:
    """A stranger's file that would run a command when it is unpickled."""
    folder = empty_cache / "cifar10"
    folder.mkdir(parents=True)
    trace = tmp_path / "was here"
    for name, content in files_of("cifar10", "python").items():
        command = b"cos\nsystem\n" + text(f"touch '{trace}'")[:2] + f"touch '{trace}'".encode() + b"\x85R0"
        (folder / name).write_bytes(content[:-1] + command + b".")
    data = load_data("cifar10")
    assert np.array_equal(training_images(data).flatten(1).numpy(), PIXELS[:20])
    assert not trace.exists()


WRONG: dict[str, tuple[str, bytes, str]] = {
    "a torn record": ("data_batch_2.bin", b"\0" * 4000, "is not a file of records of 3,073 bytes"),
    "an empty file": ("data_batch_2.bin", b"", "is not a file of records"),
    "too many": ("test_batch.bin", b"\0" * 3073 * 7, "holds 7 images where there must be 6"),
    "no pickle": ("data_batch_2", b"hello", "is not a pickled batch, or is damaged"),
    "a torn pickle": (
        "data_batch_2", pickled(PIXELS[:4], LABELS[:4], "labels")[:9000], "is not a pickled batch",
    ),
    "other labels": (
        "data_batch_2", pickled(PIXELS[:4], LABELS[:3], "labels"), "12,288 bytes of pixels and 3 labels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_damage_is_told_in_a_sentence(kind: str, empty_cache: Path) -> None:
    damaged, content, message = WRONG[kind]
    folder = empty_cache / "cifar10"
    folder.mkdir(parents=True)
    for file, sound in files_of("cifar10", "binary" if damaged.endswith(".bin") else "python").items():
        (folder / file).write_bytes(content if file == damaged else sound)
    with pytest.raises(DataError, match=message):
        load_data("cifar10")
    assert Cifar10().verify()[0]["verdict"].startswith("damaged: ")


@pytest.mark.parametrize(
    "content", [b"no archive", archive_of({"data_batch_1.bin": b""}, "x")], ids=["torn", "other"]
)
def test_a_damaged_archive_is_told(content: bytes, empty_cache: Path) -> None:
    (empty_cache / "cifar10").mkdir(parents=True)
    (empty_cache / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"cifar-10-binary\.tar\.gz: (is damaged|does not hold data_batch_2.bin)"
    ):
        load_data("cifar10")


def test_files_called_train_and_test_of_others_are_left_alone(empty_cache: Path) -> None:
    empty_cache.mkdir(parents=True)
    for name in ("train", "test"):
        (empty_cache / name).write_text("something else")
    assert Cifar100().status() == "not fetched yet"
