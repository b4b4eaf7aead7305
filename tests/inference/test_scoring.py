"""Scores are the errors of the model, the worst on top; walks go straight through the codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder.data import to_float
from mixcoder.errors import ArgumentError, DataError
from mixcoder.inference.image_stream import ImageBatch
from mixcoder.inference.scoring import rank_scores, score_batches
from tests.zoo import SHAPE, build, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures of random pixels."""
    (tmp_path / "images").mkdir()
    generator = torch.Generator().manual_seed(3)
    for i in range(7):
        pixels = torch.randint(0, 256, (*SHAPE[1:], 3), generator=generator).to(torch.uint8)
        Image.fromarray((pixels // (i + 1)).numpy()).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def test_scores_are_the_mean_squared_errors_worst_first(folder: Path) -> None:
    model = build("mlp")
    scores = mixcoder.score(model, folder)
    assert sorted(each.name for each in scores) == sorted(map(str, folder.iterdir()))
    assert [each.mse for each in scores] == sorted((each.mse for each in scores), reverse=True)
    for each in scores:
        pixels = torch.tensor(list(Image.open(each.name).tobytes()), dtype=torch.uint8)
        image = to_float(pixels.reshape(1, *SHAPE[1:], 3).permute(0, 3, 1, 2))  # (1, C, H, W)
        with torch.inference_mode():
            error = (model(image).clamp(0, 1) - image).square().mean()
        assert each.mse == pytest.approx(error.item(), rel=1e-5)
        assert each.psnr == pytest.approx(-10 * torch.log10(error).item(), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 4, 16])
def test_scores_of_rounded_codes_are_those_of_what_a_file_would_give(
    bits: int, folder: Path, tmp_path: Path
) -> None:
    model = build("mlp")
    codes = mixcoder.encode(model, folder, bits=bits)
    codes.save(tmp_path / "codes.safetensors")
    decoded = mixcoder.decode(model, tmp_path / "codes.safetensors").clamp(0, 1)  # (7, C, H, W)
    expected = {}
    for name, reconstruction in zip(codes.names, decoded, strict=True):
        pixels = torch.tensor(list(Image.open(name).tobytes()), dtype=torch.uint8)
        image = to_float(pixels.reshape(*SHAPE[1:], 3).permute(2, 0, 1))
        expected[name] = (reconstruction - image).square().mean().item()
    scores = mixcoder.score(model, folder, bits=bits)
    assert {each.name: each.mse for each in scores} == pytest.approx(expected, rel=1e-4)


def test_with_one_bit_a_code_is_a_corner(folder: Path) -> None:
    codes = mixcoder.encode(build("cnn"), folder, bits=1)
    is_end = (codes.latents == codes.latents.amin(0)) | (codes.latents == codes.latents.amax(0))
    assert is_end.all()


@pytest.mark.parametrize("bits", [0, 17, 2.0])
def test_other_bits_are_refused(bits: object, folder: Path) -> None:
    for use in (mixcoder.encode, mixcoder.score):
        with pytest.raises(ArgumentError, match="bits: must be a whole number from 1 to 16"):
            use(build("cnn"), folder, bits=bits)  # type: ignore[arg-type]


def refined() -> mixcoder.Autoencoder:
    torch.manual_seed(0)
    return mixcoder.create_model(
        "cnn", image_shape=SHAPE, channels=[4], kernel_size=3, latent_dim=5, refine={"steps": 2}
    )


def test_steps_are_those_of_the_refinement(folder: Path) -> None:
    model = refined()
    codes = [mixcoder.encode(model, folder, steps=steps).latents for steps in (0, 1, 2, 3)]
    assert torch.equal(mixcoder.encode(model, folder).latents, codes[2])
    assert not any(torch.equal(codes[2], other) for other in (codes[0], codes[1], codes[3]))
    with_two, with_none = (mixcoder.score(model, folder, steps=steps) for steps in (2, 0))
    assert with_two == mixcoder.score(model, folder)
    assert with_none != with_two


def test_a_model_without_refinement_has_no_steps(folder: Path) -> None:
    model = build("cnn")
    assert torch.equal(
        mixcoder.encode(model, folder, steps=0).latents, mixcoder.encode(model, folder).latents
    )
    for use in (mixcoder.encode, mixcoder.score):
        with pytest.raises(ArgumentError, match="steps: must be 0 for a model without `refine`, got 1"):
            use(model, folder, steps=1)
    with pytest.raises(ArgumentError, match="steps: must be a whole number from 0 to 64"):
        mixcoder.encode(refined(), folder, steps=65)


def test_only_the_worst_images_are_kept() -> None:
    model = build("cnn")
    images = torch.arange(0, 250, 10, dtype=torch.uint8).reshape(25, 1, 1, 1).expand(25, *SHAPE)
    batches = [ImageBatch([str(i) for i in range(k, k + 5)], images[k : k + 5]) for k in range(0, 25, 5)]
    scores, worst = rank_scores(score_batches(model, batches), kept=3)
    assert len(scores) == 25
    assert [int(image[0, 0, 0]) for image in worst] == [10 * int(each.name) for each in scores[:3]]


def test_the_worst_of_equals_is_the_first() -> None:
    image = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    scores, _ = rank_scores(
        score_batches(build("cnn"), [ImageBatch([name], image) for name in "abcd"]), kept=0
    )
    assert [each.name for each in scores] == list("abcd")


def test_a_walk_begins_and_ends_at_its_images(folder: Path, tmp_path: Path) -> None:
    model = save("cnn2df", tmp_path / "run")
    a, b = folder / "0.png", folder / "1.png"
    way = mixcoder.walk(tmp_path / "run", a, b, steps=5)
    ends = mixcoder.decode(model, mixcoder.encode(model, a, b))
    assert way.shape == (5, *SHAPE)
    torch.testing.assert_close(way[[0, -1]], ends)
    middle = mixcoder.encode(model, a, b).latents.mean(0, keepdim=True)
    with torch.inference_mode():
        torch.testing.assert_close(way[2:3], model.decode(middle))


def test_a_walk_goes_between_two_images(folder: Path) -> None:
    with pytest.raises(DataError, match=r"holds more than one image; name one of them, such as .*0\.png"):
        mixcoder.walk(build("cnn"), folder, folder / "0.png")


def test_a_run_takes_its_own_data_by_name(tmp_path: Path) -> None:
    """And a model that lost its experiment file still takes files."""
    save("script", tmp_path / "run")
    Image.new("RGB", (SHAPE[2], SHAPE[1])).save(tmp_path / "a.png")
    assert len(mixcoder.encode(tmp_path / "run", tmp_path / "a.png")) == 1
    assert mixcoder.encode(tmp_path / "run", "digits:0", fit=True).names == ["digits:0"]
