"""The order in which runs start on many machines: the longest first, so that none trains alone at the end.

    multiply-adds of an image in training x inputs ─▶ runs, the most work first

Scheduling theory calls this LPT. `python -m benchmarks.scale` shows what it brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.models.cost import count_costs
from mixcoder.models.dispatch import without_elements

_EPOCH_IMAGES = 60_000
"""Images that an epoch counts as: those of a data source may not be on this machine."""


def longest_first(states: Sequence[RunState]) -> list[RunState]:
    """Returns runs in the order of their work, the most first; equal ones keep their order."""
    madds: dict[str, int] = {}
    works = [_count_work(state.run, madds) for state in states]
    pairs = sorted(zip(works, states, strict=True), key=itemgetter(0), reverse=True)
    return [state for _, state in pairs]


def _count_work(run: Run, madds: dict[str, int]) -> int:
    """Returns the multiply-adds of all images that a run trains on; those of each model are counted once."""
    key = repr((run.data, run.model))
    if key not in madds:
        with without_elements():
            madds[key] = count_costs(run.create_model()).train_madds
    return madds[key] * run.recipe.total_steps(_EPOCH_IMAGES) * run.recipe.batch_size
