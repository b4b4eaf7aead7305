"""Images and labels as Python programs hold them: arrays, pictures, lists, data sets of other libraries.

    array, tensor ──────────────────────────────────────▶ axes and values (layouts) ─┐
    PIL picture ─▶ grey or RGB of 8 bits, on white ──────────────────────────────────┤
    list, data set: one image a row, perhaps with a label ─▶ each as above, stacked ─┴▶ Rows

No library but numpy, torch and Pillow is imported for it: a data set is what has a length and gives rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mixcoder.data.layouts import to_images, was_converted
from mixcoder.errors import ArgumentError, MixcoderWarning, describe_type
from mixcoder.pixels.codec import decode_picture
from mixcoder.pixels.pixel_modes import ImageError
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize

_LABELS = ("label", "labels")
"""Keys of a row under which data sets keep the label of its image."""
KINDS = "a numpy array, a tensor, a PIL image, a list of these, or a data set of another library"


@runtime_checkable
class RowsByNumber(Protocol):
    """What has a length and gives rows by their number: a list, or a data set of torchvision or the hub."""

    def __len__(self) -> int:
        """Returns how many rows there are."""

    def __getitem__(self, row: int, /) -> Any:
        """Returns a row."""


@dataclass(frozen=True)
class Rows:
    """Images and what came with them.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64, where each image had one.
        converted: the type that was converted to uint8, for a message; empty where none was.
    """

    images: Tensor
    labels: Tensor | None = None
    converted: str = ""


def read_rows(given: object, argument: str, shape: ImageShape | None = None) -> Rows:
    """Returns the images that a Python caller gives.

    Args:
        given: arrays, pictures, or rows of them.
        argument: its name, for messages.
        shape: (C, H, W) of the images where it is known; then one image alone is taken, too.

    Raises:
        ArgumentError: it is something else, or the images are of several sizes.
    """
    if isinstance(given, Image.Image):
        return Rows(_picture(given, argument)[None])
    if is_array(given):
        array = as_tensor(given, argument)
        images = to_images(array, argument, shape)
        return Rows(images, converted=str(array.dtype) if was_converted(array) else "")
    if isinstance(given, list | tuple) or is_data_set(given):
        rows = [_row(row, f"{argument}[{i}]", shape) for i, row in enumerate(rows_of(given))]
        return _stacked(rows, argument)
    hint = "; list(…) makes a list of its rows" if isinstance(given, Iterator) else ""
    raise ArgumentError(argument, f"must be {KINDS}, got {describe_type(given)}{hint}")


def read_labels(given: object, argument: str, count: int) -> Tensor:
    """Returns labels as (N,) int64.

    Raises:
        ArgumentError: they are no whole numbers, or not as many as the images.
    """
    wanted = f"must be {count:,} whole numbers, one an image"
    try:
        labels = as_tensor(given if is_array(given) else np.asarray(given), argument)
    except (ValueError, TypeError):
        raise ArgumentError(argument, f"{wanted}, got {describe_type(given)}") from None
    if labels.is_floating_point() or labels.is_complex() or tuple(labels.shape) != (count,):
        raise ArgumentError(argument, f"{wanted}, got {describe_type(labels)}")
    return labels.long()


def is_array(given: object) -> bool:
    """Returns whether a value is a tensor or an array of numpy, or says that it can be one."""
    return isinstance(given, Tensor | np.ndarray) or (
        hasattr(given, "__array__") and not isinstance(given, Image.Image)
    )


def is_image(given: object) -> bool:
    """Returns whether a value is a picture, or an array with the axes of images."""
    return isinstance(given, Image.Image) or (is_array(given) and np.ndim(given) >= 2)  # type: ignore[arg-type]


def is_row(given: object) -> bool:
    """Returns whether a value is a row of a data set: an image and its label, or a dictionary of an image."""
    if isinstance(given, Mapping):
        return any(map(is_image, given.values()))
    if not (isinstance(given, list | tuple) and len(given) == 2):
        return False
    return is_image(given[0]) and _whole(given[1]) is not None


def is_data_set(given: object) -> TypeGuard[RowsByNumber]:
    """Returns whether a value is a data set of another library, whose rows are asked for by number."""
    others = (str, bytes, list, tuple, Mapping, nn.Module)
    return isinstance(given, RowsByNumber) and not (is_array(given) or isinstance(given, others))


def rows_of(data_set: RowsByNumber) -> Iterator[object]:
    """Yields the rows of a data set, or of a list."""
    for number in range(len(data_set)):
        yield data_set[number]


def warn_of_conversion(argument: str, kind: str, stacklevel: int) -> None:
    """Warns the caller so many calls up that values became 256 levels."""
    message = f"{argument}: values of {kind} became whole numbers in 0 … 255, as images are kept"
    warnings.warn(message, MixcoderWarning, stacklevel=stacklevel)


def as_tensor(array: Any, argument: str) -> Tensor:
    """Returns an array as a tensor on the CPU, of its own type.

    Raises:
        ArgumentError: its elements are no numbers that torch knows.
    """
    if isinstance(array, Tensor):
        return array.detach().cpu()
    try:
        return torch.from_numpy(np.require(array, requirements=["C", "W"]))  # a copy of what is read-only
    except TypeError:
        kind = describe_type(np.asarray(array))
        raise ArgumentError(argument, f"must hold numbers, got {kind}") from None


def _row(row: object, where: str, shape: ImageShape | None) -> Rows:
    """Returns the one image of a row of a data set, and its label where it has one."""
    image, label = _image_and_label(row, where)
    if isinstance(image, Image.Image):
        images, converted = _picture(image, where)[None], ""
    elif is_array(image):
        array = as_tensor(image, where)
        images = to_images(array, where, shape or _shape_of_one(array))
        converted = str(array.dtype) if was_converted(array) else ""
    else:
        kinds = "a numpy array, a tensor or a PIL image"
        raise ArgumentError(where, f"must be an image, as {kinds}, got {describe_type(image)}")
    if len(images) != 1:
        raise ArgumentError(where, f"must be one image, got {describe_type(image)}")
    return Rows(images, None if label is None else torch.tensor([label]), converted)


def _shape_of_one(array: Tensor) -> ImageShape | None:
    """Returns the shape (C, H, W) of an array that is one image; None where its axes do not tell."""
    sizes = tuple(array.shape)
    if len(sizes) == 2:
        return (1, *sizes)
    if len(sizes) != 3 or (sizes[0] in (1, 3)) == (sizes[2] in (1, 3)):
        return None
    return (sizes[0], sizes[1], sizes[2]) if sizes[0] in (1, 3) else (sizes[2], sizes[0], sizes[1])


def _image_and_label(row: object, where: str) -> tuple[object, int | None]:
    """Returns the image of a row, and its label where it has one that is a whole number."""
    if isinstance(row, Mapping):
        images = [key for key, value in row.items() if is_image(value)]
        if len(images) != 1:
            found = ", ".join(map(str, images)) or "none"
            raise ArgumentError(where, f"needs one column of images; found {sanitize(found, 200)}")
        labels = (row[key] for key in _LABELS if key in row)
        return row[images[0]], _whole(next(labels, None))
    if isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row):
        return row[0], _whole(row[1]) if len(row) > 1 else None
    return row, None


def _whole(label: Any) -> int | None:
    """Returns a label that is a whole number, of any library; None for anything else."""
    is_number = isinstance(label, int | np.integer) or (is_array(label) and np.ndim(label) == 0)
    return int(label) if is_number and int(label) == label else None


def _picture(picture: Image.Image, where: str) -> Tensor:
    """Returns a picture as (C, H, W) uint8."""
    try:
        return torch.from_numpy(decode_picture(picture))
    except ImageError as error:
        raise ArgumentError(where, str(error)) from None


def _stacked(rows: Sequence[Rows], argument: str) -> Rows:
    """Returns many rows as one; labels only where all have one.

    Raises:
        ArgumentError: there is none, or they are of several sizes.
    """
    if not rows:
        raise ArgumentError(argument, "holds no images")
    shape = rows[0].images.shape
    for number, row in enumerate(rows):
        if row.images.shape != shape:
            found, first = (" x ".join(map(str, sizes[1:])) for sizes in (row.images.shape, shape))
            raise ArgumentError(
                argument,
                f"image {number} is {found}, the first one {first} (C x H x W); bring all to one size, or "
                "save them as files for the data source folder",
            )
    labels = [row.labels for row in rows if row.labels is not None]
    return Rows(
        torch.cat([row.images for row in rows]),
        torch.cat(labels) if len(labels) == len(rows) else None,
        next((row.converted for row in rows if row.converted), ""),
    )
