"""A trained model, and the images for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor, nn

from mixcoder.data import DataSource
from mixcoder.data.split import to_float
from mixcoder.errors import ArgumentError, MixcoderError, describe_type
from mixcoder.experiments.runs.run_directory import find_run, load
from mixcoder.inference.image_stream import ImageStream, Place
from mixcoder.models.autoencoder import Autoencoder, as_autoencoder, device_and_dtype
from mixcoder.registry.signatures import check_path

_RUN = "the folder of a finished run, the name of a trained model, or a model"
_PLACES = "files, folders or data sources such as 'digits'"


def open_model(run: str | Path | nn.Module) -> Autoencoder:
    """Returns the model of a run; a given model as it is, without the wrapper of `torch.compile`.

    Raises:
        ArgumentError: `run` is neither a path nor a model.
        RunDirectoryError: there is no trained model, or it is damaged.
    """
    return as_autoencoder(run) if isinstance(run, nn.Module) else load(check_path("run", run, _RUN))


def open_images(
    run: str | Path | nn.Module, model: Autoencoder, images: Iterable[object], fit: bool
) -> ImageStream:
    """Returns the images at some places for `model`; the data source of its run has the run's arguments.

    Raises:
        ArgumentError: one of `images` is no place, or there is none.
        DataError: a place does not exist, or holds no image.
    """
    places = [place for given in images for place in _places(given, model)]
    if not places:
        raise ArgumentError("images", f"name at least one: {_PLACES}")
    return ImageStream(places, model.image_shape, fit, _own_source(run))


def as_model_input(images: Tensor, model: nn.Module) -> Tensor:
    """Returns images (B, C, H, W) uint8 as a model takes them: in [0, 1], of its type, on its device."""
    device, dtype = device_and_dtype(model)
    return to_float(images.to(device)).to(dtype)


def _places(given: object, model: Autoencoder) -> Iterator[Place]:
    """Yields the places that an argument names: the argument itself, or the elements of a list."""
    for place in given if isinstance(given, list | tuple | Iterator) else [given]:
        if not isinstance(place, str | os.PathLike):
            shape = ", ".join(map(str, model.image_shape))
            raise ArgumentError(
                "images",
                f"must be {_PLACES}, got {describe_type(place)}; "
                f"images in memory go to model.encode(images): a tensor (B, {shape}) in [0, 1]",
            )
        path = check_path("images", place, _PLACES)
        yield place if isinstance(place, str) else path


def _own_source(run: str | Path | nn.Module) -> dict[str, DataSource]:
    """Returns the data source that a run was trained on, by its name; nothing where it is not known."""
    if isinstance(run, nn.Module):
        return {}
    try:
        stated = find_run(Path(run)).read_run()
    except MixcoderError:  # the model is there all the same
        return {}
    return {stated.data[0]: stated.create_source()}
