"""Codes go through a file and come back to the bit; files of others are checked."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mixcoder.data import to_float
from mixcoder.errors import ArgumentError, DataError, MixcoderError, WriteError
from mixcoder.inference import Codes, decode
from mixcoder.inference.decoding import decode_batches, file_name
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import ImageBatch
from mixcoder.inference.latents_file import write_codes
from mixcoder.io.safetensors_header import Entry, safetensors_header
from tests.faults.broken_bytes import broken
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
    with torch.no_grad():  # a gradient within the forward has other operations in torch's inference mode
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


def codes_of(count: int, shape: tuple[int, ...] = (5,)) -> Codes:
    latents = torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))
    return Codes([f"{i}.png" for i in range(count)], latents, "of a model")


@pytest.mark.parametrize("bits", [1, 3, 8, 13, 16])
@pytest.mark.parametrize(("count", "shape"), [(1, (5,)), (7, (2, 3)), (40, (3, 2, 2))])
def test_rounded_codes_come_back_to_the_bit(
    bits: int, count: int, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixcoder.inference.latents_file._CHUNK_NUMBERS", 50)  # several chunks
    rounded = codes_of(count, shape).rounded(bits)
    rounded.save(tmp_path / "a.safetensors")
    opened = Codes.open(tmp_path / "a.safetensors")
    assert (opened.names, opened.model, opened.bits) == (rounded.names, "of a model", bits)
    assert torch.equal(opened.latents, rounded.latents)
    latents = codes_of(count, shape).latents
    batches = [([name], latent[None]) for name, latent in zip(rounded.names, latents, strict=True)]
    assert write_codes(tmp_path / "b.safetensors", batches, "of a model", bits) == count
    opened.save(tmp_path / "c.safetensors")
    a, b, c = ((tmp_path / f"{letter}.safetensors").read_bytes() for letter in "abc")
    assert a == b == c
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}  # nothing is left behind


def test_a_file_of_rounded_codes_is_as_small_as_it_claims(tmp_path: Path) -> None:
    """Sixteen bytes for each of a thousand codes, beside the header, the range and the names."""
    codes = codes_of(1000, (16,))
    codes.rounded(8).save(tmp_path / "c.safetensors")
    tensors = load_file(tmp_path / "c.safetensors")
    sizes = {key: tensor.numel() * tensor.element_size() for key, tensor in tensors.items()}
    names = len(json.dumps(codes.names))
    assert sizes == {"lowest": 64, "highest": 64, "levels": 16_000, "names": names}
    assert (tmp_path / "c.safetensors").stat().st_size < 16_000 + 128 + names + 600
    width = tensors["highest"] - tensors["lowest"]
    expected = torch.lerp(tensors["lowest"], tensors["highest"], tensors["levels"] / 255)
    assert (expected - codes.latents).abs().le(width / 255 / 2 + 1e-6).all()


def test_constant_numbers_and_a_single_image_are_kept_to_the_bit(tmp_path: Path) -> None:
    Codes(["a"], torch.tensor([[1.5, -2.25, 1e-40]]), bits=1).save(tmp_path / "c.safetensors")
    assert Codes.open(tmp_path / "c.safetensors").latents.tolist() == [[1.5, -2.25, pytest.approx(1e-40)]]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_codes_that_are_not_finite_are_not_rounded(number: float, tmp_path: Path) -> None:
    codes = codes_of(3)
    codes.latents[1, 2] = number
    with pytest.raises(DataError, match=r"code of 1.png holds numbers that are not finite"):
        codes.rounded(8)
    with pytest.raises(DataError, match=r"code of 1.png holds numbers that are not finite"):
        Codes(codes.names, codes.latents, bits=8).save(tmp_path / "c.safetensors")
    assert not list(tmp_path.iterdir())


LEVELS = {
    "levels": torch.zeros(2, 5, dtype=torch.uint8),
    "lowest": torch.zeros(5),
    "highest": torch.ones(5),
}
EIGHT = {"format": "mixcoder codes 2", "bits": "8"}
WRONG_LEVELS: dict[str, tuple[dict[str, Tensor], dict[str, str], str]] = {
    "no lowest": ({"lowest": torch.zeros(0)}, EIGHT, "lowest and highest must be float32 of one shape"),
    "other shapes": (
        {"lowest": torch.zeros(4)},
        EIGHT,
        r"of one shape, not float32 \(4,\) and float32 \(5,\)",
    ),
    "other type": ({"lowest": torch.zeros(5, dtype=torch.float16)}, EIGHT, "must be float32"),
    "no numbers": (
        {"lowest": torch.tensor(0.0), "highest": torch.tensor(1.0)},
        EIGHT,
        "must be float32 of one",
    ),
    "upside down": ({"lowest": torch.full((5,), 2.0)}, EIGHT, "lowest nowhere above highest"),
    "not finite": ({"highest": torch.full((5,), torch.inf)}, EIGHT, "must be finite"),
    "NaN": ({"highest": torch.full((5,), torch.nan)}, EIGHT, "must be finite"),
    "too few bytes": ({"levels": torch.zeros(2, 4, dtype=torch.uint8)}, EIGHT, r"must be uint8 \(N, 5\)"),
    "other levels": ({"levels": torch.zeros(2, 5)}, EIGHT, r"must be uint8 \(N, 5\), not float32"),
    "no levels": ({"levels": torch.zeros(0, 5, dtype=torch.uint8)}, EIGHT, r"must be uint8 \(N, 5\)"),
    "both": ({"latents": torch.zeros(2, 5)}, EIGHT, "holds both 'latents' and 'levels'"),
    "no bits": ({}, {"format": "mixcoder codes 2"}, "must state 'bits' from 1 to 16, not ''"),
    "too many bits": ({}, {"bits": "17"}, "must state 'bits' from 1 to 16, not '17'"),
    "odd bits": ({}, {"bits": "8 "}, "must state 'bits'"),
    "other bits": ({}, {"bits": "16"}, r"must be uint8 \(N, 10\)"),
    "a later version": ({}, {"format": "mixcoder codes 3"}, "is of a later version of Mixcoder"),
    "other names": ({"names": NAMES[:6]}, EIGHT, "names are not JSON"),
}


@pytest.mark.parametrize("kind", WRONG_LEVELS)
def test_wrong_levels_are_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    changes, metadata, message = WRONG_LEVELS[kind]
    save_file({**LEVELS, **changes}, tmp_path / "c.safetensors", metadata)
    with pytest.raises(DataError, match=message) as caught:
        Codes.open(tmp_path / "c.safetensors")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("key", ["lowest", "highest"])
def test_levels_without_their_range_are_refused(key: str, tmp_path: Path) -> None:
    save_file(
        {name: value for name, value in LEVELS.items() if name != key}, tmp_path / "c.safetensors", EIGHT
    )
    with pytest.raises(DataError, match=f"holds 'levels' but no '{key}'"):
        Codes.open(tmp_path / "c.safetensors")


def test_whatever_stands_in_a_file_of_levels_it_is_sound_or_refused(tmp_path: Path) -> None:
    codes_of(6).rounded(5).save(tmp_path / "sound.safetensors")
    content = (tmp_path / "sound.safetensors").read_bytes()
    refused = 0
    for seed in range(300):
        (tmp_path / "c.safetensors").write_bytes(broken(content, Random(seed)))
        try:
            opened = Codes.open(tmp_path / "c.safetensors")
        except MixcoderError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert opened.latents.isfinite().all()
            assert len(opened.names) == len(opened.latents)
    assert 30 < refused < 300


@pytest.mark.parametrize("axes", [64, 65, 70, 1_000])
def test_more_axes_than_torch_computes_with(axes: int, tmp_path: Path) -> None:
    path, range_entry = tmp_path / "c.safetensors", Entry("F32", (1,) * axes)
    rounded = {"lowest": range_entry, "highest": range_entry, "levels": Entry("U8", (2, 1))}
    path.write_bytes(safetensors_header(rounded, {"bits": "8"}) + bytes(10))
    with pytest.raises(DataError, match=f"est must have at most 63 axes, not {axes:,}"):
        Codes.open(path)
    path.write_bytes(safetensors_header({"latents": range_entry}, {}) + bytes(4))
    if axes == 64:
        assert Codes.open(path).latents.ndim == axes
        Codes(["a"], torch.zeros((1,) * axes), bits=8).save(path)
        assert Codes.open(path).latents.ndim == axes
        return
    with pytest.raises(DataError, match=f"latents must have at most 64 axes, not {axes:,}"):
        Codes.open(path)
    with pytest.raises(ArgumentError, match=f"latents: must have at most 64 axes, got {axes:,}"):
        Codes(["a"], torch.zeros((1,) * axes))
