"""Trained models that come with the package, by name.

    trained/NAME/
      config.yml          the run that trained it: data, model and recipe
      model.json          what `create_model` takes
      model.safetensors   the weights
      card.json           what it is: figures, where they are from, licence, digest of the weights

`python -m benchmarks.named_models` makes these folders of run directories.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from mixcoder.errors import RunDirectoryError
from mixcoder.io.json_file import read_json_object
from mixcoder.models.description import DESCRIPTION, read_description
from mixcoder.registry.problems import first_problem
from mixcoder.text.values import format_count

TRAINED = Path(__file__).with_name("trained")
CARD = "card.json"


class ModelCard(BaseModel):
    """A summary of a trained model that has a name.

    Attributes:
        summary: what it is, in one sentence.
        data: name of the data source that it was trained on.
        params: parameters of the model.
        madds: multiply-adds of one image, there and back.
        inputs: images seen in training.
        n: runs of the same settings that differ in their seed.
        validation_loss: mean of these runs, each at its end.
        validation_loss_std: sample standard deviation of these runs; None of a single one.
        own_validation_loss: of the run whose weights these are, with these weights.
        seed: of that run: the first seed of the experiment, whatever its loss.
        weights: the type in which they are stored, float16 where the loss stays the same.
        weights_sha256: of the weights in float32, as codes and ONNX files state it too.
        licence: of the weights.
        command: prints the figures of the runs.
        versions: of what trained it.
        hardware: that trained it.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    summary: str
    data: str
    params: int
    madds: int
    inputs: int
    n: int
    validation_loss: float
    validation_loss_std: float | None
    own_validation_loss: float
    seed: int
    weights: str
    weights_sha256: str
    licence: str
    command: str
    versions: dict[str, str]
    hardware: dict[str, Any]

    def line(self) -> str:
        """Returns the figures in one line."""
        spread = "" if self.validation_loss_std is None else f" ± {self.validation_loss_std:.6f}"
        loss = f"validation loss {self.validation_loss:.6f}{spread} (n = {self.n})"
        return f"{format_count(self.params)} parameters, {loss}, trained on {self.data}, {self.licence}"


def trained_names() -> list[str]:
    """Returns the names of all trained models."""
    return sorted(path.parent.name for path in TRAINED.glob(f"*/{DESCRIPTION}"))


def is_trained_name(name: object) -> bool:
    """Returns whether there is a trained model of this name."""
    return isinstance(name, str) and name in trained_names()


def trained_folder(name: str) -> Path:
    """Returns the folder of a trained model, which can be read as that of a finished run."""
    return TRAINED / name


def is_trained_folder(folder: Path) -> bool:
    """Returns whether a folder is that of a trained model of the package."""
    return folder.parent == TRAINED


def trained_description(name: str) -> tuple[str, dict[str, Any]]:
    """Returns kind and arguments of the model of a name, from which `create_model` builds one like it."""
    description = read_description(trained_folder(name) / DESCRIPTION)
    return description.type, description.call_arguments()


def read_card(path: Path) -> ModelCard:
    """Returns the card in a file.

    Raises:
        RunDirectoryError: the file is missing or damaged.
    """
    try:
        return ModelCard.model_validate(read_json_object(path))
    except ValidationError as error:
        raise RunDirectoryError(f"{path}: {first_problem(error, ModelCard)}") from error
