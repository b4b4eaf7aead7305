"""Draws docs/images/mixing-NAME.svg: the input elements that one output element depends on, and its weights.

    layer with small whole weights ─▶ its steps ─▶ derivatives of two elements ─▶ two panels a step ─▶ SVG

Whole weights make whole derivatives, so that the pictures are the same to the byte wherever they are drawn.
The SVG is written as text: a plotting library needs ten times as many bytes for so many squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from mixcoder.models import MIXERS, KroneckerMixing, MixingLayer, TokenMlpMixing
from mixcoder.models.mixing import Residual, create_mixing_layer

LAYERS = tuple(MIXERS)
IMAGES = Path(__file__).parents[1] / "docs" / "images"
GRID = (5, 5)
SIDE = 4
"""Rows and columns of the square as which the channels of a patch are drawn."""
KERNEL = 3

Place = tuple[int, int]
"""(patch, channel) of an output (P, C)."""
Step = Callable[[Tensor], Tensor]
"""(B, P, C) → (B, P, C), linear."""

FIRST: Place = (12, 5)
SECONDS: dict[str, Place] = {
    "another element": (12, 10),
    "another patch": (18, 5),
    "another channel of its group": (12, 6),
    "another patch of its row": (13, 5),
    "another patch of its column": (17, 5),
}
"""All far enough from the edges that a kernel has its full size."""

_LARGEST = 4
_CELL, _GAP, _HEAD, _BETWEEN = 9, 5, 26, 34
_PATCH = SIDE * _CELL + _GAP
_PANEL = GRID[0] * _PATCH
_TEXT, _MARK, _UNUSED = "#808080", "#12a150", "#808080"
_POSITIVE, _NEGATIVE = "#e8590c", "#1c7ed6"


def create_layer(mixer: str) -> MixingLayer:
    """A layer whose weights are whole numbers from -4 to 4, but not 0, as no training leaves them."""
    layer = create_mixing_layer(mixer, GRID, SIDE**2, KERNEL, Residual("none"))
    random = Random(mixer)
    values = [value for value in range(-_LARGEST, _LARGEST + 1) if value]
    with torch.no_grad():
        for parameter in layer.parameters():
            chosen = random.choices(values, k=parameter.numel())
            parameter.copy_(torch.tensor(chosen).view(parameter.shape))
    return layer


def steps_of(layer: MixingLayer) -> list[Step]:
    """What the layer does one after the other, where it does several things."""
    if isinstance(layer, KroneckerMixing):
        return _along_axes(layer)
    if isinstance(layer, TokenMlpMixing):
        return [layer.mix]
    modules = [module for module in layer.children() if any(True for _ in module.parameters())]
    return list(modules) if len(modules) > 1 else [layer.mix]


def _along_axes(layer: KroneckerMixing) -> list[Step]:
    """Returns the mixing along the columns of the grid, and that along its rows."""

    def along_columns(x: Tensor) -> Tensor:
        field = x.reshape(len(x), *GRID, SIDE**2)  # (B, rows, columns, C)
        return torch.einsum("crs,bsjc->brjc", layer.rows, field).reshape(x.shape)

    def along_rows(x: Tensor) -> Tensor:
        field = x.reshape(len(x), *GRID, SIDE**2)
        mixed = torch.einsum("cij,brjc->bric", layer.columns, field).reshape(x.shape)
        return mixed if layer.bias is None else mixed + layer.bias

    return [along_columns, along_rows]


def derivative_of(step: Step, place: Place) -> Tensor:
    """Returns the derivative (P, C) of one output element by all input elements."""
    x = torch.zeros(1, math.prod(GRID), SIDE**2, requires_grad=True)
    [derivative] = torch.autograd.grad(step(x)[0][place], x)
    return derivative[0]


def sharing(step: Step) -> tuple[str, Place]:
    """Returns a caption for an output element with the same weights as the first, and its place."""
    weights = _weights(derivative_of(step, FIRST))
    for who, place in SECONDS.items():
        if _weights(derivative_of(step, place)) == weights:
            return f"{who}: the same weights", place
    return "another element: weights of its own", SECONDS["another patch"]


def draw(mixer: str) -> str:
    """The picture as SVG, for light and dark pages."""
    steps = steps_of(create_layer(mixer))
    width, height = 2 * _PANEL + _BETWEEN, len(steps) * (_PANEL + _HEAD)
    rows = [_row(step, i * (_PANEL + _HEAD), _opening(i, len(steps))) for i, step in enumerate(steps)]
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="sans-serif" font-size="10.5" fill="{_TEXT}">'
    )
    return "\n".join([opening, *rows, "</svg>"]) + "\n"


def _weights(derivative: Tensor) -> list[float]:
    """Those that are not 0, in the order of patches and channels."""
    values: list[float] = derivative[derivative != 0].tolist()
    return values


def _opening(i: int, count: int) -> str:
    return "" if count == 1 else f"step {i + 1}: "


def _row(step: Step, top: int, opening: str) -> str:
    caption, second = sharing(step)
    left = _panel(step, FIRST, f"{opening}one element depends on")
    right = _panel(step, second, caption)
    shift = _PANEL + _BETWEEN
    return (
        f'<g transform="translate(0 {top})">\n{left}\n<g transform="translate({shift})">\n{right}\n</g>\n</g>'
    )


def _panel(step: Step, place: Place, caption: str) -> str:
    """Returns all input elements, coloured by their weight, and a frame around the output element."""
    derivative = derivative_of(step, place)
    squares: dict[int, list[str]] = {}
    for patch in range(len(derivative)):
        for channel in range(SIDE**2):
            x, y = _corner((patch, channel))
            path = f"M{x} {y}h{_CELL - 1}v{_CELL - 1}h-{_CELL - 1}z"
            squares.setdefault(int(derivative[patch, channel]), []).append(path)
    largest = max(_LARGEST, *map(abs, squares))
    paths = [f'<path {_look(weight, largest)} d="{"".join(squares[weight])}"/>' for weight in sorted(squares)]
    x, y = _corner(place)
    frame = (
        f'<rect x="{x - 1}" y="{y - 1}" width="{_CELL + 1}" height="{_CELL + 1}" fill="none" '
        f'stroke="{_MARK}" stroke-width="2"/>'
    )
    return "\n".join([f'<text x="1" y="14">{caption}</text>', *paths, frame])


def _corner(place: Place) -> tuple[int, int]:
    """Returns x and y of an element's square within its panel."""
    (patch_row, patch_column), (row, column) = divmod(place[0], GRID[1]), divmod(place[1], SIDE)
    return patch_column * _PATCH + column * _CELL + 1, patch_row * _PATCH + row * _CELL + _HEAD - 4


def _look(weight: int, largest: int) -> str:
    if weight == 0:
        return f'fill="{_UNUSED}" fill-opacity=".16"'
    colour = _POSITIVE if weight > 0 else _NEGATIVE
    return f'fill="{colour}" fill-opacity="{0.28 + 0.72 * (abs(weight) - 1) / (largest - 1):.2f}"'


if __name__ == "__main__":
    for name in LAYERS:
        path = IMAGES / f"mixing-{name}.svg"
        path.write_text(draw(name), encoding="utf-8")
        print(path)
