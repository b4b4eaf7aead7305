"""A folder of images as a data source: packed once, divided by name, and what is damaged is left out."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder.data import CropSplit, ImageData, load_data
from mixcoder.data.sources.folder import Folder
from mixcoder.data.split import TrainingBatches
from mixcoder.data.store.image_store import ImageStore, open_store
from mixcoder.errors import ArgumentError, DataError, WriteError
from mixcoder.pixels.codec import Fit, decode_file
from tests.conftest import Cli
from tests.data.pictures import encoded, noise, smooth

PHOTOS = Path(os.environ.get("MIXCODER_DATA", "nowhere")) / "photos" / "160"


def make(root: Path, count: int, first: int = 0) -> Path:
    """Images of different sizes, each of another seed, in a folder and one below it."""
    for number in range(first, first + count):
        path = root / ("more" if number % 3 else ".") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth(20 + number % 7, 18 + number % 5, number).save(path)
    return root


@pytest.fixture
def photos(tmp_path: Path, empty_cache: Path) -> Path:
    return make(tmp_path / "photos", 40)


def load(path: Path, crop_size: int = 8, **arguments: object) -> ImageData:
    return load_data("folder", path=str(path), crop_size=crop_size, **arguments)


def packs(tmp_path: Path) -> list[Path]:
    """The packed stores, and the lists of what was left out."""
    folder = tmp_path / "cache" / "mixcoder" / "packed"
    return sorted(path for path in folder.iterdir() if path.suffix != ".lock")


def the_store(tmp_path: Path) -> ImageStore:
    [path] = [path for path in packs(tmp_path) if path.suffix == ".safetensors"]
    return open_store(path)


def validates(name: str, share: float = 0.1) -> bool:
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12 < share


def training(data: ImageData) -> CropSplit:
    assert isinstance(data.train, CropSplit)
    return data.train


def middles(folder: Path, names: list[str], crop_size: int = 8) -> list[torch.Tensor]:
    """What the images of these names validate with."""
    fit, found = Fit(3, 160, crop_size), []
    for name in names:
        image = torch.from_numpy(decode_file(folder / name, fit))
        top, left = ((edge - crop_size) // 2 for edge in image.shape[1:])
        found.append(image[:, top : top + crop_size, left : left + crop_size])
    return found


def test_the_split_is_by_the_hash_of_the_path(photos: Path) -> None:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    for share in (0.1, 0.5):
        data = load(photos, validation_share=share)
        chosen = [name for name in names if validates(name, share)]
        assert 0 < len(chosen) < 40
        assert torch.equal(data.validation.images, torch.stack(middles(photos, chosen)))
        assert len(data.train) == 40 - len(chosen)
        assert data.left_out == {}


def test_an_image_stays_on_its_side_when_others_come_and_go(photos: Path) -> None:
    before = {image.numpy().tobytes() for image in load(photos, validation_share=0.3).validation.images}
    make(photos, 15, first=40)
    grown = {image.numpy().tobytes() for image in load(photos, validation_share=0.3).validation.images}
    assert before < grown
    for path in list(photos.rglob("*.png"))[::2]:
        path.unlink()
    shrunk = {image.numpy().tobytes() for image in load(photos, validation_share=0.3).validation.images}
    assert shrunk < grown


def test_folders_for_either_side(tmp_path: Path, photos: Path) -> None:
    other = make(tmp_path / "other", 3, first=90)
    data = load_data("folder", train=str(photos), validation=f"{other}/**/*.png", crop_size=8)
    assert (len(data.train), len(data.validation)) == (40, 3)
    assert torch.equal(
        data.validation.images, torch.stack(middles(other, ["90.png", "more/91.png", "more/92.png"]))
    )
    assert len([path for path in packs(tmp_path) if path.suffix == ".safetensors"]) == 2


def test_what_either_side_leaves_out_is_counted(tmp_path: Path, photos: Path) -> None:
    other = make(tmp_path / "other", 3)
    for folder in (photos, other):
        (folder / "0.png").write_bytes(b"no image")
    data = load_data("folder", train=str(photos), validation=str(other), crop_size=8)
    assert sorted(data.left_out) == ["train/0.png", "validation/0.png"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("crop_size", [1, 8, 40])
def test_shapes(photos: Path, channels: int, crop_size: int) -> None:
    source = Folder(path=str(photos), crop_size=crop_size, channels=channels)
    data = source.load()
    shape = (channels, crop_size, crop_size)
    assert source.image_shape == data.image_shape == data.validation.image_shape == shape
    batch = TrainingBatches(data.train, 5, seed=0)[0]
    assert (batch.shape, batch.dtype) == ((5, *shape), torch.uint8)
    assert batch.min() < batch.max()


def test_longest_edge(tmp_path: Path, photos: Path) -> None:
    smooth(50, 25).save(photos / "wide.png")
    for longest_edge in (None, 30, 4):
        load(photos, longest_edge=longest_edge)
    sizes = set()
    for path in packs(tmp_path):
        if path.suffix == ".safetensors":
            store = open_store(path)
            sizes.add(tuple(store.sizes[store.names.index("wide.png")].tolist()))
    assert sizes == {(25, 50), (15, 30), (8, 16)}


def test_horizontal_flips(photos: Path) -> None:
    plain, flipped = load(photos), load(photos, horizontal_flips=True)
    assert torch.equal(plain.validation.images, flipped.validation.images)
    assert plain.content_hash() != flipped.content_hash()
    for step in range(3):
        one = TrainingBatches(plain.train, 20, seed=0)[step]
        other = TrainingBatches(flipped.train, 20, seed=0)[step]
        is_mirrored = [not torch.equal(a, b) for a, b in zip(one, other, strict=True)]
        assert all(
            torch.equal(a.flip(2) if turned else a, b)
            for a, b, turned in zip(one, other, is_mirrored, strict=True)
        )
        assert 0 < sum(is_mirrored) < 20


def test_packed_once(tmp_path: Path, photos: Path) -> None:
    source = Folder(path=str(photos), crop_size=8)
    assert source.status() == "not packed yet"
    assert source.prepare() == ""
    assert source.status() == "ready"
    assert source.training_images == len(source.load().train)
    [pack, table] = packs(tmp_path)[::-1]
    assert table.read_text() == "image,reason\n"
    before, made = load(photos).content_hash(), pack.stat()
    for path in photos.rglob("*.png"):  # were a file read again, it would be found damaged
        state = path.stat()
        path.write_bytes(bytes(state.st_size))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert load(photos).content_hash() == before
    assert (pack.stat().st_mtime_ns, pack.stat().st_ino) == (made.st_mtime_ns, made.st_ino)
    assert packs(tmp_path) == [table, pack]


def test_an_edited_image_is_packed_anew_and_the_old_pack_goes(tmp_path: Path, photos: Path) -> None:
    data, old = load(photos), packs(tmp_path)
    other = load(photos, crop_size=9), set(packs(tmp_path)) - set(old)
    noise(30, 30).save(photos / "0.png")
    assert Folder(path=str(photos), crop_size=8).status() == "not packed yet"
    assert load(photos).content_hash() != data.content_hash()
    assert not set(packs(tmp_path)) & set(old)
    assert other[1] < set(packs(tmp_path))  # of other crops: another collection
    assert len(packs(tmp_path)) == 4
    assert not list((tmp_path / "cache/mixcoder/packed").glob("*.part"))


def test_what_is_left_out_is_listed_beside_the_pack(tmp_path: Path, photos: Path) -> None:
    (photos / "text, they say.jpg").write_text("not an image")
    (photos / "out.jpg").symlink_to("/etc/hostname")
    (photos / "more" / "torn.png").write_bytes(encoded(noise(30, 30), "PNG")[:999])
    os.mkfifo(photos / "pipe.png")
    source = Folder(path=str(photos), crop_size=8)
    told = source.prepare()
    store = the_store(tmp_path)
    table = store.path.with_suffix(".left-out.csv")
    assert told == f"4 of 44 images are left out: {table} says why"
    assert source.prepare() == told
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "reason"]
    assert dict(rows[1:]) == store.left_out == source.load().left_out
    assert list(store.left_out) == ["more/torn.png", "out.jpg", "pipe.png", "text, they say.jpg"]
    assert store.left_out["text, they say.jpg"] == "is not an image of a known format"


def test_the_list_is_written_after_a_kill_between_pack_and_list(tmp_path: Path, photos: Path) -> None:
    (photos / "text.jpg").write_text("not an image")
    source = Folder(path=str(photos), crop_size=8)
    source.prepare()
    table = the_store(tmp_path).path.with_suffix(".left-out.csv")
    content = table.read_bytes()
    table.rename(table.with_name(f".{table.name}.00112233.part"))
    source.prepare()
    assert table.read_bytes() == content
    assert not list(table.parent.glob(".*"))


def test_names_in_the_list_are_text_for_a_spreadsheet(tmp_path: Path, photos: Path) -> None:
    for name in (b"=1+1.jpg", b"\x1b[2J.jpg", b"\xff.jpg"):
        (photos / os.fsdecode(name)).write_text("not an image")
    Folder(path=str(photos), crop_size=8).prepare()
    table = the_store(tmp_path).path.with_suffix(".left-out.csv")
    rows = list(csv.reader(StringIO(table.read_text(encoding="utf-8"))))
    assert [name for name, _ in rows[1:]] == ["\\x1b[2J.jpg", "'=1+1.jpg", "\\udcff.jpg"]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images(tmp_path: Path, empty_cache: Path, count: int) -> None:
    make(tmp_path / "few", count, first=1)
    with pytest.raises(DataError, match=f"of {count} images, {count} would train and 0 validate; change"):
        load(tmp_path / "few", validation_share=1e-9)


def test_no_image_at_all(tmp_path: Path, empty_cache: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / f"texts/{number}.jpg").write_text("text")
    with pytest.raises(
        DataError, match="none of 3 images can be used; 0.jpg: is not an image of a known format"
    ):
        load(tmp_path / "texts")


def test_content_hash(tmp_path: Path, photos: Path) -> None:
    first = load(photos).content_hash()
    assert load(photos).content_hash() == first
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere").content_hash() == first
    shutil.rmtree(tmp_path / "cache")
    assert load(photos).content_hash() == first
    hashes = {
        first,
        load(photos, crop_size=9).content_hash(),
        load(photos, channels=1).content_hash(),
        load(photos, longest_edge=16).content_hash(),
        load(photos, validation_share=0.2).content_hash(),
    }
    assert len(hashes) == 5


def test_a_damaged_pack_is_told_not_used(tmp_path: Path, photos: Path) -> None:
    load(photos)
    path = the_store(tmp_path).path
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="its checksum differs.; delete it, and it will be made anew"):
        load(photos)
    path.unlink()
    load(photos)


def test_a_cache_that_cannot_be_written(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(WriteError, match="cannot write .*cache/mixcoder/packed/"):
        load(photos)


def test_arguments_are_checked(photos: Path) -> None:
    with pytest.raises(ArgumentError, match="longest_edge: must be from 1 to 4096, not 0"):
        load(photos, longest_edge=0)
    with pytest.raises(ArgumentError, match="validation_share: must lie between 0 and 1, not 1"):
        load(photos, validation_share=1)


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Cut short, with some bits flipped, or both."""
    kind = generator.integers(4)
    changed = bytearray(content)
    if kind != 0:
        for position in generator.integers(0, len(changed), generator.integers(1, 9)):
            changed[position] ^= 1 << generator.integers(8)
    if kind in (0, 3):
        del changed[generator.integers(len(changed)) :]
    if kind == 2:
        changed[: generator.integers(60)] = b""
    return bytes(changed)


