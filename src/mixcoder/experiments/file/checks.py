"""What an experiment file may state, and every problem of what one does state.

Document of one combination ─┬─ TopLevel ──────────────────▶ unknown and missing keys
                             ├─ data, model ─ registries ──▶ names, arguments, defaults
                             ├─ training ─ Recipe ─────────▶ values
                             └─ model on the meta device ──▶ numbers that clash
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from mixcoder.data import SOURCES
from mixcoder.data.source import build_source
from mixcoder.data.source_keys import SourceKeys
from mixcoder.errors import ArgumentError, DataError, is_out_of_memory
from mixcoder.experiments.file.data_paths import Choice, with_root
from mixcoder.experiments.file.yaml_file import Document
from mixcoder.models import MODELS, create_model
from mixcoder.models.code_refinement import ModelKeys
from mixcoder.models.dispatch import CheapShapes, without_elements
from mixcoder.models.short_form import short_form
from mixcoder.pixels.shape import ImageShape
from mixcoder.registry.problems import OTHER_NAMES, Problem, describe_value, list_problems
from mixcoder.registry.problems import Path as KeyPath
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import argument_problems, signature_schema
from mixcoder.text.sanitize import sanitize
from mixcoder.training.recipe import Recipe

CheckedModels = dict[str, tuple[str, str] | None]
"""By model and shape of images: an argument, perhaps empty, and what is wrong; None of a sound model."""


class TopLevel(BaseModel):
    """An experiment file, once `extends` and `matrix` are resolved."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="what the experiment is called; its runs are in the folder of that name",
    )
    data: dict[str, Any] = Field(description="where the images come from, and with them their shape")
    relative_to: str | None = Field(
        default=None,
        description="the folder in which relative paths of `data` begin; by default that of the file",
    )
    weights: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="of a run that a Python program trained: the SHA-256 of the weights that it began with; "
        "such a run goes on in Python alone",
    )
    model: dict[str, Any] = Field(description="the network")
    training: dict[str, Any] = Field(
        description="how the model is trained; exactly one of `inputs`, `steps` and `epochs` says how long"
    )


@dataclass(frozen=True)
class ChoiceSection:
    """A section that chooses something registered by name and states its arguments beside the name.

    Attributes:
        key: the section's key.
        selector: the key in it that holds the name.
        registry: what there is to choose from.
        given: arguments that come from elsewhere.
        common: keys that go with every choice.
    """

    key: str
    selector: str
    registry: Registry[Any]
    given: tuple[str, ...] = ()
    common: type[BaseModel] | None = None

    def arguments(self, name: str) -> type[BaseModel]:
        """Returns the arguments of the choice called `name`, and the keys that go with every choice."""
        return signature_schema(self.registry[name], self.common)


DATA = ChoiceSection("data", "source", SOURCES, common=SourceKeys)
MODEL = ChoiceSection("model", "type", MODELS, given=("image_shape",), common=ModelKeys)
CHOICES = (DATA, MODEL)


class RunParts(NamedTuple):
    """A run that a sound document states: the fields of `Run` of the same names."""

    data: Choice
    model: Choice
    recipe: Recipe
    root: Path


