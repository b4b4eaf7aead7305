"""An experiment file, validated: YAML → Experiment, its runs.

    name:      what it is called
    extends:   another experiment file, of which this one states only what differs
    data:      a data source by name, and its arguments
    model:     a model by name, and its arguments; the image shape comes from the data
    training:  a recipe
    matrix:    lists of values; every combination is a run

    file ─▶ extends ─▶ key=value overrides ─▶ matrix ─▶ for each combination: ${…}, then the checks ─▶ Run

The vocabulary is closed. Everything that is wrong is found before anything trains, and told together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from mixcoder.data import SOURCES, DataSource
from mixcoder.errors import ArgumentError, ExperimentError, is_out_of_memory
from mixcoder.experiments.file.data_paths import Choice, with_root
from mixcoder.experiments.file.matrix import Values, expand, label, slug, substitute, unused_axes
from mixcoder.experiments.file.yaml_file import Document, parse_assignment, read_document
from mixcoder.images.shape import ImageShape
from mixcoder.models import MODELS, Autoencoder, create_model
from mixcoder.registry.problems import Path as KeyPath
from mixcoder.registry.problems import kind_of, problems_of
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import argument_problems, signature_schema
from mixcoder.text.sanitize import sanitize
from mixcoder.training.recipe import DURATIONS, Recipe


class TopLevel(BaseModel):
    """What an experiment file states, once `extends` and `matrix` are resolved."""

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
    """

    key: str
    selector: str
    registry: Registry[Any]
    given: tuple[str, ...] = ()


DATA = ChoiceSection("data", "source", SOURCES)
MODEL = ChoiceSection("model", "type", MODELS, given=("image_shape",))
CHOICES = (DATA, MODEL)


@dataclass(frozen=True)
class Run:
    """One model, trained once.

    Attributes:
        experiment: the name of the experiment, which is also that of its folder of runs.
        values: this run's values of the matrix.
        data: name and arguments of the data source, defaults filled in, paths as they are stated.
        model: name and arguments of the model, defaults filled in, without the image shape.
        recipe: how it is trained.
        root: the folder in which relative paths of the data source begin.
    """

    experiment: str
    values: Values
    data: Choice
    model: Choice
    recipe: Recipe
    root: Path = Path()

    def create_source(self) -> DataSource:
        """The data source, not loaded yet."""
        name, arguments = self.data
        return SOURCES[name](**SOURCES[name].located(arguments, self.root))

    def create_model(self) -> Autoencoder:
        """A new model for the images of the data source, initialised from torch's random state."""
        name, arguments = self.model
        return create_model(name, image_shape=self.create_source().image_shape, **arguments)

    @property
    def total_steps(self) -> int:
        """Optimizer steps from start to end, known before anything is loaded."""
        images = self.create_source().training_images if self.recipe.epochs is not None else 0
        return self.recipe.total_steps(images)

    def resolved(self) -> dict[str, Any]:
        """The run as an experiment file would state it, with every default written out."""
        data_name, data_arguments = self.data
        model_name, model_arguments = self.model
        root = self.root.absolute()
        has_paths = SOURCES[data_name].located(data_arguments, root) != data_arguments
        return {
            "name": self.experiment,
            **({"relative_to": str(root)} if has_paths else {}),
            "data": {"source": data_name, **data_arguments},
            "model": {"type": model_name, **model_arguments},
            "training": self.recipe.model_dump(),
        }

    def settings(self) -> dict[str, Any]:
        """Returns the resolved run as one map with dotted keys, such as `model.patch_size`."""
        settings: dict[str, Any] = {}
        for section, content in self.resolved().items():
            if isinstance(content, dict):
                settings |= {f"{section}.{key}": value for key, value in content.items()}
            else:
                settings[section] = content
        return settings

    @cached_property
    def digest(self) -> str:
        """Ten hex digits that are the same just for what trains the same, whatever it is called.

        Paths count as they are stated: a project that moves keeps its runs, and the hash of the images
        tells two projects apart.
        """
        content = {key: value for key, value in self.resolved().items() if key not in ("name", "relative_to")}
        content["model"] = {
            key: value for key, value in content["model"].items() if _ADDED_LATER.get(key, ...) != value
        }
        content["training"] = _what_matters(content["training"])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def directory_name(self) -> str:
        """The name of a new run directory: readable, and ending in the digest."""
        readable = slug(self.values) or f"{self.model[0]}-{self.data[0]}"
        return f"{readable}-{self.digest}"


_ADDED_LATER = {"output_activation": "none"}
"""Arguments of models that older results were made without, and the values with which they change nothing."""


