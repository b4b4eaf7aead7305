"""The learning rate over a run."""

from __future__ import annotations

import math

from mixcoder.training.recipe import Recipe


def learning_rate_at(step: int, total_steps: int, recipe: Recipe) -> float:
    """Returns the learning rate of step `step`, counted from 0 to `total_steps - 1`.

    The rate rises linearly over `warmup_steps` to `recipe.learning_rate`, then stays (`constant`) or falls on
    half a cosine that reaches zero just after the last step (arXiv 1608.03983, one cycle).
    """
    warmup = recipe.warmup_steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = (step - warmup) / (total_steps - warmup)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
