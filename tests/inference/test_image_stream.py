"""The images a user names come in order, with their names, in the shape of the model or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from mixcoder.data import ImageData, load_data
from mixcoder.data.sources.digits import Digits
from mixcoder.errors import ArgumentError, DataError
from mixcoder.inference.image_stream import ImageStream, describe_left_out
from tests.conftest import slow

GREY = (1, 8, 8)


def picture(path: Path, height: int = 8, width: int = 8, mode: str = "L", value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height), value).save(path)
    return path


def read(*places: str | Path, shape: tuple[int, int, int] = GREY) -> tuple[list[str], Tensor]:
    batches = list(ImageStream(places, shape))
    return [name for batch in batches for name in batch.names], torch.cat([b.images for b in batches])


def test_files_folders_patterns_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value, name in enumerate(("b.png", "f/z.png", "f/a/x.bmp", "f/y.png", "g/1.png", "g/2.gif")):
        picture(Path(name), value=value)
    names, images = read("f", "b.png", "g/*.png", "b.png")
    assert names == ["f/a/x.bmp", "f/y.png", "f/z.png", "b.png", "g/1.png", "b.png"]
    assert images.shape == (6, *GREY)
    assert images[:, 0, 0, 0].tolist() == [2, 3, 1, 0, 4, 0]


def test_they_can_be_gone_through_again(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    inputs = ImageStream([tmp_path, "digits:0"], GREY)
    assert [batch.names for batch in inputs] == [batch.names for batch in inputs]


def test_more_than_a_batch_and_a_chunk(tmp_path: Path) -> None:
    """Nothing is lost or moved at the seams."""
    names, images = read("digits:train")
    data = load_data("digits")
    assert len(names) == len(data.train) > 500
    assert names[501] == "digits:train:501"
    assert torch.equal(images, data.train.batch(torch.arange(len(names)), torch.zeros(len(names), 0)))


def test_images_of_a_data_source() -> None:
    data = load_data("digits").validation.images
    assert torch.equal(read("digits")[1], data)
    names, images = read("digits:7", "digits:train:2")
    assert names == ["digits:7", "digits:train:2"]
    assert torch.equal(read(*names)[1], images)
    assert torch.equal(images[0], data[7])
    with pytest.raises(ArgumentError, match="digits:297 is none of the 297 images of digits"):
        read("digits:297")


def test_a_file_of_the_name_of_a_source_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("digits/a.png"))
    assert read("digits")[0] == ["digits/a.png"]


def test_random_crops_are_no_images_to_name(tmp_path: Path, empty_cache: Path) -> None:
    from mixcoder.data.sources.folder import Folder

    for i in range(12):
        picture(tmp_path / "f" / f"{i}.png", 9, 11, value=i)
    source = Folder(str(tmp_path / "f"), crop_size=8, channels=1)
    batches = list(ImageStream(["folder"], GREY, sources={"folder": source}))
    assert torch.equal(batches[0].images, source.load().validation.images)
    with pytest.raises(ArgumentError, match="folder:train are random crops"):
        ImageStream(["folder:train"], GREY, sources={"folder": source})


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nothing", "there is no such file, folder or data source"),
        ("digit", "did you mean 'digits'?"),
        ("digits:valid", "there is no such file"),
        ("empty", "holds no images"),
        ("none/*.png", "there is no such folder"),
        ("pipe", "pipe: is not a file"),
        ("x" * 5000, "cannot be read"),
        ("a\0b", "cannot be read|no such file"),
    ],
)
def test_places_that_hold_nothing(
    place: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(DataError, match=message):
        ImageStream([place], GREY)


def test_another_size_is_refused_with_the_one_that_fits(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    path = picture(tmp_path / "b.png", 10, 12)
    with pytest.raises(DataError, match=rf"^{path}: is 10 x 12 pixels .* takes 8 x 8; --fit"):
        read(tmp_path)


def test_what_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    inputs = ImageStream([tmp_path], GREY)
    assert [batch.names for batch in inputs] == [[str(tmp_path / "a.png")]]
    note = describe_left_out(inputs.left_out)
    assert note == f"1 images left out; the first: {tmp_path / 'b.png'}: is not an image of a known format"
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"none of 1 images can be used; .*b\.png: is not an image"):
        list(ImageStream([tmp_path], GREY))


def test_grey_and_colour_become_what_the_model_takes(tmp_path: Path) -> None:
    grey, colour = picture(tmp_path / "g.png", value=50), tmp_path / "c.png"
    Image.new("RGB", (8, 8), (255, 0, 0)).save(colour)
    assert (read(grey, shape=(3, 8, 8))[1] == 50).all()
    assert (read(colour)[1] == 76).all()  # the luma of red, ITU-R 601
    assert read("digits:0", shape=(3, 8, 8))[1].shape == (1, 3, 8, 8)


STREAM = """
import resource, sys, torch
from pathlib import Path
from mixcoder.data import DataSource, ImageData, ImageSplit
from mixcoder.inference.latents_file import Codes, write_codes
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import ImageStream
from mixcoder.models import create_model

class Large(DataSource):
    image_shape = (3, 64, 64)
    training_images = 1
    def load(self):
        images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8).expand(30_000, -1, -1, -1)
        return ImageData("large", ImageSplit(images[:1]), ImageSplit(images))

model = create_model("mixer", image_shape=(3, 64, 64), patch_size=32, hidden_channels=[4], latent_dim=3)
inputs = ImageStream(["digits"], (3, 64, 64), sources={"digits": Large()})
list(encode_batches(model, ImageStream(["digits:0"], (3, 64, 64), sources={"digits": Large()})))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert write_codes(Path(sys.argv[1]), encode_batches(model, inputs), "") == 30_000
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, len(Codes.open(sys.argv[1])))
"""


@slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """30,000 images of 12,288 numbers, 1.5 GB as floats, pass through less than 200 MB."""
    ran = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path / "codes.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, count = map(int, ran.stdout.split())
    assert count == 30_000
    assert grown < 200e6


def test_a_model_of_two_channels_is_told_apart(tiny_data: ImageData) -> None:
    with pytest.raises(DataError, match="images of 2 channels; files hold 1 or 3"):
        ImageStream(["digits"], (2, 8, 8))
    assert Digits().image_shape == GREY
