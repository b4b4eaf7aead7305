"""Scores are the errors of the model, the worst on top; walks go straight through the codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder.data import to_float
from mixcoder.errors import DataError
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
