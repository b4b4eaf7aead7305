"""The section `search` of an experiment file: which values may be tried, and how long each trial trains.

search:
  trials: 40
  inputs: [64_000, 256_000]                       rungs: images that a trial trains on before it may go on
  values:
    rate: {low: 0.005, high: 0.05, log: true}     a range
    mixer: [cnn, mlp]                             a choice
  limits: {params: 50_000}

A trial is the file with a value in the place of each `${name}`, and the images of a rung for its duration.
The finalists are trained as the file says, on the real validation set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mixcoder.data.holdout import HOLDOUT
from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.checks import CheckedModels
from mixcoder.experiments.file.matrix import (
    AXIS,
    REFERENCE,
    RESERVED_AXES,
    Values,
    substitute,
    texts_in,
)
from mixcoder.experiments.file.spaces import Space, ValueRange, read_space
from mixcoder.experiments.file.yaml_file import Document
from mixcoder.registry.problems import Path as KeyPath
from mixcoder.registry.problems import Problem, describe_value, list_problems
from mixcoder.training.recipe import DURATIONS

RESERVED_VALUES = {"trial", "rung", "seed", *RESERVED_AXES}
"""What every row of a search has beside its values."""
MOST_TRIALS = 2_000
_MOST_INPUTS = 10**12
_MOST_SEED = 2**63 - 1


class SearchLimits(BaseModel):
    """The bounds of the models that are trained at all."""

    model_config = ConfigDict(strict=True, extra="forbid")

    params: int | None = Field(default=None, gt=0, description="the most parameters; `null` for any number")
    madds: int | None = Field(
        default=None, gt=0, description="the most multiply-adds of encoding and decoding an image"
    )
    encode_madds: int | None = Field(
        default=None, gt=0, description="the most multiply-adds of encoding an image"
    )
    decode_madds: int | None = Field(
        default=None, gt=0, description="the most multiply-adds of decoding its code"
    )
    train_madds: int | None = Field(
        default=None, gt=0, description="the most multiply-adds of training on an image once"
    )


class SearchSection(BaseModel):
    """The section `search`, but for what its values are."""

    model_config = ConfigDict(strict=True, extra="forbid")

    trials: int = Field(gt=0, le=MOST_TRIALS, description="how many combinations of values are trained")
    values: dict[str, Any] = Field(
        min_length=1, description="what is tried: a range or a choice for each name, written `${name}`"
    )
    inputs: list[int] = Field(
        min_length=1,
        max_length=20,
        description="rungs, rising: the images of each training of a trial, from the first, short one on",
    )
    keep: float = Field(
        default=0.34,
        gt=0,
        lt=1,
        description="the share of a rung's trials that go on to the next rung, rounded down: 0.34 of 3 is 1",
    )
    finalists: int = Field(
        default=3,
        gt=0,
        description="how many of the best trials are trained as `training` says and judged on the "
        "validation set",
    )
    seeds: list[int] = Field(
        default=[0, 1, 2], min_length=1, description="the values of `training.seed` of each finalist"
    )
    limits: SearchLimits = Field(
        default=SearchLimits(), description="bounds of a model; a larger one is not trained"
    )
    seed: int = Field(default=0, ge=0, le=_MOST_SEED, description="of the sampler's random choices")


@dataclass(frozen=True)
class Search:
    """A search that an experiment file states.

    Attributes:
        section: its settings.
        spaces: what each value may be.
        document: the file that states it.
        checked: models that have been built already.
        image_counts: how many training images data sources have, once known.
    """

    section: SearchSection
    spaces: dict[str, Space]
    document: Document = field(compare=False, repr=False)
    checked: CheckedModels = field(default_factory=dict, compare=False, repr=False)
    image_counts: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return str(self.document.data["name"])

    def probes(self) -> list[Values]:
        """Returns combinations that show a mistake in any value: all first ones, then one other at a time."""
        first = {name: space.probes[0] for name, space in self.spaces.items()}
        others = [{**first, name: value} for name, space in self.spaces.items() for value in space.probes[1:]]
        return [first, *others]

    def trial_document(self, values: Values, rung: int) -> Document:
        """Returns what a trial trains on a rung, from 0."""
        training = {"inputs": self.section.inputs[rung]}
        return self._filled(values, training, {})

    def finalist_document(self, values: Values, seed: int) -> Document:
        """Returns what a finalist trains with a seed."""
        return self._filled(values, {"seed": seed}, {HOLDOUT: None})

    def _filled(self, values: Values, training: dict[str, Any], data: dict[str, Any]) -> Document:
        """Returns the document with values in their places, and some settings of two sections replaced."""
        filled = substitute(self.document, values)
        content = dict(filled.data)
        for section, changes in (("training", training), ("data", data)):
            stated = content.get(section)
            if isinstance(stated, dict):
                replaced = DURATIONS if changes.keys() & set(DURATIONS) else ()
                kept = {key: value for key, value in stated.items() if key not in replaced}
                content[section] = {**kept, **changes}
        return Document(filled.source, content, filled.places)

    def fingerprint(self) -> str:
        """Returns a text that is the same for searches with the same trials, however many there are."""
        search = self.section.model_dump(include={"inputs", "seed", "limits"}, exclude_none=True)
        body = {key: value for key, value in self.document.data.items() if key not in ("name", "search")}
        values = self.document.data["search"]["values"]
        content = json.dumps([body, search, values], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def read_search(document: Document) -> Search:
    """Returns the search that a document states; what its combinations give is not checked yet.

    Raises:
        ExperimentError: every problem of the section, and of what goes with it.
    """
    stated = document.data["search"]
    problems = [document.problem(("search", *path), message) for path, message in _problems(stated)]
    if not problems:
        problems += [document.problem(path, message) for path, message in _surrounding_problems(document)]
    if problems:
        raise ExperimentError(problems)
    spaces = {name: read_space(value) for name, value in stated["values"].items()}
    return Search(SearchSection.model_validate(stated), spaces, document)


def _problems(stated: Any) -> Iterator[Problem]:
    """Yields what is wrong with the section itself."""
    if not isinstance(stated, dict):
        yield (), f"must be a map of keys and values, not {describe_value(stated)}"
        return
    try:
        section = SearchSection.model_validate(stated)
    except ValidationError as error:
        yield from list_problems(error, SearchSection)
        return
    yield from _number_problems(section)
    for name, value in section.values.items():
        if not AXIS.fullmatch(name):
            yield ("values", name), "must be a name of letters, digits and '_'"
        elif name in RESERVED_VALUES:
            yield ("values", name), "is a word that tables of a search use; take another name"
        else:
            for path, message in _space_problems(value):
                yield ("values", name, *path), message


def _number_problems(section: SearchSection) -> Iterator[Problem]:
    """Yields what is wrong with rungs and seeds."""
    for i, count in enumerate(section.inputs):
        if not 0 < count <= _MOST_INPUTS:
            yield ("inputs", i), f"must be from 1 to {_MOST_INPUTS:,}, not {count:,}"
        elif i and count <= section.inputs[i - 1]:
            yield ("inputs", i), f"must be above the rung before it, {section.inputs[i - 1]:,}, not {count:,}"
    for i, seed in enumerate(section.seeds):
        if not 0 <= seed <= _MOST_SEED:
            yield ("seeds", i), f"must be from 0 to {_MOST_SEED:,}, not {seed:,}"
        elif seed in section.seeds[:i]:
            yield ("seeds", i), f"states {seed} a second time"


def _space_problems(value: Any) -> Iterator[Problem]:
    """Yields what is wrong with a range or a choice."""
    if isinstance(value, list):
        seen = [repr(option) for option in value]
        if not value:
            yield (), "must be a list of at least one value, not an empty one"
        for i, option in enumerate(seen):
            if option in seen[:i]:
                yield (i,), f"states {describe_value(value[i])} a second time"
        return
    if not isinstance(value, dict):
        right = "a list, such as [cnn, mlp], or a range, such as {low: 0.001, high: 0.1, log: true}"
        yield (), f"must be {right}, not {describe_value(value)}"
        return
    try:
        stated = ValueRange.model_validate(value)
    except ValidationError as error:
        yield from list_problems(error, ValueRange)
        return
    yield from stated.problems(value)


def _surrounding_problems(document: Document) -> Iterator[Problem]:
    """Yields what does not go with a search in the rest of the file."""
    if "matrix" in document.data:
        yield ("matrix",), "does not go with search; move its lists to search.values, or make two files"
    data = document.data.get("data")
    if isinstance(data, dict) and data.get(HOLDOUT) is None:
        yield (
            ("search",),
            f"needs data.{HOLDOUT}, such as {HOLDOUT}: 5_000: the choice is made on images of the training "
            "set, so that the validation set judges the finalists alone",
        )
    yield from _rungs_beyond_finalists(document)
    for path in _compared(document):
        yield path, "must be the same for all trials, whose losses are compared; write a value, no ${…}"


def _rungs_beyond_finalists(document: Document) -> Iterator[Problem]:
    """Yields the rungs of more images than the finalists train on, where the file states those."""
    training = document.data.get("training")
    most = training.get("inputs") if isinstance(training, dict) else None
    if type(most) is not int:
        return
    for i, count in enumerate(document.data["search"]["inputs"]):
        if count > most:
            yield (
                ("search", "inputs", i),
                f"must be at most training.inputs, {most:,}, which the finalists train on, not {count:,}",
            )


def _compared(document: Document) -> Iterator[KeyPath]:
    """Yields the keys that refer to a value and may not."""
    for section in ("name", "relative_to", "data", "training"):
        stated = document.data.get(section)
        if not isinstance(stated, dict):
            if _has_reference(stated):
                yield (section,)
            continue
        for key, value in stated.items():
            is_compared = section != "training" or key in ("loss", "seed", *DURATIONS)
            if is_compared and _has_reference(value):
                yield section, key


def _has_reference(stated: Any) -> bool:
    return any(REFERENCE.search(text) for text in texts_in(stated))