def _what_matters(training: dict[str, Any]) -> dict[str, Any]:
    """A recipe without what changes a result by no more than rounding, or not at all."""
    is_automatic = training["precision"] == "auto"
    left_out = {"log", "compile", "precision"} if is_automatic else {"log", "compile"}
    return {key: value for key, value in training.items() if key not in left_out}


@dataclass(frozen=True)
class Experiment:
    """What an experiment file states: one run, or one for each combination of its matrix."""

    name: str
    runs: tuple[Run, ...]


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment that a file states, with `key=value` overrides such as `training.inputs=50_000`.

    Raises:
        ExperimentError: every problem of file and overrides, each with its place.
    """
    document = read_extended(path)
    for override in overrides:
        _apply_override(document, override)
    combinations = expand(document)
    problems: dict[str, list[Values]] = {problem: [] for problem in unused_axes(document)}
    runs: list[Run] = []
    checked: CheckedModels = {}
    for values in combinations:
        validator = _Validator(substitute(document, values), values, document, checked)
        if run := validator.run():
            runs.append(run)
        for problem in validator.problems:
            problems.setdefault(problem, []).append(values)
    problems |= {problem: [] for problem in _same_runs(runs, document)}
    if problems:
        raise ExperimentError(
            problem
            if len(where) in (0, len(combinations))
            else f"{problem} (with {sanitize(label(where[0]), 200)})"
            for problem, where in problems.items()
        )
    return Experiment(document.data["name"], tuple(runs))


def _same_runs(runs: Sequence[Run], document: Document) -> list[str]:
    """A problem for each run that trains what an earlier one trains."""
    first: dict[str, Run] = {}
    problems = []
    for run in runs:
        earlier = first.setdefault(run.digest, run)
        if earlier is not run:
            both = " and ".join(sanitize(label(it.values), 200) for it in (earlier, run))
            message = f"the runs with {both} are the same"
            problems.append(document.problem(("matrix",), message))
    return problems


def read_extended(path: Path, below: tuple[Path, ...] = ()) -> Document:
    """A document merged over the one that it extends, if any."""
    document = read_document(path)
    if "extends" not in document.data:
        return document
    base_name = document.data.pop("extends")
    if not isinstance(base_name, str):
        message = f"must be the name of a file, not {kind_of(base_name)}"
        raise ExperimentError([document.problem(("extends",), message)])
    base_path = path.parent / base_name
    if not _is_file(base_path):
        message = f"there is no file '{sanitize(str(base_path), 200)}'"
        raise ExperimentError([document.problem(("extends",), message)])
    if base_path.resolve() in (it.resolve() for it in (*below, path)):
        raise ExperimentError([document.problem(("extends",), f"'{base_name}' extends this file in turn")])
    base = read_extended(base_path, (*below, path))
    anew = {key for key, value in document.data.items() if _replaces(key, base.data.get(key), value)}
    kept = {place: at for place, at in base.places.items() if place[:1] not in {(key,) for key in anew}}
    return Document(document.source, _merged(base.data, document.data), kept | document.places)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a character that no name may have
        return False


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`: maps key by key, anything else replaced.

    A section that names another type or source starts anew, as does a matrix, and a duration replaces
    any other.
    """
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if not _replaces(key, before, value):
            merged[key] = _merged(base[key], value)
        else:
            if key in DURATIONS:
                merged = {k: v for k, v in merged.items() if k not in DURATIONS}
            merged[key] = value
    return merged


