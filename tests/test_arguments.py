"""Whatever a Python caller puts where something else is wanted: the right thing, or one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import mixcoder
from mixcoder import Codes, ImageData, ImageSplit, MixcoderError
from mixcoder.models import Autoencoder

SPLIT = ImageSplit(torch.full((2, 1, 8, 8), 77, dtype=torch.uint8))
DATA = ImageData("bytes", SPLIT, SPLIT)


def model() -> Autoencoder:
    return mixcoder.create_model("cnn", image_shape=(1, 8, 8), channels=[2], kernel_size=3, latent_dim=2)


class BytesPath:
    def __fspath__(self) -> bytes:
        return b"digits"


VALUES: Mapping[str, Callable[[], Any]] = {
    "tensor": lambda: torch.full((2, 1, 8, 8), 0.123456),
    "array": lambda: np.full((2, 1, 8, 8), 0.123456),
    "list of tensors": lambda: [torch.full((3,), 0.123456)],
    "list of places": lambda: ["digits:0"],
    "nested list": lambda: [["digits:0"]],
    "empty list": list,
    "generator": lambda: (place for place in ["digits:0"]),
    "map": lambda: {"digits:0": 1},
    "set": lambda: {"digits:0"},
    "None": lambda: None,
    "whole number": lambda: 7,
    "huge number": lambda: 10**30,
    "negative number": lambda: -1,
    "fraction": lambda: 0.5,
    "numpy number": lambda: np.int64(5),
    "nan": lambda: float("nan"),
    "true": lambda: True,
    "text": lambda: "nowhere",
    "empty text": lambda: "",
    "NUL": lambda: "a\0b",
    "long text": lambda: "x" * 5_000,
    "no UTF-8": lambda: "\udcff",
    "path": lambda: Path("nowhere"),
    "bytes": lambda: b"digits",
    "bytes path": BytesPath,
    "object": object,
    "class": lambda: int,
    "function": lambda: model,
    "model": model,
    "module": lambda: nn.Linear(1, 1),
    "data": lambda: DATA,
    "codes": lambda: Codes(["a"], torch.full((1, 2), 0.123456)),
}


def settings(name: str) -> Callable[[Any], object]:
    """A setting of `train`; what would train for long is left out."""

    def use(value: Any) -> object:
        is_long = name in ("steps", "batch_size") and type(value) is int and value > 1_000
        return is_long or mixcoder.train(model(), DATA, **{"steps": 1, "batch_size": 2, name: value})

    return use


USES: Mapping[str, Callable[[Any], object]] = {
    "encode": lambda value: mixcoder.encode(value, "digits:0"),
    "encode images": lambda value: mixcoder.encode(model(), value),
    "decode": lambda value: mixcoder.decode(value, Codes(["a"], torch.zeros(1, 2))),
    "decode codes": lambda value: mixcoder.decode(model(), value),
    "score": lambda value: mixcoder.score(value, "digits:0"),
    "score images": lambda value: mixcoder.score(model(), value),
    "walk": lambda value: mixcoder.walk(value, "digits:0", "digits:1"),
    "walk start": lambda value: mixcoder.walk(model(), value, "digits:1"),
    "walk end": lambda value: mixcoder.walk(model(), "digits:1", value),
    "walk steps": lambda value: mixcoder.walk(model(), "digits:1", "digits:2", value),
    "load": lambda value: mixcoder.load(value),
    "load weights": lambda value: mixcoder.load("nowhere", value),
    "load_data": lambda value: mixcoder.load_data(value),
    "load_data path": lambda value: mixcoder.load_data("folder", path=value),
    "create_model": lambda value: mixcoder.create_model(value),
    "create_model shape": lambda value: mixcoder.create_model(
        "cnn", image_shape=value, channels=[2], kernel_size=3, latent_dim=2
    ),
    "create_model channels": lambda value: mixcoder.create_model(
        "cnn", image_shape=(1, 8, 8), channels=value, kernel_size=3, latent_dim=2
    ),
    "train": lambda value: mixcoder.train(value, DATA, steps=1),
    "train data": lambda value: mixcoder.train(model(), value, steps=1),
    "images": lambda value: mixcoder.images(value),
    "images validation": lambda value: mixcoder.images(DATA.train, value),
    "images labels": lambda value: mixcoder.images(DATA.train, labels=value),
    "images share": lambda value: mixcoder.images(DATA.train, validation_share=value),
    "images name": lambda value: mixcoder.images(DATA.train, name=value),
    **{f"train {name}": settings(name) for name in ("steps", "batch_size", "learning_rate", "seed", "loss")},
    "Codes names": lambda value: Codes(value, torch.zeros(2, 8)),
    "Codes latents": lambda value: Codes(["a", "b"], value),
    "Codes.open": lambda value: Codes.open(value),
    "reconstruction_grid": lambda value: mixcoder.reconstruction_grid(value, torch.rand(2, 1, 8, 8)),
    "reconstruction_grid images": lambda value: mixcoder.reconstruction_grid(model(), value),
    "reconstruction_grid scale": lambda value: mixcoder.reconstruction_grid(
        model(), torch.rand(2, 1, 8, 8), value
    ),
    "ImageSplit": lambda value: ImageSplit(value),
    "ImageSplit labels": lambda value: ImageSplit(DATA.validation.images, value),
    "ImageData train": lambda value: ImageData("x", value, DATA.validation),
    "ImageData validation": lambda value: ImageData("x", DATA.train, value),
    "model.encode": lambda value: model().encode(value),
    "model.decode": lambda value: model().decode(value),
    "model": lambda value: model()(value),
    "register_model": lambda value: mixcoder.register_model(value),
    "register_mixer": lambda value: mixcoder.register_mixer(value),
    "register_source": lambda value: mixcoder.register_source(value),
    "register_logger": lambda value: mixcoder.register_logger(value),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.filterwarnings("ignore:.* became whole numbers:mixcoder.errors.MixcoderWarning")
def test_every_argument_is_taken_or_refused_in_a_sentence(
    use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never an error of Python's or torch's own, and never the elements of a tensor."""
    monkeypatch.chdir(tmp_path)
    for make in VALUES.values():
        try:
            USES[use](make())
        except MixcoderError as error:
            assert len(str(error)) < 600
            assert "0.1234" not in str(error)


