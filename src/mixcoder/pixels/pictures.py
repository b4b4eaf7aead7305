"""Pictures of what a model does to images."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mixcoder.errors import ArgumentError
from mixcoder.io.atomic_file import write_atomically

COLUMNS = 8
LARGEST_SCALE = 64
_GAP = 2
_ROW_GAP = 10
_WHITE = 255
_FRAME_MILLISECONDS = 100
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}


def stacked_grid(rows: Sequence[Tensor], scale: int | None = None) -> Image.Image:
    """Returns a picture of images, each above other forms of it, eight a row.

    Args:
        rows: the images (N, C, H, W) float in [0, 1], and each other form of them likewise.
        scale: pixels of the picture for each pixel of an image; by default what makes an image about 64
            pixels high.
    """
    _, _, height, width = rows[0].shape
    scale = scale or _readable_scale(height)
    columns = min(COLUMNS, len(rows[0]))
    step = height * scale + _GAP
    stack_height = len(rows) * step - _GAP + _ROW_GAP
    stacks = -(-len(rows[0]) // columns)
    size = (columns * (width * scale + _GAP) + _GAP, stacks * stack_height - _ROW_GAP + 2 * _GAP)
    grid = Image.new("RGB", size, (_WHITE, _WHITE, _WHITE))
    for place, images in enumerate(rows):
        for i, image in enumerate(_to_bytes(images)):
            left = _GAP + i % columns * (width * scale + _GAP)
            top = _GAP + i // columns * stack_height + place * step
            grid.paste(_picture(image, scale), (left, top))
    return grid


def picture_grid(images: Tensor, scale: int | None = None) -> Image.Image:
    """Returns a picture of images, eight a row.

    Args:
        images: (N, C, H, W) float in [0, 1]; N at least 1.
        scale: pixels of the picture for each pixel of an image; by default what makes an image about 64
            pixels high.
    """
    return _grid(images, scale, COLUMNS)


def picture_row(images: Tensor, scale: int | None = None) -> Image.Image:
    """Returns a picture of images side by side; arguments as for `picture_grid`."""
    return _grid(images, scale, len(images))


def _grid(images: Tensor, scale: int | None, columns: int) -> Image.Image:
    height, width = images.shape[2:]
    scale = scale or _readable_scale(height)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    step_x, step_y = width * scale + _GAP, height * scale + _GAP
    grid = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), (_WHITE, _WHITE, _WHITE))
    for i, image in enumerate(_to_bytes(images)):
        row, column = divmod(i, columns)
        grid.paste(_picture(image, scale), (_GAP + column * step_x, _GAP + row * step_y))
    return grid


def to_picture(image: Tensor, scale: int = 1) -> Image.Image:
    """Returns one image (C, H, W), float and clipped to [0, 1], as a picture."""
    return _picture(_to_bytes(image[None].clamp(0, 1))[0], scale)


def save_animation(images: Tensor, path: Path, scale: int | None = None) -> None:
    """Writes images as a GIF that plays them there and back, over and over, whole or not at all.

    Args:
        images: (N, C, H, W) float in [0, 1]; at least two.
        path: what to write.
        scale: pixels of the picture for each pixel of an image; by default what makes an image about 64
            pixels high.

    Raises:
        WriteError: it cannot be written.
    """
    scale = scale or _readable_scale(images.shape[2])
    there = [to_picture(image, scale) for image in images]
    first, *others = [*there, *there[-2:0:-1]]
    content = BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=_FRAME_MILLISECONDS, loop=0)
    write_atomically(path, content.getvalue())


def tile(images: Tensor) -> Image.Image:
    """Returns a picture of rows of images, in their own size, with nothing between them that would show.

    Args:
        images: (R, K, C, H, W) float in [0, 1]; R rows of K.
    """
    rows, columns, _, height, width = images.shape
    gap = max(1, min(height, width) // 14)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    for i, image in enumerate(_to_bytes(images.flatten(0, 1))):
        row, column = divmod(i, columns)
        picture.paste(_picture(image, 1), (column * (width + gap), row * (height + gap)))
    return picture


def save_picture(picture: Image.Image, path: Path) -> None:
    """Writes a picture in the format that the name's ending asks for, whole or not at all.

    Raises:
        ArgumentError: the ending is of no picture format, or the file cannot be written.
    """
    picture_format = _FORMATS.get(path.suffix.lower())
    if picture_format is None:
        raise ArgumentError("output", f"'{path}' does not end in a picture format such as .png or .jpg")
    content = BytesIO()
    try:
        picture.save(content, picture_format)
    except (OSError, ValueError) as error:
        raise ArgumentError("output", f"this picture cannot be a {picture_format} ({error})") from error
    write_atomically(path, content.getvalue())


def _readable_scale(height: int) -> int:
    """Returns picture pixels for each pixel of an image, so that it is about 64 high."""
    return max(1, round(64 / height))


def _to_bytes(images: Tensor) -> Tensor:
    """Returns (N, C, H, W) float in [0, 1] as (N, H, W, 3) uint8 on the CPU.

    Images of other than three channels are shown grey, as the mean of them; what is no number is black.
    """
    rgb = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return (rgb.nan_to_num(0) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def _picture(image: Tensor, scale: int) -> Image.Image:
    picture = Image.fromarray(image.numpy())
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
