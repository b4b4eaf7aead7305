"""An experiment file, validated: YAML → Experiment, its runs.

    name:      what it is called
    extends:   another experiment file, of which this one states only what differs
    data:      a data source by name, and its arguments
    model:     a model by name, and its arguments; the image shape comes from the data
    training:  a recipe
    matrix:    lists of values; every combination is a run
    search:    in place of a matrix, ranges and lists of values, some of whose combinations are tried

    file ─▶ extends ─▶ key=value overrides ─▶ matrix ─▶ for each combination: ${…}, then the checks ─▶ Run

The vocabulary is closed. Every mistake is found before anything trains, and all are reported together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mixcoder.data import SOURCES, DataSource
from mixcoder.data.source import build_source
from mixcoder.errors import ArgumentError, ExperimentError
from mixcoder.experiments.file.checks import CheckedModels, RunCheck
from mixcoder.experiments.file.data_paths import Choice
from mixcoder.experiments.file.extends import apply_override, read_extended
from mixcoder.experiments.file.matrix import (
    Values,
    expand,
    label,
    slug,
    substitute,
    unused_axes,
    unused_names,
)
from mixcoder.experiments.file.search_section import Search, read_search
from mixcoder.experiments.file.yaml_file import COMMAND_LINE, Document
from mixcoder.models import Autoencoder, create_model
from mixcoder.text.sanitize import sanitize
from mixcoder.text.values import format_value
from mixcoder.training.recipe import Recipe


@dataclass(frozen=True)
class Run:
    """A model to be trained once.

    Attributes:
        experiment: the name of the experiment, which is also that of its folder of runs.
        values: this run's values of the matrix.
        data: name and arguments of the data source, defaults filled in, paths as they are stated.
        model: name and arguments of the model, defaults filled in, without the image shape.
        recipe: how it is trained.
        root: the folder in which relative paths of the data source begin.
        image_counts: how many training images data sources have, once known; runs of one file share it.
        weights: SHA-256 (hex) of those that it begins with, where a Python program trains it.
    """

    experiment: str
    values: Values
    data: Choice
    model: Choice
    recipe: Recipe
    root: Path = Path()
    image_counts: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    weights: str = ""

    def create_source(self) -> DataSource:
        """Returns the data source, not loaded yet."""
        name, arguments = self.data
        return build_source(name, SOURCES[name].located(arguments, self.root))

    def create_model(self) -> Autoencoder:
        """Returns a new model for the images of the data source, initialised from torch's random state."""
        name, arguments = self.model
        return create_model(name, image_shape=self.create_source().image_shape, **arguments)

    @cached_property
    def total_steps(self) -> int:
        """Optimizer steps from start to end; of a run stated in epochs, its images are counted once."""
        if self.recipe.epochs is None:
            return self.recipe.total_steps(0)
        data = repr((self.data, self.root))
        if data not in self.image_counts:
            self.image_counts[data] = self.create_source().training_images
        return self.recipe.total_steps(self.image_counts[data])

    def resolved(self) -> dict[str, Any]:
        """Returns the run as an experiment file would state it, with every default written out."""
        data_name, data_arguments = self.data
        model_name, model_arguments = self.model
        root = self.root.absolute()
        has_paths = SOURCES[data_name].located(data_arguments, root) != data_arguments
        return {
            "name": self.experiment,
            **({"relative_to": str(root)} if has_paths else {}),
            **({"weights": self.weights} if self.weights else {}),
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
        for section, added in _ADDED_LATER.items():
            content[section] = {
                key: value for key, value in content[section].items() if added.get(key, ...) != value
            }
        content["training"] = _relevant_settings(content["training"])
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def directory_name(self) -> str:
        """The name of a new run directory: readable, and ending in the digest."""
        readable = slug(self.values) or f"{self.model[0]}-{self.data[0]}"
        return f"{readable}-{self.digest}"


_ADDED_LATER: dict[str, dict[str, Any]] = {
    "data": {"search_holdout": None, "classes": None, "validation_classes": None},
    "model": {"output_activation": "none", "residual_scale": None, "refine": None},
}
"""Keys of sections that older results were made without, and the values with which they change nothing."""
_SETTINGS_ADDED_LATER = {"vector_learning_rate", "clip_norm", "ema", "decay_share", "decay_at"}
"""Settings of training that older results were made without; null changes nothing."""


def _relevant_settings(training: dict[str, Any]) -> dict[str, Any]:
    """Returns a recipe without settings that change a result by no more than rounding, or not at all."""
    is_automatic = training["precision"] == "auto"
    left_out = {"log", "compile", "precision"} if is_automatic else {"log", "compile"}
    left_out |= {key for key in _SETTINGS_ADDED_LATER if training[key] is None}
    return {key: value for key, value in training.items() if key not in left_out}


@dataclass(frozen=True)
class Experiment:
    """An experiment: one run, or one for each combination of its matrix, or a search.

    Attributes:
        name: what it is called.
        runs: that the file states; none of a search, whose runs follow from results.
        search: that the file states, if any.
    """

    name: str
    runs: tuple[Run, ...]
    search: Search | None = None


def read_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Returns the experiment that a file states, with overrides such as `training.inputs=50_000`.

    Raises:
        ExperimentError: every problem of file and overrides, each with its place.
    """
    document = read_extended(path)
    for override in overrides:
        apply_override(document, override)
    if "search" in document.data:
        return _read_search_experiment(document)
    runs, problems = _check_runs(document, expand(document), {})
    problems = [*unused_axes(document), *problems, *_same_runs(runs, document)]
    if problems:
        raise ExperimentError(dict.fromkeys(problems))
    return Experiment(document.data["name"], tuple(runs))


def stated_run(name: str, data: Choice, model: Choice, training: Mapping[str, Any], weights: str) -> Run:
    """Returns the run of a Python program, as a file with the same keys would state it.

    Args:
        name: of the experiment.
        data: a source and its arguments; relative paths begin in the current folder.
        model: a kind of model and its arguments, without the shape of the images.
        training: settings of the recipe.
        weights: SHA-256 (hex) of the weights that it begins with.

    Raises:
        ArgumentError: the name is none, or an argument cannot be written into a file.
    """
    sections = {
        "data": {"source": data[0], **data[1]},
        "model": {"type": model[0], **model[1]},
        "training": dict(training),
    }
    document = Document(COMMAND_LINE, {"name": name, "weights": weights, **sections})
    runs, problems = _check_runs(document, [{}], {})
    if problems:
        raise ArgumentError("", problems[0].removeprefix(f"{COMMAND_LINE}: "))
    return runs[0]


def _read_search_experiment(document: Document) -> Experiment:
    """Returns the experiment of a file with a search, some of whose combinations are checked.

    Raises:
        ExperimentError: every problem.
    """
    search = read_search(document)
    bodies = Document(document.source, {**document.data}, document.places)
    del bodies.data["search"]
    runs, problems = _check_runs(bodies, search.probes(), search.checked)
    unused = unused_names(document, ("search", "values"), search.spaces)
    problems = [*unused, *problems] or _same_values(runs, document)
    if problems:
        raise ExperimentError(problems)
    return Experiment(document.data["name"], (), search)


def _check_runs(
    document: Document, combinations: Sequence[Values], checked: CheckedModels
) -> tuple[list[Run], list[str]]:
    """Returns the runs of combinations, and every problem of them, once for all that share it."""
    problems: dict[str, list[Values]] = {}
    runs: list[Run] = []
    image_counts: dict[str, int] = {}
    for values in combinations:
        check = RunCheck(substitute(document, values), document, checked)
        parts = check.parts()
        if parts:
            weights = document.data.get("weights") or ""
            runs.append(Run(document.data["name"], values, *parts, image_counts, weights))
        for problem in check.problems:
            problems.setdefault(problem, []).append(values)
    return runs, [
        problem if len(where) == len(combinations) else f"{problem} (with {sanitize(label(where[0]), 200)})"
        for problem, where in problems.items()
    ]


def _same_values(runs: Sequence[Run], document: Document) -> list[str]:
    """Returns a problem for each value of a search that trains what another one trains."""
    first: dict[str, Run] = {}
    problems = []
    for run in runs:
        earlier = first.setdefault(run.digest, run)
        for name, value in run.values.items():
            other = earlier.values[name]
            if repr(value) != repr(other):
                both = " and ".join(sanitize(format_value(each), 200) for each in (other, value))
                message = f"{both} train the same; leave out one of them"
                problems.append(document.problem(("search", "values", name), message))
    return problems


def _same_runs(runs: Sequence[Run], document: Document) -> list[str]:
    """Returns a problem for each run that trains what an earlier one trains."""
    first: dict[str, Run] = {}
    problems = []
    for run in runs:
        earlier = first.setdefault(run.digest, run)
        if earlier is not run:
            both = " and ".join(sanitize(label(each.values), 200) for each in (earlier, run))
            message = f"the runs with {both} are the same"
            problems.append(document.problem(("matrix",), message))
    return problems
