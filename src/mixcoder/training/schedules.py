"""The learning rate over a run: schedules by name.

step ─ below warmup_steps? ─┬ yes ─▶ rises linearly to the recipe's rate
└ no ──▶ the recipe's rate · schedule(step, total_steps, recipe)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Protocol

from mixcoder.errors import ArgumentError
from mixcoder.registry.registry import Registry


class RateSettings(Protocol):
    """The settings of a recipe that a schedule may follow."""

    @property
    def schedule(self) -> str:
        """The name of the schedule."""

    @property
    def learning_rate(self) -> float:
        """The learning rate at its highest."""

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises."""

    @property
    def decay_share(self) -> float | None:
        """The share of a run in which `wsd` falls."""

    @property
    def decay_at(self) -> list[float] | None:
        """The shares of a run after which `step` falls."""


Schedule = Callable[[int, int, RateSettings], float]
"""Called as `schedule(step, total_steps, recipe)` for each step behind the warm-up, steps counted from 0.

It returns the factor of the recipe's learning rate, which follows from these alone: so a run resumes."""

SCHEDULES: Registry[Schedule] = Registry("schedule", "schedule")
ScheduleName = Annotated[str, SCHEDULES]
register_schedule = SCHEDULES.register
DECAY_SHARE = 0.2
"""The share of a run in which the schedule `wsd` falls, where a recipe states none."""
DECAY_AT = (0.5, 0.75)
"""The shares of a run after which the schedule `step` falls, where a recipe states none."""
_STEP_FACTOR = 0.1


def learning_rate_at(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Returns the learning rate of step `step`, counted from 0 to `total_steps - 1`.

    Raises:
        ArgumentError: a schedule of a plugin's gives no factor.
    """
    warmup = recipe.warmup_steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    factor = SCHEDULES[recipe.schedule](step, total_steps, recipe)
    if not (isinstance(factor, int | float) and math.isfinite(factor) and factor >= 0):
        wrong = f"'{recipe.schedule}' gives {factor!r} at step {step}"
        raise ArgumentError("schedule", f"{wrong}; it must give a number from 0 on")
    return recipe.learning_rate * factor


@register_schedule("constant")
def constant(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Stays."""
    return 1.0


@register_schedule("cosine")
def cosine(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Falls to zero, just after the last step, on half a cosine (arXiv 1608.03983, one cycle)."""
    progress = (step - recipe.warmup_steps) / (total_steps - recipe.warmup_steps)
    return (1 + math.cos(math.pi * progress)) / 2


@register_schedule("linear")
def linear(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Falls to zero, just after the last step, on a line."""
    return min(1.0, (total_steps - step) / (total_steps - recipe.warmup_steps))


@register_schedule("wsd")
def warmup_stable_decay(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Stays, then falls to zero on a line over the last `decay_share` of the run (arXiv 2404.06395)."""
    share = DECAY_SHARE if recipe.decay_share is None else recipe.decay_share
    return min(1.0, (total_steps - step) / min(share * total_steps, total_steps - recipe.warmup_steps))


@register_schedule("step")
def steps_down(step: int, total_steps: int, recipe: RateSettings) -> float:
    """Falls to a tenth of itself after each of the shares `decay_at` of the run."""
    shares = DECAY_AT if recipe.decay_at is None else recipe.decay_at
    return _STEP_FACTOR ** sum(step >= share * total_steps for share in shares)
