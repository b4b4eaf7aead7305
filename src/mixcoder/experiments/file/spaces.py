"""What a value of a search may be: a number of a range, or one of a list.

{low: 0.005, high: 0.05, log: true} ─▶ NumberSpace
[cnn, mlp] ─────────────────────────▶ ChoiceSpace
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mixcoder.registry.problems import Problem, format_number

_DIGITS, _DIGITS_OF_STEPS = 4, 12
"""Significant digits of a number that is tried, which tables can show; and of one that is a multiple of a
step, without the rounding of its sum."""


class ValueRange(BaseModel):
    """A range as an experiment file states it."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    low: float = Field(description="the smallest; where `low`, `high` and `step` are whole, all are")
    high: float = Field(description="the largest")
    log: bool = Field(
        default=False, description="`true` where the ratio of numbers counts, such as of learning rates"
    )
    step: float | None = Field(
        default=None, gt=0, description="between two neighbours; `null` for any number"
    )

    def problems(self, stated: dict[str, Any]) -> Iterator[Problem]:
        """Yields what is wrong with the numbers of the range that `stated` holds."""
        low, high, step = self.low, self.high, self.step
        if low >= high:
            yield ("high",), f"must be above low, {format_number(stated['low'])}"
        elif self.log and low <= 0:
            yield ("low",), f"must be above 0 with log: true, not {format_number(stated['low'])}"
        if self.log and step is not None:
            yield ("step",), "does not go with log: true; leave out one of them"
        elif step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-6:
            distance = f"{format_number(stated['high'])} - {format_number(stated['low'])}"
            yield ("step",), f"must divide high - low, which is {distance}, without a rest"


@dataclass(frozen=True)
class NumberSpace:
    """A range of numbers, both ends included.

    Attributes:
        low: the smallest.
        high: the largest.
        is_log: whether their ratio counts, in place of their difference.
        step: between two neighbours; None for any number.
        is_whole: whether all are whole.
    """

    low: float
    high: float
    is_log: bool
    step: float | None
    is_whole: bool

    @property
    def probes(self) -> list[Any]:
        """Values that show a mistake."""
        return [self.nearest(self.low), self.nearest(self.high)]

    def nearest(self, number: float) -> int | float:
        """Returns the number of the range that is nearest, rounded to what a table shows."""
        if self.step is not None:
            number = self.low + round((number - self.low) / self.step) * self.step
        if self.is_whole:
            return int(min(max(round(number), self.low), self.high))
        digits = _DIGITS if self.step is None else _DIGITS_OF_STEPS
        return float(min(max(float(f"{number:.{digits}g}"), self.low), self.high))

    def holds(self, value: Any) -> bool:
        """Returns whether a value is in the range."""
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def draw(self, generator: np.random.Generator) -> int | float:
        """Returns a random number of the range."""
        share = generator.random()
        if self.is_log:
            return self.nearest(math.exp((1 - share) * math.log(self.low) + share * math.log(self.high)))
        return self.nearest((1 - share) * self.low + share * self.high)


@dataclass(frozen=True)
class ChoiceSpace:
    """A list of values, of which one is taken.

    Attributes:
        options: the values, at least one.
    """

    options: tuple[Any, ...]

    @property
    def probes(self) -> list[Any]:
        """Values that show a mistake: all."""
        return list(self.options)

    def index(self, value: Any) -> int:
        """Returns the place of a value in the list."""
        return [repr(option) for option in self.options].index(repr(value))

    def holds(self, value: Any) -> bool:
        """Returns whether a value is in the list."""
        return repr(value) in map(repr, self.options)

    def draw(self, generator: np.random.Generator) -> Any:
        """Returns a random value of the list."""
        return self.options[int(generator.integers(len(self.options)))]


Space = NumberSpace | ChoiceSpace


def read_space(stated: list[Any] | dict[str, Any]) -> Space:
    """Returns what a value may be, of a list or a map that has no problem."""
    if isinstance(stated, list):
        return ChoiceSpace(tuple(stated))
    span = ValueRange.model_validate(stated)
    is_whole = all(isinstance(stated.get(key), int | None) for key in ("low", "high", "step"))
    return NumberSpace(span.low, span.high, span.log, span.step, is_whole)
