"""Codes go through a file and come back to the bit; files of others are checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mixcoder.data import to_float
from mixcoder.errors import DataError, MixcoderError, WriteError
from mixcoder.inference import Codes, decode
from mixcoder.inference.decoding import decode_batches, file_name
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import ImageBatch
from mixcoder.inference.latents_file import write_codes
from tests.zoo import KINDS, SHAPE, build


def pictures(count: int) -> Tensor:
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("count", [1, 2, 65])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_the_model_to_the_bit(kind: str, count: int, tmp_path: Path) -> None:
    model, images = build(kind), pictures(count)
    names = [f"{i}.png" for i in range(count)]
    write_codes(tmp_path / "codes.safetensors", encode_batches(model, [ImageBatch(names, images)]), "")
    codes = Codes.open(tmp_path / "codes.safetensors")
    with torch.inference_mode():
        expected = model(to_float(images))
    assert codes.names == names
    assert torch.equal(decode(model, codes), expected)


def test_codes_are_a_plain_safetensors_file(tmp_path: Path) -> None:
    """Whoever can read safetensors can use them."""
    latents = torch.randn(3, 2, 4)
    Codes(["a", "ü", "c\n"], latents).save(tmp_path / "c.safetensors")
    tensors = load_file(tmp_path / "c.safetensors")
    assert torch.equal(tensors["latents"], latents)
    assert json.loads(tensors["names"].numpy().tobytes()) == ["a", "ü", "c\n"]


def test_codes_of_another_program(tmp_path: Path) -> None:
    model = build("cnn")
    save_file({"latents": torch.zeros(4, 5)}, tmp_path / "c.safetensors")
    assert Codes.open(tmp_path / "c.safetensors").names == ["0", "1", "2", "3"]
    assert decode(model, tmp_path / "c.safetensors").shape == (4, *SHAPE)


NAMES = torch.tensor(list(b'["a", "b"]'), dtype=torch.uint8)
WRONG: dict[str, tuple[dict[str, Tensor], str]] = {
    "no latents": ({"codes": torch.zeros(2, 5)}, "holds no 'latents'"),
    "other numbers": ({"latents": torch.zeros(2, 5, dtype=torch.float64)}, "must be float32 .* float64"),
    "no shape": ({"latents": torch.zeros(5)}, r"must be float32 \(N, …\)"),
    "nothing": ({"latents": torch.zeros(0, 5)}, r"must be float32 \(N, …\)"),
    "other shape": ({"latents": torch.zeros(2, 6)}, r"codes are of shape \(6,\), the model's are \(5,\)"),
    "not finite": ({"latents": torch.full((2, 5), torch.nan), "names": NAMES}, "code of a holds numbers"),
    "too many names": ({"latents": torch.zeros(3, 5), "names": NAMES}, "holds 3 latents and 2 names"),
    "no JSON": ({"latents": torch.zeros(2, 5), "names": NAMES[1:]}, "names are not JSON"),
    "no list": (
        {"latents": torch.zeros(2, 5), "names": torch.tensor([49], dtype=torch.uint8)},
        "not a list of texts",
    ),
    "deep": (
        {"latents": torch.zeros(2, 5), "names": torch.full((90_000,), 91, dtype=torch.uint8)},
        "names are not JSON",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_codes_are_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    tensors, message = WRONG[kind]
    save_file(tensors, tmp_path / "c.safetensors")
    with pytest.raises(DataError, match=message):
        decode(build("cnn"), tmp_path / "c.safetensors")


def test_what_is_no_file_of_codes(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("{}")
    for name in ("nothing", "text", "."):
        with pytest.raises(MixcoderError, match=str(tmp_path)):
            Codes.open(tmp_path / name)


def test_codes_of_other_weights_are_refused(tmp_path: Path) -> None:
    first, second = build("cnn", seed=0), build("cnn", seed=1)
    codes = Codes(["a"], torch.zeros(1, 5), model="of the first")
    with pytest.raises(DataError, match="made by a model with other weights"):
        list(decode_batches(first, codes))
    assert decode(second, Codes(["a"], torch.zeros(1, 5))).shape == (1, *SHAPE)


def test_an_error_on_the_way_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    Codes(["old"], torch.zeros(1, 5)).save(path)

    def failing() -> object:
        yield ["new"], torch.ones(1, 5)
        raise DataError("an image is of another size")

    with pytest.raises(DataError):
        write_codes(path, failing(), "")  # type: ignore[arg-type]
    assert Codes.open(path).names == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]
    with pytest.raises(WriteError, match="cannot write"):
        Codes(["x"], torch.zeros(1, 5)).save(path / "below.safetensors")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photos/cat 1.png", "07-photos_cat_1.png"),
        ("../../etc/passwd", "07-etc_passwd.png"),
        ("/abs/x.jpeg", "07-abs_x.png"),
        ("digits:7", "07-digits_7.png"),
        ("...", "07.png"),
        ("漢\0字", "07.png"),
        ("x" * 500, f"07-{'x' * 100}.png"),
    ],
)
def test_names_become_file_names_that_stay_in_the_folder(name: str, expected: str) -> None:
    assert file_name(7, 65, name) == expected
