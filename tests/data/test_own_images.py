"""`mixcoder.images`: the same data out of every form in which Python programs hold images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder import ImageData, ImageSplit
from mixcoder.errors import ArgumentError, MixcoderWarning
from tests.conftest import training_images

PIXELS: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
LABELS = [i % 10 for i in range(20)]


class Dataset:
    """Rows of image and label, as data sets of torchvision give them."""

    def __init__(self, image: Callable[[npt.NDArray[np.uint8]], Any]) -> None:
        self.image = image

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        return self.image(PIXELS[row]), LABELS[row]


class HubDataset:
    """Rows that are dictionaries, as data sets of the hub give them."""

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"image": Image.fromarray(PIXELS[row]), "label": LABELS[row], "note": "none"}


def to_tensor(pixels: npt.NDArray[np.uint8]) -> torch.Tensor:
    """As torchvision's ToTensor."""
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255  # (C, H, W)


FORMS: dict[str, Callable[[], Any]] = {
    "array, channels last": lambda: PIXELS,
    "array, channels first": lambda: PIXELS.transpose(0, 3, 1, 2),
    "tensor": lambda: torch.from_numpy(PIXELS),
    "mirrored twice": lambda: PIXELS[::-1][::-1],
    "list of arrays": lambda: list(PIXELS),
    "pictures": lambda: [Image.fromarray(pixels) for pixels in PIXELS],
    "data set of pictures": lambda: Dataset(Image.fromarray),
    "data set of arrays": lambda: Dataset(np.asarray),
    "data set of the hub": HubDataset,
    "list of rows": lambda: list(zip(PIXELS, LABELS, strict=True)),
    "split": lambda: ImageSplit(torch.from_numpy(PIXELS).permute(0, 3, 1, 2)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_data(form: str) -> None:
    given = FORMS[form]()
    data = mixcoder.images(given)
    expected = mixcoder.images(PIXELS)
    assert data.content_hash() == expected.content_hash()
    assert (len(data.train), len(data.validation)) == (18, 2)
    has_labels = isinstance(given, Dataset | HubDataset) or form == "list of rows"
    labelled = data.train.labels is not None and data.validation.labels is not None
    assert labelled == has_labels


def test_floats_of_a_data_set_are_told_once_and_are_the_same_images() -> None:
    with pytest.warns(MixcoderWarning, match=r"train: values of torch\.float32 became whole numbers") as told:
        data = mixcoder.images(Dataset(to_tensor))
    assert data.content_hash() == mixcoder.images(PIXELS).content_hash()
    assert len(told) == 1
    assert told[0].filename == __file__


def test_labels_go_along_with_their_images() -> None:
    data = mixcoder.images(PIXELS, labels=LABELS)
    assert data.train.labels is not None
    assert data.validation.labels is not None
    by_pixels = {pixels.tobytes(): label for pixels, label in zip(PIXELS, LABELS, strict=True)}
    for split, images in ((data.train, training_images(data)), (data.validation, data.validation.images)):
        assert split.labels is not None
        found = [by_pixels[image.permute(1, 2, 0).numpy().tobytes()] for image in images]
        assert split.labels.tolist() == found


@pytest.mark.parametrize("label", ["cat", 0.5, torch.tensor(0.5), None, [1]])
def test_what_is_no_whole_number_is_no_label(label: Any) -> None:
    assert mixcoder.images([(pixels, label) for pixels in PIXELS]).train.labels is None
    numbers = (np.int64(3), torch.tensor(3), np.array(3), 3)
    data = mixcoder.images([(pixels, numbers[i % 4]) for i, pixels in enumerate(PIXELS)])
    assert data.train.labels is not None
    assert set(data.train.labels.tolist()) == {3}


def test_the_split_is_that_of_everybody_and_a_share_of_the_images() -> None:
    data = mixcoder.images(PIXELS, validation_share=0.25)
    assert len(data.validation) == 5
    assert data.content_hash() == mixcoder.images(PIXELS.copy(), validation_share=0.25).content_hash()
    assert len(mixcoder.images(PIXELS[:2], validation_share=0.01).validation) == 1
    assert len(mixcoder.images(PIXELS[:2], validation_share=0.99).train) == 1


def test_sets_of_a_dictionary_are_train_and_validation() -> None:
    for key in ("validation", "test"):
        data = mixcoder.images({"train": PIXELS, key: HubDataset()})
        assert (len(data.train), len(data.validation)) == (20, 20)
        assert data.train.labels is None
        assert data.validation.labels is not None
    with pytest.raises(ArgumentError, match=r"without the key train; found a, b"):
        mixcoder.images({"a": PIXELS, "b": PIXELS})
    with pytest.raises(ArgumentError, match=r"validation: is given twice"):
        mixcoder.images({"train": PIXELS}, PIXELS)


def test_a_picture_is_grey_or_in_colour_and_on_white() -> None:
    transparent = Image.new("RGBA", (5, 6), (0, 0, 0, 0))
    assert int(training_images(mixcoder.images([transparent] * 2)).min()) == 255
    assert mixcoder.images([Image.new("L", (5, 6), 9)] * 2).image_shape == (1, 6, 5)
    assert mixcoder.images([Image.new("1", (5, 6))] * 2).image_shape == (1, 6, 5)
    assert mixcoder.images([Image.new("P", (5, 6))] * 2).image_shape == (3, 6, 5)
    with pytest.raises(ArgumentError, match=r"train\[1\]: has floating-point pixels"):
        mixcoder.images([Image.new("RGB", (5, 6)), Image.new("F", (5, 6))])


def rows_that_end() -> Iterator[Any]:
    yield PIXELS[0]


WRONG: dict[str, tuple[Callable[[], ImageData], str]] = {
    "one size each": (
        lambda: mixcoder.images([np.zeros((8, 8), np.uint8), np.zeros((9, 8), np.uint8)]),
        r"train: image 1 is 1 x 9 x 8, the first one 1 x 8 x 8 \(C x H x W\); bring all to one size",
    ),
    "zeros and ones": (
        lambda: mixcoder.images(np.ones((4, 8, 8), np.uint8)),
        "train: its largest value is 1, where 255 is white",
    ),
    "of texts": (lambda: mixcoder.images(["a", "b"]), r"train\[0\]: must be an image, .*, got str"),
    "an iterator": (lambda: mixcoder.images(rows_that_end()), r"got generator; list\(…\) makes a list"),
    "no image": (lambda: mixcoder.images([]), "train: holds no images"),
    "one image": (lambda: mixcoder.images(PIXELS[:1]), "train: holds a single image, .* state validation"),
    "two columns": (
        lambda: mixcoder.images([{"a": PIXELS[0], "b": PIXELS[1]}]),
        r"train\[0\]: needs one column of images; found a, b",
    ),
    "a ragged array": (
        lambda: mixcoder.images(np.array([[1, 2], [3]], dtype=object)),
        r"train: must hold numbers, got ndarray \(2,\) of object",
    ),
    "images and labels as one": (
        lambda: mixcoder.images((PIXELS, LABELS)),
        r"train\[0\]: must be one image, got ndarray \(20, 6, 5, 3\) of uint8",
    ),
    "labels of texts": (
        lambda: mixcoder.images(PIXELS, labels=["a"] * 20),
        "labels: must be 20 whole numbers, one an image, got list",
    ),
    "few labels": (lambda: mixcoder.images(PIXELS, labels=[1]), r"labels: must be 20 whole numbers"),
    "labels of nothing": (
        lambda: mixcoder.images(PIXELS, validation_labels=[1]),
        "validation_labels: needs validation",
    ),
    "share": (
        lambda: mixcoder.images(PIXELS, validation_share=1),
        "validation_share: must lie between 0 and 1",
    ),
    "other sizes": (
        lambda: mixcoder.images(PIXELS, PIXELS[:, 1:]),
        r"validation: its images are \(3, 5, 5\), those to train on \(3, 6, 5\)",
    ),
    "data": (lambda: mixcoder.images(mixcoder.images(PIXELS)), "train: is ImageData already"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_everything_else_is_one_sentence(kind: str) -> None:
    make, message = WRONG[kind]
    with pytest.raises(ArgumentError, match=message):
        make()


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return mixcoder.create_model("cnn", image_shape=(3, 6, 5), channels=[2], kernel_size=3, latent_dim=2)


@pytest.mark.parametrize("form", FORMS)
def test_all_verbs_take_every_form(form: str, tmp_path: Path) -> None:
    """They give what they give for the same images as files."""
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    expected = mixcoder.encode(model(), tmp_path)
    given = FORMS[form]()
    codes = mixcoder.encode(model(), given)
    assert codes.names == [f"images:{i}" for i in range(20)]
    assert torch.equal(codes.latents, expected.latents)
    assert torch.equal(mixcoder.decode(model(), codes.latents.numpy()), mixcoder.decode(model(), expected))
    scores, files = mixcoder.score(model(), given), mixcoder.score(model(), tmp_path)
    assert [each.mse for each in scores] == [each.mse for each in files]


def test_what_images_returns_and_what_it_takes_train_the_same_model() -> None:
    trained = []
    for data in (PIXELS, mixcoder.images(PIXELS)):
        learner = model()
        mixcoder.train(learner, data, steps=3, batch_size=4, validations=1, compile="off")
        trained.append(torch.cat([weights.flatten() for weights in learner.parameters()]))
    assert torch.equal(*trained)


def test_one_image_of_each_form_is_an_end_of_a_walk(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    expected = mixcoder.walk(model(), tmp_path / "0.png", tmp_path / "0.png", steps=2)
    rows = Dataset(Image.fromarray)
    for start in (PIXELS[0], PIXELS[:1], Image.fromarray(PIXELS[0]), rows[0]):
        assert torch.equal(mixcoder.walk(model(), start, rows[0], steps=2), expected)
    with pytest.raises(mixcoder.MixcoderError, match=r"ndarray \(2, 6, 5, 3\) of uint8: holds more than one"):
        mixcoder.walk(model(), PIXELS[:2], PIXELS[0])


def test_places_and_images_in_memory_go_side_by_side(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    given = mixcoder.images(PIXELS)
    codes = mixcoder.encode(model(), tmp_path, PIXELS[0], [tmp_path / "0.png", PIXELS[1]], given)
    assert codes.names[1:3] == ["images:1", str(tmp_path / "0.png")]
    assert torch.equal(codes.latents[0], codes.latents[1])
    assert len(codes.names) == 4 + len(given.validation)
    assert len(set(codes.names)) == len(codes.names) - 1


def test_images_of_another_size_are_fitted_where_asked() -> None:
    sizes = [Image.fromarray(PIXELS[0]).resize((size, size)) for size in (9, 12)]
    assert mixcoder.encode(model(), sizes, fit=True).latents.shape == (2, 2)
    with pytest.raises(mixcoder.MixcoderError, match=r"images:0: is 9 x 9 pixels .* fit=True"):
        mixcoder.encode(model(), sizes)