@pytest.mark.parametrize("kind", ["list of places", "generator"])
def test_a_list_of_places_is_a_list_of_places(kind: str) -> None:
    given = model()
    expected = mixcoder.encode(given, "digits:0", "digits:1")
    assert torch.equal(mixcoder.encode(given, VALUES[kind](), ["digits:1"]).latents, expected.latents)
    assert len(mixcoder.score(given, ["digits:0", "digits:1"])) == 2
    assert torch.equal(mixcoder.encode(given, iter(["digits:0", "digits:1"])).latents, expected.latents)


@pytest.mark.parametrize("kind", ["codes", "None", "bytes"])
def test_what_is_no_image_is_refused_with_what_is_one(kind: str) -> None:
    for use in ("encode images", "score images", "images"):
        with pytest.raises(MixcoderError, match=r"^(images|train).*: must be .*a numpy array(, a| or a)"):
            USES[use](VALUES[kind]())
    if kind != "codes":
        with pytest.raises(MixcoderError, match=r"codes: must be as mixcoder\.encode gives them"):
            mixcoder.decode(model(), VALUES[kind]())


def test_numbers_of_an_array_are_double_and_told_so() -> None:
    images = torch.from_numpy(np.zeros((2, 1, 8, 8)))
    with pytest.raises(MixcoderError, match=r"images are torch\.float64 .*; images\.float\(\)"):
        model()(images)
    with pytest.raises(MixcoderError, match=r"latents are torch\.float64 .*; latents\.float\(\)"):
        model().decode(torch.from_numpy(np.zeros((2, 2))))
    assert model().double()(images).dtype == torch.float64


def test_nothing_is_no_place() -> None:
    for use in (mixcoder.encode, mixcoder.score):
        with pytest.raises(MixcoderError, match="name at least one: files, folders or data sources"):
            use(model())


def test_an_export_goes_to_a_folder() -> None:
    for name in ("tensor", "None", "whole number", "bytes", "empty text", "NUL", "model"):
        with pytest.raises(MixcoderError, match="folder: must be a folder to write to, got"):
            mixcoder.export_onnx(model(), VALUES[name]())
        with pytest.raises(MixcoderError):
            mixcoder.export_onnx(VALUES[name]() if name != "model" else nn.Linear(1, 1), "nowhere")


def test_a_folder_of_others_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(MixcoderError, match=f"{re.escape(str(tmp_path))}: permission denied"):
        mixcoder.load(tmp_path)