def test_a_thousand_damaged_images(tmp_path: Path, empty_cache: Path) -> None:
    originals = sorted(PHOTOS.glob("*.jpg"))[:100]
    if len(originals) < 100:
        pytest.skip("needs real photos: set MIXCODER_DATA to the folder that holds photos/160/")
    contents = []
    for number, path in enumerate(originals):
        contents.append((".jpg", path.read_bytes()))
        form = ("PNG", "WEBP", "GIF", "TIFF")[number % 4]
        options = {"compression": "tiff_lzw"} if form == "TIFF" and number % 8 == 3 else {}
        with Image.open(BytesIO(path.read_bytes())) as image:
            contents.append((f".{form.lower()}", encoded(image, form, **options)))
    generator = np.random.default_rng(0)
    folder = tmp_path / "damaged"
    folder.mkdir()
    for number in range(1000):
        suffix, content = contents[number % len(contents)]
        (folder / f"{number:03}{suffix}").write_bytes(damaged(content, generator))

    data = load(folder, crop_size=32)
    store = the_store(tmp_path)
    assert len(store.names) + len(store.left_out) == 1000
    assert {*store.names, *store.left_out} == {path.name for path in folder.iterdir()}
    assert data.left_out == store.left_out
    assert len(data.train) + len(data.validation) == len(store)
    assert min(len(store.names), len(store.left_out)) > 100
    assert all(reason.isprintable() and 5 < len(reason) < 150 for reason in store.left_out.values())
    assert TrainingBatches(data.train, 64, seed=0)[0].shape == (64, 3, 32, 32)


