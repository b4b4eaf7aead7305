"""A trained model as two files that hold no code.

    model.json          {format, type, arguments}: what `create_model` takes
    model.safetensors   {<name>: weights float32}

    model.json ─▶ the model without its numbers ─▶ are these the shapes in model.safetensors? ─▶ Autoencoder

Both may come from a stranger. Names are those of a closed vocabulary, nothing is executed, and no memory is
taken for a number that the files do not hold.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from mixcoder.atomic_file import write_atomically
from mixcoder.errors import ArgumentError, RunDirectoryError, first_line, shown
from mixcoder.json_file import check_plain_file, read_json_object
from mixcoder.models import Autoencoder, create_model
from mixcoder.problems import problems_of

MODEL_FORMAT = 1
DESCRIPTION, WEIGHTS = "model.json", "model.safetensors"
_FLOAT32 = "F32"


def save_model(folder: Path, model: Autoencoder, name: str, arguments: dict[str, Any]) -> None:
    """Writes the two files of a model that `create_model(name, **arguments)` builds.

    Raises:
        WriteError: they cannot be written.
    """
    description = {
        "format": MODEL_FORMAT,
        "type": name,
        "arguments": {"image_shape": list(model.image_shape), **arguments},
    }
    write_atomically(folder / WEIGHTS, weights_as_bytes(model))
    write_atomically(folder / DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())


def weights_as_bytes(model: Autoencoder, metadata: dict[str, str] | None = None) -> bytes:
    """A model's weights as safetensors."""
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    return save_tensors(weights, metadata)


def weights_hash(model: Autoencoder) -> str:
    """SHA-256 (hex) of a model's weights: which model this is."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_model(folder: Path, weights: Path | None = None) -> Autoencoder:
    """The model of two files, on the CPU and in evaluation mode.

    Args:
        folder: holds both files.
        weights: other weights of the same model, in place of those.

    Raises:
        RunDirectoryError: a file is missing or damaged, they do not belong together, or the model is of a
            kind that is not registered here.
    """
    path = weights or folder / WEIGHTS
    description = _read_description(folder / DESCRIPTION)
    with torch.device("meta"):
        expected = _build(folder / DESCRIPTION, description).state_dict()
    try:
        check_plain_file(path)
        with safe_open(path, framework="pt") as file:
            _check_weights(path, file, expected)
            tensors = {name: file.get_tensor(name) for name in expected}
    except (OSError, SafetensorError, MemoryError) as error:
        raise RunDirectoryError(f"{path}: are not this model's weights ({first_line(error)})") from error
    model = _build(folder / DESCRIPTION, description)
    model.load_state_dict(tensors)
    return model.eval()


class _Description(BaseModel):
    """What model.json holds."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int
    type: str
    arguments: dict[str, Any]


def _read_description(path: Path) -> _Description:
    content = read_json_object(path)
    if content.get("format", MODEL_FORMAT) != MODEL_FORMAT:
        raise RunDirectoryError(f"{path}: format {shown(str(content['format']))} is not known here")
    try:
        return _Description.model_validate(content)
    except ValidationError as error:
        (key, *_), problem = problems_of(error, _Description)[0]
        raise RunDirectoryError(f"{path}: does not describe a model: {key}: {problem}") from error


def _build(path: Path, description: _Description) -> Autoencoder:
    try:
        return create_model(description.type, **description.arguments)
    except (ArgumentError, TypeError) as error:  # the latter of an argument without a name
        raise RunDirectoryError(f"{path}: {error}") from error


def _check_weights(path: Path, file: Any, expected: dict[str, Tensor]) -> None:
    """Refuses weights that are not those of a model with such a state, before any of them is read.

    Raises:
        RunDirectoryError: names the first that is missing, surplus, of another shape or another type.
    """
    found = set(file.keys())
    for name in [*expected, *sorted(found - set(expected))]:
        if name not in found:
            raise RunDirectoryError(f"{path}: are not this model's weights ({name} is missing)")
        if name not in expected:
            raise RunDirectoryError(f"{path}: are not this model's weights (it has no {shown(name)})")
        entry, shape = file.get_slice(name), tuple(expected[name].shape)
        if entry.get_dtype() != _FLOAT32:
            raise RunDirectoryError(f"{path}: {name} is of type {entry.get_dtype()}, not {_FLOAT32}")
        if tuple(entry.get_shape()) != shape:
            raise RunDirectoryError(
                f"{path}: are not this model's weights ({name} is {tuple(entry.get_shape())}, not {shape})"
            )