def _replaces(section: str, before: Any, after: Any) -> bool:
    """Whether what a file states of a section stands for all of it."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return True
    return section == "matrix" or any(
        key in before and key in after and before[key] != after[key] for key in ("type", "source")
    )


def _apply_override(document: Document, override: str) -> None:
    key, value = parse_assignment(override)
    place = f"command line, '{override}'"
    path = tuple(key.split("."))
    target = document.data
    for depth, part in enumerate(path[:-1], start=1):
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            holder = ".".join(path[:depth])
            raise ExperimentError([f"{place}: {holder} is not a map, it has no key '{path[depth]}'"])
    if path[:-1] == ("training",) and path[-1] in DURATIONS:
        for duration in DURATIONS:
            target.pop(duration, None)
    target[path[-1]] = value
    document.places = {known: at for known, at in document.places.items() if known[: len(path)] != path}
    for depth in range(1, len(path) + 1):
        document.places.setdefault(path[:depth], place)


class _Validator:
    """Finds every problem of one combination of a document."""

    def __init__(self, document: Document, values: Values, stated: Document, checked: CheckedModels) -> None:
        self.document = document
        self.values = values
        self.stated = stated
        self.checked = checked
        self.problems: list[str] = []

    def run(self) -> Run | None:
        """The run that the document states, or None where there are problems."""
        self.check(TopLevel, self.document.data, ())
        data = self.choice(DATA)
        model = self.choice(MODEL)
        recipe = self.recipe()
        if data and (image_shape := self.image_shape(data)) and model:
            self.check_model(model, image_shape)
        if self.problems or not (data and model and recipe):
            return None
        data, root = with_root(data, self.stated)
        return Run(self.document.data["name"], self.values, data, model, recipe, root)

    def check(self, schema: type[BaseModel], value: Any, path: KeyPath) -> None:
        """Notes what `schema` finds wrong with the value at `path`."""
        try:
            schema.model_validate(value)
        except ValidationError as error:
            for below, message in problems_of(error, schema):
                self.note((*path, *below), message)

    def choice(self, section: ChoiceSection) -> Choice | None:
        """Name and arguments of what a section chooses; None where they are wrong."""
        key, selector, given = section.key, section.selector, section.given
        values = self.document.data.get(key)
        if not isinstance(values, dict):
            return None
        if selector not in values:
            self.note((key,), f"is missing the key '{selector}'")
            return None
        name = values[selector]
        if not isinstance(name, str):
            self.note((key, selector), f"must be a text, not {kind_of(name)}")
            return None
        try:
            function = section.registry[name]
        except ArgumentError as error:
            self.note((key, selector), error.message)
            return None
        arguments = {key: value for key, value in values.items() if key != selector}
        problems = [
            (path, message)
            for path, message in argument_problems(function, arguments)
            if path[:1] not in {(argument,) for argument in given}
        ] + [((it,), "comes from the data; remove it here") for it in given if it in arguments]
        for path, message in problems:
            self.note((key, *path), message)
        if problems:
            return None
        defaults = {
            key: field.default
            for key, field in signature_schema(function).model_fields.items()
            if not field.is_required() and key not in given
        }
        return name, {key: _plain(value) for key, value in {**defaults, **arguments}.items()}

    def recipe(self) -> Recipe | None:
        values = self.document.data.get("training")
        if not isinstance(values, dict):
            return None
        try:
            return Recipe.model_validate(values)
        except ValidationError as error:
            for path, message in problems_of(error, Recipe):
                self.note(("training", *path), message)
            return None

    def image_shape(self, data: Choice) -> ImageShape | None:
        name, arguments = data
        try:
            return SOURCES[name](**arguments).image_shape
        except ArgumentError as error:
            self.note_argument("data", error)
            return None

    def check_model(self, model: Choice, image_shape: ImageShape) -> None:
        """Notes what is wrong with a model, which is built once for all combinations that share it."""
        key = repr((model, image_shape))
        if key not in self.checked:
            self.checked[key] = _model_problem(model, image_shape)
        if problem := self.checked[key]:
            argument, message = problem
            self.note(("model", argument) if argument else ("model",), message)

    def note_argument(self, section: str, error: ArgumentError) -> None:
        self.note((section, error.argument) if error.argument else (section,), error.message)

    def note(self, path: KeyPath, message: str) -> None:
        problem = self.document.problem(path, message)
        if problem not in self.problems:
            self.problems.append(problem)


CheckedModels = dict[str, tuple[str, str] | None]
"""By model and shape of images: an argument, perhaps empty, and what is wrong; None of a sound model."""


def _model_problem(model: Choice, image_shape: ImageShape) -> tuple[str, str] | None:
    """Builds the model without memory for its weights, so that numbers that clash are found.

    A plugin's own layers must take images too; what is ours does, once it is built.
    """
    name, arguments = model
    try:
        with torch.device("meta"):
            built = create_model(name, image_shape=image_shape, **arguments)
    except ArgumentError as error:
        return error.argument, error.message
    if all(map(_is_ours, built.modules())):
        return None
    images = torch.zeros(2, *image_shape, device="meta")
    try:
        shape = tuple(built(images).shape)
    except Exception as error:  # of a plugin's own layer; ours have been refused above
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        return "", f"cannot run on the images ({type(error).__name__}: {reason})"
    if shape != tuple(images.shape):
        return "", f"makes {shape} of images {tuple(images.shape)}"
    return None


def _is_ours(module: nn.Module) -> bool:
    return type(module).__module__.partition(".")[0] in ("mixcoder", "torch")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
