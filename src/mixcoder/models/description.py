"""What builds a model, as `model.json` states it: {format, type, arguments, weights}."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mixcoder.errors import RunDirectoryError
from mixcoder.io.json_file import read_json_object
from mixcoder.registry.problems import first_problem
from mixcoder.text.sanitize import sanitize

DESCRIPTION = "model.json"
MODEL_FORMAT = 1
WeightsType = Literal["float32", "float16"]


class ModelDescription(BaseModel):
    """A model without its weights.

    Attributes:
        format: of the file.
        type: name of the model.
        arguments: what `create_model` takes beside the name.
        weights: the type in which the file of weights holds them.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    format: int
    type: str
    arguments: dict[str, Any]
    weights: WeightsType = "float32"

    def call_arguments(self) -> dict[str, Any]:
        """Returns the arguments as Python has them: JSON has no tuples, which image shapes are."""
        shape = self.arguments.get("image_shape")
        return {**self.arguments, **({"image_shape": tuple(shape)} if isinstance(shape, list) else {})}


def read_description(path: Path) -> ModelDescription:
    """Returns the description in a file that a stranger may have written.

    Raises:
        RunDirectoryError: the file is missing, damaged or of a later version.
    """
    content = read_json_object(path)
    if content.get("format", MODEL_FORMAT) != MODEL_FORMAT:
        raise RunDirectoryError(f"{path}: format {sanitize(str(content['format']))} is not known here")
    try:
        return ModelDescription.model_validate(content)
    except ValidationError as error:
        reason = first_problem(error, ModelDescription)
        raise RunDirectoryError(f"{path}: does not describe a model: {reason}") from error
