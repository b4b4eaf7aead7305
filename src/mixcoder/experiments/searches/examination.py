"""Whether a trial's model can be trained, and is within the limits of its search.

values ─▶ settings ─▶ model without elements ─▶ parameters, multiply-adds ─▶ beyond search.limits?
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixcoder.experiments.file.checks import RunCheck
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.searches.trials import Trial
from mixcoder.measures import measure
from mixcoder.models.cost import cost_measures, count_costs
from mixcoder.models.dispatch import without_elements
from mixcoder.models.summary import count_parameters


def examine(search: Search, values: Values) -> Trial:
    """Returns a trial of values, with how far its model is beyond the limits, and why."""
    check = RunCheck(search.trial_document(values, 0), search.document, search.checked)
    parts = check.parts()
    if parts is None:
        return Trial(values, excess=1.0, reason=check.problems[0])
    limits = search.section.limits.model_dump(exclude_none=True)
    with without_elements():
        model = Run(search.name, values, *parts).create_model()
        figures = {"params": count_parameters(model)}
        if limits.keys() - figures.keys():
            figures |= cost_measures(count_costs(model))
    beyond = {key: figures[key] for key, most in limits.items() if figures[key] > most}
    excess = math.fsum(math.log(figure / limits[key]) for key, figure in beyond.items())
    reasons = (f"{figure:,} {measure(key).heading}, above {limits[key]:,}" for key, figure in beyond.items())
    return Trial(values, excess=excess, reason=" and ".join(reasons))


def nearest_reason(trials: Sequence[Trial]) -> str:
    """Returns why the trial that is least beyond the limits is never trained."""
    return min(trials, key=lambda trial: trial.excess).reason
