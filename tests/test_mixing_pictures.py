"""docs/mixing-layers.md tells the truth: its pictures are the layers' own, its counts and formulas too."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from mixcoder.models import MIXERS
from mixcoder.models.mixing import Residual, create_mixing_layer
from tests.documents import read_document
from tests.mixing_pictures import (
    FIRST,
    GRID,
    IMAGES,
    LAYERS,
    SIDE,
    create_layer,
    derivative_of,
    draw,
    steps_of,
)

PAGE = read_document("docs/mixing-layers.md")


def count(mixer: str, grid: tuple[int, int], channels: int, kernel_size: int) -> int:
    layer = create_mixing_layer(mixer, grid, channels, kernel_size, Residual("gelu"))
    return sum(parameter.numel() for parameter in layer.parameters())


def cells_of(mixer: str, table: int) -> list[str]:
    """The cells of the layer's row in the page's first or second table."""
    rows: list[str] = re.findall(rf"^\| `{mixer}` \| (.*) \|$", PAGE, flags=re.M)
    return rows[table].split(" | ")


@pytest.mark.parametrize("mixer", LAYERS)
def test_the_picture_is_what_the_layer_draws(mixer: str) -> None:
    picture = (IMAGES / f"mixing-{mixer}.svg").read_text(encoding="utf-8")
    assert picture == draw(mixer), "make pictures draws it anew"
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert len(picture) < 40_000
    assert f"](images/mixing-{mixer}.svg)" in PAGE


def neighbourhood(mixer: str) -> list[Tensor]:
    """Returns (P, C) bool for each step: the inputs of the middle element, as the page describes them."""
    (m, n), (r, s) = divmod(FIRST[0], GRID[1]), divmod(FIRST[1], SIDE)
    patch, channel = torch.arange(math.prod(GRID))[:, None], torch.arange(SIDE**2)[None]
    in_row, in_column = patch // GRID[1] == m, patch % GRID[1] == n
    is_channel = channel == FIRST[1]
    near_channel = (channel - FIRST[1]).abs() <= 1
    near_patch = (patch - FIRST[0]).abs() <= 1
    near_in_picture = ((channel // SIDE - r).abs() <= 1) & ((channel % SIDE - s).abs() <= 1)
    near_in_grid = ((patch // GRID[1] - m).abs() <= 1) & ((patch % GRID[1] - n).abs() <= 1)
    expected = {
        "cnn": [near_channel],
        "cnnf": [near_channel, near_patch],
        "cnn2d": [near_in_picture],
        "cnn2df": [near_in_picture, near_in_grid],
        "mlp": [torch.tensor(True)],
        "kronecker": [in_column & is_channel, in_row & is_channel],
        "depthwise": [near_in_grid & is_channel],
        "token_mlp": [is_channel],
        "grouped": [is_channel],
    }[mixer]
    return [step.expand(len(patch), channel.shape[1]) for step in expected]


@pytest.mark.parametrize("mixer", LAYERS)
def test_each_step_depends_on_what_the_page_says(mixer: str) -> None:
    steps, expected = steps_of(create_layer(mixer)), neighbourhood(mixer)
    for step, named in zip(steps, expected, strict=True):
        assert torch.equal(derivative_of(step, FIRST) != 0, named)


@pytest.mark.parametrize("mixer", LAYERS)
def test_the_steps_are_the_whole_layer(mixer: str) -> None:
    layer = create_layer(mixer)
    x = torch.rand(2, math.prod(GRID), SIDE**2)
    stepped = x
    for step in steps_of(layer):
        stepped = step(stepped)
    torch.testing.assert_close(stepped, layer.mix(x))


@pytest.mark.parametrize("mixer", LAYERS)
def test_counts(mixer: str) -> None:
    """The formula in the table for some sizes, and the number for the stated one."""
    formula = cells_of(mixer, 0)[-1].replace("²", "**2").replace("·", "*")
    for grid, channels, kernel_size in (((2, 3), 4, 1), ((4, 4), 16, 3), ((3, 3), 36, 5)):
        (rows, columns), patches = grid, math.prod(grid)
        sizes = {"P": patches, "M": rows, "N": columns, "C": channels, "k": kernel_size}
        sizes |= {"G": 4, "H": 2 * patches}  # the defaults of `groups` and `hidden`
        assert eval(formula, {}, sizes) == count(mixer, grid, channels, kernel_size)
    assert cells_of(mixer, 1) == [f"{count(mixer, (4, 4), 64, 3):,}"]


def test_every_layer_has_its_section() -> None:
    assert re.findall(r"^### `(.*)`$", PAGE, flags=re.M) == list(MIXERS)
    assert all("$$" in section for section in PAGE.split("\n### ")[1:])
