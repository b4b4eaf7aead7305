"""Images of some classes: `classes`, `validation_classes`.

    training set ───┬ of `classes` ─────────────▶ train
    validation set ─┴ of `validation_classes` ──▶ validation

A model that never saw a class shows by its loss on that class how well it tells it from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, Self, TypeVar, runtime_checkable

import torch
from torch import Tensor

from mixcoder.data.split import ImageData, Split
from mixcoder.errors import ArgumentError, describe_type

_MOST_NAMED = 20
"""Classes that a message names at most."""


@runtime_checkable
class SelectableSplit(Split, Protocol):
    """A split of images of which some can be chosen."""

    def chosen(self, is_chosen: Tensor) -> Self:
        """Returns the split of the images where `is_chosen` (N,) bool is true."""


SomeSplit = TypeVar("SomeSplit", bound=Split)


def keep_classes(
    data: ImageData, classes: Sequence[int] | None, validation_classes: Sequence[int] | None
) -> ImageData:
    """Returns data of the images with some labels.

    Args:
        data: whose images have labels.
        classes: labels to train on; None for all.
        validation_classes: labels that validate; None for `classes`.

    Raises:
        ArgumentError: there are no labels, or no image has one of these.
    """
    validating = classes if validation_classes is None else validation_classes
    key = "classes" if validation_classes is None else "validation_classes"
    return replace(
        data,
        train=_kept(data.train, classes, "classes", data.name),
        validation=_kept(data.validation, validating, key, data.name),
    )


def _kept(split: SomeSplit, classes: Sequence[int] | None, key: str, source: str) -> SomeSplit:
    """Returns the images of a split that have one of some labels."""
    if classes is None:
        return split
    if not isinstance(split, SelectableSplit):
        raise ArgumentError(key, f"source {source} cannot choose images: they are a {describe_type(split)}")
    if split.labels is None:
        raise ArgumentError(key, f"the images of source {source} have no labels")
    known = set(split.labels.tolist())
    for label in classes:
        if label not in known:
            raise ArgumentError(key, f"no image is of class {label}; there are {_named(known)}")
    wanted = torch.tensor(sorted(set(classes)), device=split.labels.device)
    return split.chosen(torch.isin(split.labels, wanted))


def _named(classes: set[int]) -> str:
    named = ", ".join(map(str, sorted(classes)[:_MOST_NAMED]))
    return named if len(classes) <= _MOST_NAMED else f"{named}, …"
