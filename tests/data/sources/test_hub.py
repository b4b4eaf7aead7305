"""Data sets of the Hugging Face hub, from a hub on the loopback, through its own client."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixcoder.data.sources.hub import Hub
from mixcoder.errors import DataError
from tests.conftest import slow
from tests.data.hub_service import COMMIT, HubService, serving_hub

CARD = b"""---
dataset_info:
  features:
  - {name: image, dtype: image}
  - {name: label, dtype: int64}
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
---
"""


def picture(seed: int) -> bytes:
    """A PNG of a size of its own."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(10, 40, 2)
    content = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(content, "PNG")
    return content.getvalue()


def parquet(images: Sequence[bytes | None]) -> bytes:
    arrow = pytest.importorskip("pyarrow", reason="needs the hub extra: pip install 'mixcoder[hub]'")
    from pyarrow import parquet

    rows = [None if content is None else {"bytes": content, "path": "x.png"} for content in images]
    content = io.BytesIO()
    labels = [7 * i for i in range(len(rows))]
    parquet.write_table(arrow.table({"image": arrow.array(rows), "label": labels}), content)
    return content.getvalue()


def fetch(service: HubService, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`mixcoder data fetch hub ...` in a process of its own: the hub's client reads its address at import."""
    command = [sys.executable, "-m", "mixcoder", "data", "fetch", "hub", "crop_size=16", *arguments]
    home = Path(os.environ["XDG_CACHE_HOME"]) / "hub"
    environment = {**os.environ, "HF_ENDPOINT": service.address, "HF_HOME": str(home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@slow
def test_a_data_set_by_name_is_fetched_once(empty_cache: Path) -> None:
    train = [*map(picture, range(7)), None, b"no image"]
    files = {
        "README.md": CARD,
        "data/train-00000-of-00001.parquet": parquet(train),
        "data/test-00000-of-00001.parquet": parquet([picture(100)]),
    }
    with serving_hub("someone/photos", files) as service:
        first = fetch(service, "name=someone/photos", "validation=test", f"revision={COMMIT}")
        assert (first.returncode, first.stdout) == (
            0,
            "hub: 7 images to train on, 1 to validate on\nready\n",
        ), first.stderr
        assert "2 of 9 images are left out" in first.stderr
        requests = len(service.requests)
        again = fetch(service, "name=someone/photos", "validation=test", f"revision={COMMIT}")
        assert again.stdout == first.stdout
        assert len(service.requests) == requests
        data = Hub("someone/photos", validation="test", revision=COMMIT, crop_size=16).load()
        assert data.train.labels is not None
        assert data.train.labels.tolist() == [7 * i for i in range(7)]
        assert data.validation.labels is not None
        assert data.validation.labels.tolist() == [0]

        unknown = fetch(service, "name=someone/else")
        assert unknown.returncode == 2
        assert unknown.stderr.splitlines()[-1].startswith("error: someone/else: cannot be had from the hub (")


@slow
def test_a_folder_in_the_hubs_layout(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets", reason="needs the hub extra: pip install 'mixcoder[hub]'")
    for kind in ("cats", "dogs"):
        (tmp_path / "photos" / "train" / kind).mkdir(parents=True)
    for seed in range(30):
        folder = tmp_path / "photos" / "train" / ("cats" if seed < 20 else "dogs")
        (folder / f"{seed}.png").write_bytes(picture(seed))
    program = (
        "import json, mixcoder\n"
        f"data = mixcoder.load_data('hub', name={str(tmp_path / 'photos')!r}, crop_size=12)\n"
        "print(json.dumps([len(data.train), len(data.validation), data.name]))\n"
        f"some = mixcoder.load_data('hub', name={str(tmp_path / 'photos')!r}, crop_size=12, "
        "classes=[1], validation_classes=[0])\n"
        "print(json.dumps(len(some.train)))\n"
        "try: mixcoder.load_data('hub', name='photos', column='picture')\n"
        "except mixcoder.MixcoderError as error: print(json.dumps(str(error)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    sizes, dogs, error = map(json.loads, done.stdout.splitlines())
    assert dogs == 10
    assert sizes[0] + sizes[1] == 30
    assert sizes[1] >= 1
    assert sizes[2] == "hub"
    assert error == "photos: has no column 'picture'; known: image, label"


def test_without_the_extra(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="source hub needs another package: pip install 'mixcoder\\[hub\\]'"):
        Hub("someone/photos").load()


@pytest.mark.parametrize("name", ["x" * 5_000, "a\0b"])
def test_a_name_that_no_folder_can_have_is_one_of_the_hub(tmp_path: Path, name: str) -> None:
    assert Hub.located({"name": name}, tmp_path) == {"name": name}
