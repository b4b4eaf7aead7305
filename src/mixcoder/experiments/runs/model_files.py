"""A trained model as two files that hold no code.

    model.json          {format, type, arguments}: what `create_model` takes
    model.safetensors   {<name>: weights float32}

    model.json ─▶ the model on the meta device ─▶ are these the shapes in model.safetensors? ─▶ Autoencoder

Both may come from a stranger: names are those of a closed vocabulary, nothing is executed, and memory is
allocated only for tensors that the files hold.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from mixcoder.device import factory_defaults
from mixcoder.errors import ArgumentError, RunDirectoryError
from mixcoder.experiments.runs.unknown_names import unknown_name
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.json_file import read_json_object
from mixcoder.io.safetensors_file import read_tensors, write_tensors
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.dispatch import without_elements
from mixcoder.registry.problems import first_problem
from mixcoder.text.sanitize import sanitize

MODEL_FORMAT = 1
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"


def save_model(folder: Path, model: Autoencoder, name: str, arguments: dict[str, Any]) -> None:
    """Writes the two files of a model that `create_model(name, **arguments)` builds.

    Raises:
        WriteError: a file cannot be written.
    """
    description = {
        "format": MODEL_FORMAT,
        "type": name,
        "arguments": {"image_shape": list(model.image_shape), **arguments},
    }
    write_tensors(folder / WEIGHTS, model.state_dict(), {})
    write_atomically(folder / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())


def hash_weights(model: Autoencoder) -> str:
    """Returns the SHA-256 (hex) of a model's weights, which identifies the model."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        values = value.detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()


def load_model(folder: Path, weights: Path | None = None) -> Autoencoder:
    """Returns the model of two files in float32, on the CPU and in evaluation mode.

    Args:
        folder: the folder of both files.
        weights: the file of other weights of the same model.

    Raises:
        RunDirectoryError: a file is missing or damaged, they do not belong together, or the model is of a
            kind that is not registered here.
    """
    path = weights or folder / WEIGHTS
    description = _read_description(folder / DESCRIPTION)
    with factory_defaults():
        with without_elements():
            expected = _build(folder / DESCRIPTION, description).state_dict()
        tensors = read_tensors(path, expected, "are not this model's weights")
        model = _build(folder / DESCRIPTION, description)
        model.load_state_dict(tensors)
    return model.eval()


class _Description(BaseModel):
    """A schema of model.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int
    type: str
    arguments: dict[str, Any]


def _read_description(path: Path) -> _Description:
    content = read_json_object(path)
    if content.get("format", MODEL_FORMAT) != MODEL_FORMAT:
        raise RunDirectoryError(f"{path}: format {sanitize(str(content['format']))} is not known here")
    try:
        return _Description.model_validate(content)
    except ValidationError as error:
        reason = first_problem(error, _Description)
        raise RunDirectoryError(f"{path}: does not describe a model: {reason}") from error


def _build(path: Path, description: _Description) -> Autoencoder:
    try:
        arguments = dict(description.arguments)
        if isinstance(arguments.get("image_shape"), list):  # JSON has no tuples, which runs give
            arguments["image_shape"] = tuple(arguments["image_shape"])
        return create_model(description.type, **arguments)
    except (ArgumentError, TypeError) as error:  # the latter of an argument without a name
        unknown = unknown_name({"type": description.type, **description.arguments})
        raise RunDirectoryError(f"{path}: {unknown or error}") from error
