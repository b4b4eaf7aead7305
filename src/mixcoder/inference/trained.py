"""A trained model, and the images for it: places, or images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor, nn

from mixcoder.data import DataSource
from mixcoder.data.rows import KINDS, is_data_set, is_image, is_row, read_rows, rows_of, warn_of_conversion
from mixcoder.data.split import ImageData, ImageSplit, to_float
from mixcoder.errors import ArgumentError, MixcoderError, describe_type
from mixcoder.experiments.runs.run_directory import Weights, find_run, load
from mixcoder.inference.image_stream import ImageStream, Place
from mixcoder.models.autoencoder import Autoencoder, as_autoencoder, device_and_dtype
from mixcoder.pixels.shape import ImageShape
from mixcoder.registry.signatures import check_path

_RUN = "the folder of a finished run, the name of a trained model, or a model"
_PLACES = "files, folders or data sources such as 'digits'"


def open_model(run: str | Path | nn.Module, weights: Weights = "final") -> Autoencoder:
    """Returns the model of a run; a given model as it is, without the wrapper of `torch.compile`.

    Args:
        run: the folder of a run, the name of a trained model, or a model.
        weights: of a run: those of its end, or those of its smallest validation loss.

    Raises:
        ArgumentError: `run` is neither a path nor a model, or a model, which has no other weights.
        RunDirectoryError: there is no trained model, or it is damaged.
    """
    if not isinstance(run, nn.Module):
        return load(check_path("run", run, _RUN), weights)
    if weights != "final":
        raise ArgumentError("weights", "are those of a run; a model has its own alone")
    return as_autoencoder(run)


def open_images(
    run: str | Path | nn.Module, model: Autoencoder, images: Iterable[object], fit: bool
) -> ImageStream:
    """Returns the given images for `model`; the data source of its run has the run's arguments.

    Raises:
        ArgumentError: one of `images` is no place and no image, or there is none.
        DataError: a place does not exist, or holds no image.
    """
    converted: list[str] = []
    opened = [_opened(one, model.image_shape, converted) for given in images for one in _elements(given)]
    if not opened:
        raise ArgumentError("images", f"name at least one: {_PLACES}")
    if converted:
        warn_of_conversion("images", converted[0], stacklevel=4)
    return ImageStream(opened, model.image_shape, fit, _own_source(run))


def as_model_input(images: Tensor, model: nn.Module) -> Tensor:
    """Returns images (B, C, H, W) uint8 as a model takes them: in [0, 1], of its type, on its device."""
    device, dtype = device_and_dtype(model)
    return to_float(images.to(device)).to(dtype)


def _elements(given: object) -> Iterable[object]:
    """Returns the elements of a list, and the rows of a data set; of anything else the thing itself."""
    if isinstance(given, list | tuple | Iterator) and not is_row(given):
        return given
    return rows_of(given) if is_data_set(given) else [given]


def _opened(given: object, shape: ImageShape, converted: list[str]) -> Place | Tensor:
    """Returns a place, or images (N, c, h, w) uint8 that are in memory; notes what was converted to uint8.

    Raises:
        ArgumentError: it is neither; says what it must be.
    """
    if isinstance(given, str | os.PathLike):
        path = check_path("images", given, _PLACES)
        return given if isinstance(given, str) else path
    if isinstance(given, ImageData | ImageSplit):
        return (given.validation if isinstance(given, ImageData) else given).images
    if not (is_image(given) or is_row(given)):
        raise ArgumentError("images", f"must be {_PLACES}, or {KINDS}, got {describe_type(given)}")
    rows = read_rows(given if is_image(given) else [given], "images", shape)
    if rows.converted:
        converted.append(rows.converted)
    return rows.images


def _own_source(run: str | Path | nn.Module) -> dict[str, DataSource]:
    """Returns the data source that a run was trained on, by its name; nothing where it is not known."""
    if isinstance(run, nn.Module):
        return {}
    try:
        stated = find_run(Path(run)).read_run()
    except MixcoderError:  # the model is there all the same
        return {}
    return {stated.data[0]: stated.create_source()}
