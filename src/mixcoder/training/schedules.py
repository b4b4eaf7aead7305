"""The learning rate over a run."""

from __future__ import annotations

import math

from mixcoder.training.recipe import DECAY_SHARE, Recipe


def learning_rate_at(step: int, total_steps: int, recipe: Recipe) -> float:
    """Returns the learning rate of step `step`, counted from 0 to `total_steps - 1`.

    The rate rises linearly over `warmup_steps` to `recipe.learning_rate`. Then it stays (`constant`), or
    falls to zero, which it reaches just after the last step: on half a cosine (`cosine`, arXiv 1608.03983,
    one cycle), on a line (`linear`), or on a line over the last `decay_share` of the run (`wsd`: warm-up,
    stable, decay; arXiv 2404.06395).
    """
    warmup = recipe.warmup_steps
    if step < warmup:
        return recipe.learning_rate * (step + 1) / warmup
    after_warmup = total_steps - warmup
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "cosine":
            progress = (step - warmup) / after_warmup
            return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        case "linear":
            decay_steps: float = after_warmup
        case "wsd":
            share = DECAY_SHARE if recipe.decay_share is None else recipe.decay_share
            decay_steps = min(share * total_steps, after_warmup)
    return recipe.learning_rate * min(1.0, (total_steps - step) / decay_steps)
