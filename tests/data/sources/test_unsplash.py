"""Unsplash Lite from a service on the loopback that plays the real one, with all its troubles."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import stamina
import torch
from PIL import Image

from mixcoder.data import load_data
from mixcoder.data.crops import CropSplit
from mixcoder.data.sources import photo_fetch
from mixcoder.data.sources.photo_list import Photo, read_archive
from mixcoder.data.sources.unsplash import Unsplash
from mixcoder.errors import DataError
from tests.conftest import Cli, slow
from tests.data.photo_service import PhotoService, serving_photos

PHOTOS = 200


@pytest.fixture
def service() -> Iterator[PhotoService]:
    folder = Path(os.environ.get("MIXCODER_DATA", "")) / "photos" / "original"
    originals = sorted(folder.glob("*.jpg"))
    if not originals:
        pytest.skip("needs real photos: set MIXCODER_DATA to the folder that holds photos/original/")
    with serving_photos(originals, PHOTOS) as service:
        yield service


def left_out(folder: Path) -> dict[str, str]:
    with (folder / "unsplash" / "left-out.csv").open(newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def fetched(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "unsplash" / "photos").glob("*.jpg")}


def test_all_that_can_be_brought_is_brought_and_the_rest_named(
    cli: Cli, service: PhotoService, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_fetch, "TIMEOUT", httpx2.Timeout(4.0))
    dead = {
        "photo-0007": "HTTP 404 Not Found",
        "photo-0031": "is not an image of a known format",
        "photo-0111": "has no address",
    }
    service.faults = {
        "photo-0003": [503],
        "photo-0004": [503, 503],
        "photo-0005": ["later:1"],
        "photo-0006": ["cut"],
        "photo-0007": [404],
        "photo-0008": ["stall:30"],
        "photo-0031": ["page"],
        "photo-0150": [500, "cut", 429],
    }
    service.addresses = {"photo-0111": ""}
    service.delay = 0.1
    status, out, err = cli("data", "fetch", "unsplash", "--from", f"{service.address}/archive.zip")
    assert status == 0, (err, left_out(empty_cache))
    assert len(service.asked["photo-0008"]) >= 2  # not waited for, asked for again
    assert fetched(empty_cache) == set(service.ids) - set(dead)
    assert left_out(empty_cache) == dead
    listing = empty_cache / "unsplash" / "left-out.csv"
    assert f"3 of 200 photos could not be fetched: {listing} says why" in err
    assert "unsplash: 97 images to train on, 100 to validate on\nready in " in out
    # many at a time, but not too many; the one that stalls is here even when nobody waits for it any more
    assert 8 <= service.most_active <= 16 + 1
    assert not list(empty_cache.parent.rglob("escaped.txt"))
    assert not list(empty_cache.rglob("*.part"))


def test_photos_are_asked_for_in_the_size_they_are_stored_in(
    service: PhotoService, empty_cache: Path
) -> None:
    service.count = 110
    Unsplash().fetch(f"{service.address}/archive.zip")
    for identity, [query] in service.asked.items():
        width, height = int(query["w"]), int(query["h"])
        assert min(width, height) >= 96
        assert max(width, height) == 160 or min(width, height) == 96
        assert (query["fm"], query["ixlib"]) == ("jpg", "rb-4.0.3")
        with Image.open(empty_cache / "unsplash" / "photos" / f"{identity}.jpg") as image:
            assert abs(image.width - width) <= 1
            assert abs(image.height - height) <= 1
    data = load_data("unsplash")
    assert data.validation.images.shape == (100, 3, 96, 96)
    assert isinstance(data.train, CropSplit)
    assert len(data.train) == 10
    first = data.train.batch(torch.arange(10), torch.zeros(10, 3))
    assert first.shape == (10, 3, 96, 96)
    assert 20 < first.float().mean() < 235


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("later:²", ""),
        ("later:Mon, 01 Jan 99999999999999999999 00:00:00 GMT", ""),
        ("later:-5", ""),
        ("later:3600", "HTTP 503 Service Unavailable"),
        ("moved:http://192.0.2.1/photo", "http://192.0.2.1/photo is not https"),
        ("moved:file:///etc/passwd", "file://127.0.0.1/etc/passwd is not https"),
        ("moved:https://a_b.xn--p1ai/", "Codepoint U+005F at position 2 of 'a_b' not allowed"),
    ],
)
def test_strange_answers_cost_one_photo_at_most(
    service: PhotoService, empty_cache: Path, fault: str, reason: str
) -> None:
    service.count = 3
    service.faults = {"photo-0001": [fault]}
    with stamina.set_testing(True, attempts=5):
        Unsplash().fetch(f"{service.address}/archive.zip")
    assert left_out(empty_cache).get("photo-0001", "") == reason
    assert fetched(empty_cache) == set(service.ids) - set(left_out(empty_cache))


def test_what_was_removed_by_hand_is_fetched_again(service: PhotoService, empty_cache: Path) -> None:
    service.count = 110
    source = Unsplash()
    source.fetch(f"{service.address}/archive.zip")
    assert source.status().startswith("ready")
    (empty_cache / "unsplash" / "left-out.csv").unlink()
    (empty_cache / "unsplash" / "photos" / "photo-0005.jpg").unlink()
    assert source.status().startswith("partly fetched")
    assert len(source.load().train) == 10
    assert service.served["photo-0005"] == 2
    assert service.served["photo-0006"] == 1


@slow
def test_killed_at_any_moment_it_never_fetches_a_finished_photo_twice(
    service: PhotoService, empty_cache: Path
) -> None:
    service.delay = 0.05
    moments = random.Random(0)
    archive = f"{service.address}/archive.zip"
    command = [sys.executable, "-m", "mixcoder", "data", "fetch", "unsplash", "--from", archive]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    while len(fetched(empty_cache)) < PHOTOS:
        finished = fetched(empty_cache)
        before = {identity: len(service.asked.get(identity, [])) for identity in finished}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        goal = len(service.times) + moments.randint(40, 90)
        while len(service.times) < goal and process.poll() is None:
            time.sleep(0.01)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert before == {identity: len(service.asked.get(identity, [])) for identity in finished}
        for identity in fetched(empty_cache):  # what is there is whole
            with Image.open(empty_cache / "unsplash" / "photos" / f"{identity}.jpg") as image:
                image.load()
    assert kills >= 2
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unsplash: 100 images to train on, 100 to validate on" in done.stdout
    assert sum(service.served.values()) <= PHOTOS + 16 * (kills + 1)


@slow
def test_a_run_uses_what_is_there_and_says_how_much_is_not(
    cli: Cli, service: PhotoService, empty_cache: Path
) -> None:
    service.faults = {"photo-0101": [404], "photo-0102": [404]}
    service.count = 120
    (empty_cache / "unsplash").mkdir(parents=True)
    by_hand = empty_cache / "unsplash" / "put-here-by-hand.zip"
    by_hand.write_bytes(service.archive("data/photos.csv000", ","))
    (empty_cache / "unsplash" / "origin").write_text("127.0.0.1")
    Path("x.yml").write_text(
        "name: x\ndata: {source: unsplash, horizontal_flips: true}\n"
        "model: {type: script, script: 'ch=4|down4|ch=1', kernel_size: 1}\n"
        "training: {batch_size: 4, learning_rate: 0.001, epochs: 1, compile: 'off'}\n"
    )
    status, out, err = cli("run", "x.yml", "--format", "json")
    assert status == 0, err
    assert '"inputs": 20' in out  # 18 photos to train on, in batches of 4
    assert "2 of 120 photos could not be fetched" in err
    requests = len(service.times)
    assert cli("run", "x.yml", "training.batch_size=2")[0] == 0
    assert len(service.times) == requests  # nothing is asked for again
    assert cli("data", "fetch", "unsplash")[0] == 0
    assert len(service.times) == requests + 2  # but where it is asked for, what is missing
    assert Unsplash().training_images == 20


def test_without_a_network_it_gives_up_soon(
    service: PhotoService, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixcoder.data.sources.photo_fetch.ATTEMPTS", 1)
    service.addresses = {identity: f"http://127.0.0.1:9/{identity}" for identity in service.ids}
    with pytest.raises(DataError, match="100 photos one after the other could not be fetched"):
        Unsplash().fetch(f"{service.address}/archive.zip")
    assert Unsplash().status().startswith("partly fetched")


def test_the_published_checksum_guards_the_archive(service: PhotoService, empty_cache: Path) -> None:
    archive = empty_cache.parent / "lite.zip"
    archive.write_bytes(service.archive())
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"lite.zip: its SHA-256 is {right}, the published one {'0' * 64}"):
        Unsplash().fetch(str(archive), "0" * 64)
    assert not (empty_cache / "unsplash").exists()
    service.count = 3
    archive.write_bytes(service.archive())
    Unsplash().fetch(str(archive), hashlib.sha256(archive.read_bytes()).hexdigest().upper())
    assert fetched(empty_cache) == set()
    assert set(left_out(empty_cache).values()) == {
        "leads to 127.0.0.1, whose address 127.0.0.1 is not public"
    }
    assert service.asked == {}, "a file from anywhere may not lead into the user's own network"
    Unsplash().fetch(f"{service.address}/archive.zip")
    assert len(fetched(empty_cache)) == 3
    with pytest.raises(DataError, match="3 photos are not enough: the first 100 validate"):
        load_data("unsplash")


def test_strange_rows_are_left_out_of_the_list(tmp_path: Path, service: PhotoService) -> None:
    rows = [
        "photo_id\tphoto_image_url\tphoto_width\tphoto_height",
        "good\thttps://images.example/good\t4000\t3000",
        "../../evil\thttps://images.example/evil\t4000\t3000",
        "good\thttps://images.example/again\t1\t1",
        "short",
        "nosize\thttps://images.example/nosize\t\tmany",
    ]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("photos.tsv001", "\n".join(rows))
    (tmp_path / "x.zip").write_bytes(content.getvalue())
    assert read_archive(tmp_path / "x.zip") == [
        Photo("good", "https://images.example/good", (4000, 3000)),
        Photo("short", "", None),
        Photo("nosize", "https://images.example/nosize", None),
    ]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (None, "holds no photos.tsv or photos.csv"),
        ("a\tb\n1\t2\n", "has no column 'photo_id', but a, b"),
        ("photo_id\tphoto_image_url\n", "its table of photos is empty"),
        ("photo_id\tphoto_image_url\n" + "x" * 2**21, "is too large"),
    ],
)
def test_archives_without_photos(tmp_path: Path, table: str | None, sentence: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photos.tsv000" if table is not None else "notes.txt", table or "")
    with pytest.raises(DataError, match=sentence):
        read_archive(tmp_path / "x.zip")
