"""Arrays of images, however their axes and values are laid out, as (N, C, H, W) uint8.

    array ─▶ axes: (N, C, H, W), (N, H, W, C), (N, H, W), one image ─▶ values: uint8, bool, float in [0, 1]

An array that can be read in two ways is refused: nothing here is guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mixcoder.errors import ArgumentError, describe_type
from mixcoder.pixels.shape import ImageShape

_AXES = {
    4: ("N, C, H, W", "N, H, W, C"),
    3: ("N, H, W", "C, H, W", "H, W, C"),
    2: ("H, W",),
}
"""The ways to read an array, by how many axes it has."""
_ANY_CHANNELS = "mixcoder.ImageSplit(images) takes (N, C, H, W) uint8 of any number of channels"


def to_images(array: Tensor, argument: str, shape: ImageShape | None = None) -> Tensor:
    """Returns an array of images as (N, C, H, W) uint8.

    Args:
        array: uint8, bool, or float in [0, 1]; (N, H, W), (N, H, W, C) or (N, C, H, W).
        argument: its name, for messages.
        shape: (C, H, W) of the images where it is known; then one image alone is taken, too.

    Raises:
        ArgumentError: it holds something else, or can be read in two ways.
    """
    arranged = _arranged(array.detach(), argument, shape)
    if not arranged.numel():
        raise ArgumentError(argument, f"holds no pixels: its shape is {tuple(array.shape)}")
    return _to_bytes(arranged, argument)


def image_shape_of(sizes: Sequence[int], argument: str) -> ImageShape:
    """Returns the shape (C, H, W) of the images in an array of this shape.

    Raises:
        ArgumentError: there can be no images in it, or it can be read in two ways.
    """
    _, channels, height, width = _arranged(torch.empty(*sizes, device="meta"), argument, None).shape
    return channels, height, width


def was_converted(array: Tensor) -> bool:
    """Returns whether `to_images` changes the values of an array."""
    return array.dtype != torch.uint8


def _arranged(array: Tensor, argument: str, shape: ImageShape | None) -> Tensor:
    """Returns an array as (N, C, H, W), its values as they are."""
    channels = {1, 3} if shape is None else {1, 3, shape[0]}
    readings = {axes: _read_as(axes, array) for axes in _AXES.get(array.ndim, ())}
    readings = {axes: images for axes, images in readings.items() if images.shape[1] in channels}
    if shape is not None:
        fitting = {axes: images for axes, images in readings.items() if images.shape[1:] == shape}
        readings = fitting or readings
    different = {(tuple(images.shape), images.stride()): axes for axes, images in readings.items()}
    if len(different) == 1 and (shape is not None or "N" in next(iter(readings))):
        return next(iter(readings.values()))
    raise ArgumentError(argument, _describe_axes(array, list(readings)))


def _read_as(axes: str, array: Tensor) -> Tensor:
    """Returns an array whose axes are known as (N, C, H, W)."""
    match axes:
        case "N, H, W, C":
            return array.permute(0, 3, 1, 2)  # (N, C, H, W)
        case "N, H, W":
            return array[:, None]  # (N, 1, H, W)
        case "C, H, W":
            return array[None]  # (1, C, H, W)
        case "H, W, C":
            return array.permute(2, 0, 1)[None]  # (1, C, H, W)
        case "H, W":
            return array[None, None]  # (1, 1, H, W)
    return array  # (N, C, H, W)


def _describe_axes(array: Tensor, readings: list[str]) -> str:
    """Returns why the axes of an array are not known, and what would make them known."""
    shape = tuple(array.shape)
    if len(readings) > 1 and array.ndim == 4:
        return f"its shape {shape} can be {_either(readings)}; {_ANY_CHANNELS}"
    if len(readings) > 1:
        hints = "images[None] is one image in colour, images[:, None] are grey ones"
        return f"its shape {shape} can be {_either(readings)}; {hints}"
    if readings:
        return f"its shape {shape} is that of one image; images[None] makes one of many of it"
    return (
        f"must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels C, got {shape}; "
        f"{_ANY_CHANNELS}"
    )


def _either(readings: list[str]) -> str:
    return " or ".join(f"({axes})" for axes in readings)


def _to_bytes(images: Tensor, argument: str) -> Tensor:
    """Returns images of any known values as uint8 in 0 … 255."""
    if images.dtype == torch.uint8:
        return images.contiguous()
    if images.dtype == torch.bool:
        return images.to(torch.uint8) * 255
    if not images.is_floating_point():
        kind = describe_type(images)
        hint = "bring them to 0 … 255, then make them uint8"
        raise ArgumentError(argument, f"must be uint8, bool, or float in [0, 1], got {kind}; {hint}")
    lowest, highest = (value.item() for value in images.aminmax())
    if not (lowest >= 0 and highest <= 1):
        raise ArgumentError(argument, _describe_range(lowest, highest))
    return (images.float() * 255).round().to(torch.uint8)


def _describe_range(lowest: float, highest: float) -> str:
    """Returns what is wrong with floats that do not lie in [0, 1], and what they may be."""
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        return "has values that are not finite"
    found = f"floats must lie in [0, 1], these lie in [{lowest:.4g}, {highest:.4g}]"
    if lowest >= 0 and highest <= 255:
        return f"{found}; of 0 … 255, images / 255 is right"
    if lowest >= -1 and highest <= 1:
        return f"{found}; of -1 … 1, (images + 1) / 2 is right"
    return f"{found}; undo a normalisation by mean and deviation first"
