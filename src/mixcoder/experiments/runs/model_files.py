"""A trained model as two files that hold no code.

    model.json          {format, type, arguments, weights}: what `create_model` takes, the type of the weights
    model.safetensors   {<name>: weights float32 or float16}

    model.json ─▶ the model on the meta device ─▶ are these the shapes in model.safetensors? ─▶ Autoencoder

Both may come from a stranger: names are those of a closed vocabulary, nothing is executed, and memory is
allocated only for tensors that the files hold. Where a card stands beside them, as in models that come with
the package, the weights must be those that the card states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixcoder.device import factory_defaults
from mixcoder.errors import ArgumentError, RunDirectoryError
from mixcoder.experiments.runs.unknown_names import unknown_name
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.safetensors_file import read_tensors, write_tensors
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.description import (
    DESCRIPTION,
    MODEL_FORMAT,
    ModelDescription,
    WeightsType,
    read_description,
)
from mixcoder.models.dispatch import without_elements
from mixcoder.models.named import CARD, ModelCard, read_card

WEIGHTS = "model.safetensors"
_TYPES: dict[WeightsType, torch.dtype] = {"float32": torch.float32, "float16": torch.float16}


def save_model(
    folder: Path, model: Autoencoder, name: str, arguments: dict[str, Any], weights: WeightsType = "float32"
) -> None:
    """Writes the two files of a model that `create_model(name, **arguments)` builds.

    Args:
        folder: to write to.
        model: in float32.
        name: of the kind of model.
        arguments: of `create_model`.
        weights: the type to write them in.

    Raises:
        WriteError: a file cannot be written.
    """
    description = {
        "format": MODEL_FORMAT,
        "type": name,
        "arguments": {"image_shape": list(model.image_shape), **arguments},
        **({} if weights == "float32" else {"weights": weights}),
    }
    write_tensors(folder / WEIGHTS, _cast(model.state_dict(), torch.float32, _TYPES[weights]), {})
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
    description = read_description(folder / DESCRIPTION)
    stored = torch.float32 if weights else _TYPES[description.weights]
    with factory_defaults():
        with without_elements():
            expected = _cast(_build(folder / DESCRIPTION, description).state_dict(), torch.float32, stored)
        tensors = read_tensors(path, expected, "are not this model's weights")
        model = _build(folder / DESCRIPTION, description)
        model.load_state_dict(_cast(tensors, stored, torch.float32))
    if weights is None and (folder / CARD).exists():
        _check_digest(path, model, read_card(folder / CARD))
    return model.eval()


def _cast(tensors: Mapping[str, Tensor], source: torch.dtype, target: torch.dtype) -> dict[str, Tensor]:
    """Returns tensors, those of the type `source` as `target`."""
    return {name: tensor.to(target) if tensor.dtype == source else tensor for name, tensor in tensors.items()}


def _check_digest(path: Path, model: Autoencoder, card: ModelCard) -> None:
    """Checks that a model has the weights that its card states.

    Raises:
        RunDirectoryError: it has others.
    """
    if hash_weights(model) != card.weights_sha256:
        raise RunDirectoryError(f"{path}: are not the weights that {CARD} states; install Mixcoder again")


def _build(path: Path, description: ModelDescription) -> Autoencoder:
    try:
        return create_model(description.type, **description.call_arguments())
    except (ArgumentError, TypeError) as error:  # the latter of an argument without a name
        unknown = unknown_name({"type": description.type, **description.arguments})
        raise RunDirectoryError(f"{path}: {unknown or error}") from error
