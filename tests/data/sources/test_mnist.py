"""MNIST: found, fetched, verified."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import pytest
import stamina
import torch

from mixcoder.data import load_data
from mixcoder.data.sources.mnist import SHAPES, TRAIN_IMAGES, FashionMnist, Mnist
from mixcoder.errors import DataError
from tests.conftest import training_images
from tests.data.servers import serving


@pytest.fixture(autouse=True)
def _no_waiting() -> object:
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture(scope="module")
def published() -> dict[str, bytes]:
    """Files like the published ones in all but the pictures, which are plain."""
    return {
        f"/{name}.gz": gzip.compress(
            struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + bytes(torch.Size(shape).numel()),
            compresslevel=1,
        )
        for name, shape in SHAPES.items()
    }


@pytest.fixture
def checksums(published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {f"{name}.gz": hashlib.md5(published[f"/{name}.gz"]).hexdigest() for name in SHAPES}
    monkeypatch.setattr(Mnist, "checksums", sums)


def test_real_mnist(mnist_folder: Path) -> None:
    data = load_data("mnist")
    assert data.image_shape == (1, 28, 28)
    assert training_images(data).shape == (60_000, 1, 28, 28)
    assert data.validation.images.shape == (10_000, 1, 28, 28)
    assert training_images(data).dtype == torch.uint8
    assert data.train.labels is not None
    assert data.train.labels[:6].tolist() == [5, 0, 4, 1, 9, 2]  # as the whole world knows them
    assert round(training_images(data).double().mean().item() / 255, 4) == 0.1307
    assert all(not row["verdict"].startswith("damaged") for row in Mnist().verify())


@pytest.mark.usefixtures("checksums")
def test_fetched_once_and_then_found(empty_cache: Path, published: dict[str, bytes]) -> None:
    with serving(published) as server:
        assert Mnist().status() == "not fetched yet"
        Mnist().fetch(server.address)
        assert Mnist().folder() == empty_cache / "mnist"
        assert len(server.requests) == 4
        Mnist().fetch(server.address)
        assert len(server.requests) == 4
    assert training_images(load_data("mnist")).shape == (60_000, 1, 28, 28)
    assert Mnist().status() == f"ready in {empty_cache / 'mnist'}"
    assert {row["verdict"] for row in Mnist().verify()} == {"as published"}


@pytest.mark.usefixtures("checksums")
def test_load_fetches_from_the_mirrors(
    empty_cache: Path, published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(published) as server:
        monkeypatch.setattr(Mnist, "mirrors", (f"{server.address}/gone", server.address))
        assert len(load_data("mnist").train) == 60_000
        assert server.requests[:2] == [f"/gone/{TRAIN_IMAGES}.gz", f"/{TRAIN_IMAGES}.gz"]


@pytest.mark.usefixtures("empty_cache")
def test_the_published_checksum_guards_the_download(empty_cache: Path, published: dict[str, bytes]) -> None:
    with (
        serving(published) as server,
        pytest.raises(DataError, match=r"its MD5 is .* the published one f68b3c"),
    ):
        Mnist().fetch(server.address)
    left = {path.name for path in (empty_cache / "mnist").iterdir()}
    assert left <= {".train-images-idx3-ubyte.gz.lock"}  # for which another process may wait


@pytest.mark.usefixtures("checksums")
def test_unpacked_files_serve_too_and_damage_is_told(empty_cache: Path, published: dict[str, bytes]) -> None:
    folder = empty_cache / "mnist"
    folder.mkdir(parents=True)
    for path, content in published.items():
        (folder / path.strip("/").removesuffix(".gz")).write_bytes(gzip.decompress(content))
    assert load_data("mnist").validation.images.shape == (10_000, 1, 28, 28)
    damaged = folder / TRAIN_IMAGES
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert Mnist().verify()[0]["verdict"].startswith(f"damaged: {damaged}: is truncated")
    with pytest.raises(DataError, match="is truncated, it ends 1 bytes early"):
        load_data("mnist")


@pytest.mark.usefixtures("empty_cache")
def test_offline_one_sentence_says_where_to_put_what(empty_cache: Path) -> None:
    with pytest.raises(DataError) as caught:
        FashionMnist().fetch("http://127.0.0.1:9")
    message = str(caught.value)
    assert "fashion_mnist is not on this machine" in message
    assert (
        f"train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz into {empty_cache}"
        in message
    )
    assert "\n" not in message


def test_verify_needs_the_files(empty_cache: Path) -> None:
    with pytest.raises(DataError, match="mixcoder data fetch mnist brings it"):
        Mnist().verify()