class RunCheck:
    """A check that finds every problem of one combination of a document.

    Args:
        document: with the values of the combination in their places.
        stated: the document before that, which knows where each relative path is stated.
        checked: models that have been built already, shared by all combinations.
    """

    def __init__(self, document: Document, stated: Document, checked: CheckedModels) -> None:
        self.document = document
        self.stated = stated
        self.checked = checked
        self.problems: list[str] = []

    def parts(self) -> RunParts | None:
        """Returns the parts of the run that the document states, or None where there are problems."""
        self._check_top_level()
        data, model, recipe = self._choice(DATA), self._choice(MODEL), self._recipe()
        image_shape = self._image_shape(data) if data else None
        if data and image_shape:
            data = _with_image_shape(data, image_shape)
        if model and image_shape:
            self._check_model(model, image_shape)
        if self.problems or not (data and model and recipe):
            return None
        data, root = with_root(data, self.stated)
        return RunParts(data, model, recipe, root)

    def _check_top_level(self) -> None:
        try:
            TopLevel.model_validate(self.document.data)
        except ValidationError as error:
            for path, message in list_problems(error, TopLevel):
                meant = self._meant_key(str(path[0])) if len(path) == 1 else ""
                unknown = f"unknown key '{sanitize(str(path[0]))}'; did you mean '{meant}'?" if meant else ""
                self._note(path, unknown or message)

    def _meant_key(self, key: str) -> str:
        """Returns the key of a section that is meant by a key beside the sections; empty where none is."""
        if key in TopLevel.model_fields:
            return ""
        name = OTHER_NAMES.get(key, key)
        if name in Recipe.model_fields:
            return f"training.{name}"
        for section in CHOICES:
            stated = self.document.data.get(section.key)
            chosen = str(stated.get(section.selector)) if isinstance(stated, dict) else ""
            if chosen in section.registry and name in section.arguments(chosen).model_fields:
                return f"{section.key}.{name}"
        return next((f"{each.key}.{name}" for each in CHOICES if name == each.selector), "")

    def _choice(self, section: ChoiceSection) -> Choice | None:
        """Returns name and arguments, defaults filled in, of what a section chooses; None of a wrong one."""
        stated: Any = self.document.data.get(section.key)
        name = self._chosen_name(section, stated) if isinstance(stated, dict) else None
        if name is None:
            return None
        arguments = {key: value for key, value in stated.items() if key != section.selector}
        problems = list(_problems_of_arguments(section, name, arguments))
        self._note_kept_keys(section, name, problems)
        self._note_all((section.key,), problems)
        if problems:
            return None
        whole = _with_defaults(section, name, arguments)
        return name, short_form(MODELS[name], whole) if section is MODEL else whole

    def _note_kept_keys(self, section: ChoiceSection, name: str, problems: list[Problem]) -> None:
        """Notes how to replace the keys of a choice, where the command line has changed its name alone."""
        is_changed = self.document.file((section.key, section.selector)) is None
        if is_changed and any(self.document.file((section.key, *path)) for path, _ in problems):
            whole = f"'{section.key}={{{section.selector}: {name}, …}}'"
            message = f"keeps the other keys of the file; {whole} replaces them all"
            self._note((section.key, section.selector), message)

    def _chosen_name(self, section: ChoiceSection, stated: dict[str, Any]) -> str | None:
        """Returns the name that a section chooses; None where there is none or it is unknown."""
        if section.selector not in stated:
            self._note((section.key,), f"is missing the key '{section.selector}'")
            return None
        name = stated[section.selector]
        if not isinstance(name, str):
            self._note((section.key, section.selector), f"must be a text, not {describe_value(name)}")
            return None
        try:
            section.registry[name]
        except ArgumentError as error:
            self._note((section.key, section.selector), error.message)
            return None
        return name

    def _recipe(self) -> Recipe | None:
        stated = self.document.data.get("training")
        if not isinstance(stated, dict):
            return None
        try:
            return Recipe.model_validate(stated)
        except ValidationError as error:
            self._note_all(("training",), list_problems(error, Recipe))
            return None

    def _image_shape(self, data: Choice) -> ImageShape | None:
        (name, arguments), root = with_root(data, self.stated)
        try:
            return build_source(name, SOURCES[name].located(arguments, root)).image_shape
        except ArgumentError as error:
            self._note(("data", error.argument) if error.argument else ("data",), error.message)
        except DataError as error:
            self._note(("data",), str(error))
        return None

    def _check_model(self, model: Choice, image_shape: ImageShape) -> None:
        """Notes what is wrong with a model, which is built once for all combinations that share it."""
        key = repr((model, image_shape))
        if key not in self.checked:
            self.checked[key] = _model_problem(model, image_shape)
        problem = self.checked[key]
        if problem:
            argument, message = problem
            self._note(("model", *_key_path(argument)), message)

    def _note_all(self, path: KeyPath, problems: list[Problem]) -> None:
        for below, message in problems:
            self._note((*path, *below), message)

    def _note(self, path: KeyPath, message: str) -> None:
        problem = self.document.problem(path, message)
        if problem not in self.problems:
            self.problems.append(problem)


def _problems_of_arguments(section: ChoiceSection, name: str, arguments: dict[str, Any]) -> Iterator[Problem]:
    """Yields what is wrong with the arguments, among them those that come from elsewhere."""
    for path, message in argument_problems(section.registry[name], arguments, section.common):
        if not path or path[0] not in section.given:
            yield path, message
    for argument in section.given:
        if argument in arguments:
            yield (argument,), "comes from the data; remove it here"


def _with_image_shape(data: Choice, image_shape: ImageShape) -> Choice:
    """Returns a data source that states the shape of its images, where that argument was left out.

    The run directory then says it, and is understood where the images are no longer.
    """
    name, arguments = data
    is_left_out = arguments.get("image_shape", image_shape) is None
    return (name, {**arguments, "image_shape": list(image_shape)}) if is_left_out else data


def _with_defaults(section: ChoiceSection, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        key: field.default
        for key, field in section.arguments(name).model_fields.items()
        if not field.is_required() and key not in section.given
    }
    return {key: _plain(value) for key, value in {**defaults, **arguments}.items()}


def _model_problem(model: Choice, image_shape: ImageShape) -> tuple[str, str] | None:
    """Returns what is wrong with a model, built without memory for its weights; None of a sound one.

    A plugin's own layers must take images too; what is ours does, once it is built.
    """
    name, arguments = model
    try:
        with without_elements():
            built = create_model(name, image_shape=image_shape, **arguments)
    except ArgumentError as error:
        return error.argument, error.message
    if all(map(_is_ours, built.modules())):
        return None
    images = torch.zeros(2, *image_shape, device="meta")
    try:
        with CheapShapes():
            shape = tuple(built(images).shape)
    except Exception as error:  # of a plugin's own layer; ours has been tried above
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        return "", f"cannot run on the images ({type(error).__name__}: {reason})"
    if shape != tuple(images.shape):
        return "", f"makes {shape} of images {tuple(images.shape)}"
    return None


def _is_ours(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in ("mixcoder", "torch")


def _key_path(argument: str) -> KeyPath:
    """Returns `encoder.2.mixer` as the path to a key, an empty one for no argument."""
    parts = argument.split(".") if argument else []
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
