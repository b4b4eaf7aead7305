"""A model of a Python program as files that every command and `mixcoder.load` know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixcoder.data.own_images import images
from mixcoder.data.split import ImageData
from mixcoder.errors import ArgumentError, WriteError, system_reason
from mixcoder.experiments.file.data_paths import Choice
from mixcoder.experiments.runs.model_files import save_model
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_result import describe_circumstances, measure_model
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.autoencoder import as_autoencoder, device_and_dtype
from mixcoder.models.dispatch import without_elements
from mixcoder.registry.signatures import check_path
from mixcoder.training.evaluation import validation_loss


def save(model: nn.Module, folder: str | Path, data: Any = None) -> None:
    """Writes a model to a folder, from which `mixcoder.load` and every command takes it.

    With data, its losses on the validation images are measured and written too: the folder is then a row of a
    table, which does not say how the model was trained.

    Args:
        model: made by `create_model`, in float32.
        folder: to write to; made where it is missing.
        data: as `load_data` or `images` gives it, or what `images` takes, such as an array.

    Raises:
        ArgumentError: the model was not made by `create_model`, or has been changed since; or the data do not
            fit it.
        WriteError: a file cannot be written.
    """
    inner, path = as_autoencoder(model), check_path("folder", folder, "a folder to write to")
    choice = describe_model(inner)
    measured = {} if data is None else _measured(inner, data if isinstance(data, ImageData) else images(data))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {system_reason(error)}") from error
    save_model(path, inner, *choice)
    if measured:
        place = {"name": path.absolute().parent.name, "run": path.name, "model": choice[0]}
        RunDirectory(path).write_result({**place, **measured})


def describe_model(model: Autoencoder) -> Choice:
    """Returns the kind of a model and its arguments, without the shape of the images.

    Raises:
        ArgumentError: `create_model` did not make it, or it has other weights than that made.
    """
    if model.made_as is None:
        hint = "register its class with mixcoder.register_model, and make it by its name"
        raise ArgumentError("model", f"was not made by create_model, so nothing could load it again; {hint}")
    name, arguments = model.made_as
    with without_elements():
        made = _shapes(create_model(name, **arguments))
    if _shapes(model) != made:
        raise ArgumentError("model", "has other weights than create_model makes; it was changed since")
    return name, {key: value for key, value in arguments.items() if key != "image_shape"}


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def _measured(model: Autoencoder, data: ImageData) -> dict[str, Any]:
    """Returns the result of a model that was trained somehow.

    Raises:
        ArgumentError: it takes images of another shape.
    """
    if data.image_shape != model.image_shape:
        found = f"the model takes {model.image_shape}, {data.name} has {data.image_shape}"
        raise ArgumentError("image_shape", found)
    device, _ = device_and_dtype(model)
    moved = data.to(device)
    loss = validation_loss(model, moved.validation, "mse")
    return {
        "data": data.name,
        "validation_loss": loss,
        "best_validation_loss": loss,
        **measure_model(model, moved, "mse"),
        **describe_circumstances(moved, data.content_hash()),
    }