EXPERIMENT = """\
name: mine
data: {source: folder, path: photos, crop_size: 8}
model: {type: mixer, patch_size: 2, hidden_channels: [9, 9], latent_dim: 6, mixer_at: [1], mixer: cnn2df}
training: {learning_rate: 0.01, steps: 5, batch_size: 16}
"""


def test_from_the_command_line(tmp_path: Path, photos: Path, cli: Cli) -> None:
    (photos / "torn.png").write_bytes(encoded(noise(30, 30), "PNG")[:999])
    (photos / "text.jpg").write_text("not an image")
    for number in range(5):
        (photos / f"{number}.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    (photos / "loop").symlink_to(".")
    passed_over = (
        "5 files end in .heic, which is not read here; 1 file is a link to a folder, which is not followed"
    )
    Path("x.yml").write_text(EXPERIMENT)
    status, out, err = cli("run", "x.yml")
    assert status == 0
    assert f"says why; {passed_over}\n" in err
    assert f"2 of 42 images are left out: {tmp_path}/cache/mixcoder/packed/" in err
    result = json.loads((Path(out.splitlines()[-1]) / "result.json").read_text())
    assert result["images_left_out"] == 2 + 5 + 1
    run = Path(out.splitlines()[-1])
    for command in ("score", "encode"):
        output = ("-o", "codes.safetensors") if command == "encode" else ()
        status, out, err = cli(command, run, "photos", "--fit", *output)
        assert status == 0
        assert "2 images left out; the first: photos/text.jpg: is not an image of a known format" in err
        assert err.endswith(f"{passed_over}\n")
    status, out, err = cli("score", run, "folder")
    assert "8 images left out" in err
    with pytest.warns(UserWarning, match=f"2 images left out; .*; {passed_over}$"):
        assert len(mixcoder.encode(run, "photos", fit=True).names) == 40
    with pytest.warns(UserWarning, match=f"2 images left out; .*; {passed_over}$"):
        assert len(mixcoder.score(run, "photos", fit=True)) == 40

    status, out, err = cli("data", "fetch", "folder", "path=photos", "crop_size=8")
    data = load(photos)
    counts = f"{len(data.train)} images to train on, {len(data.validation)} to validate on"
    assert (status, out) == (0, f"folder: {counts}\nready\n")
    assert "2 of 42 images are left out" in err
    assert err.endswith(f"says why; {passed_over}\n")
    assert data.left_out["3.HEIC"] == "ends in .heic, which is not read here"
    assert data.left_out["loop"] == "is a link to a folder, which is not followed"
    assert len(data.left_out) == 8

    status, out, err = cli("data", "ls")
    assert status == 0
    assert "path: is missing: name a folder of images" in out
